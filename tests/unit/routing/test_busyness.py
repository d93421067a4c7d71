"""What endpoints are expected to spend on prompts."""

import pytest

from routing.busyness import Busy, Busyness
from routing.fleet import Endpoint, EndpointState, Fleet


def states(count: int) -> list[EndpointState]:
    fleet = Fleet()
    return [
        fleet.upsert(Endpoint(f"e{number}", f"http://e{number}"), 0.0) for number in range(count)
    ]


def decode(state: EndpointState, sequences: int) -> None:
    for number in range(sequences):
        state.ledger.reserve(number, 0, 9, 0.0)
        state.ledger.prefilled(number, 0.0)


def test_a_window_forgets() -> None:
    busy = Busy(0.0)
    busy.add(5.0, 0.0, 10.0)
    assert busy.share(0.0, 10.0) == 0.5
    assert busy.share(10.0, 10.0) == pytest.approx(0.5 / 2.718, rel=0.001)
    busy.add(5.0, 10.0, 10.0)
    assert busy.share(10.0, 10.0) == pytest.approx(0.5 + 0.5 / 2.718, rel=0.001)


def test_nothing_is_expected_where_nothing_was_computed() -> None:
    fleet = states(2)
    assert Busyness(10.0).expect(fleet, 5.0).share(fleet[0], 0.0) == 0.0


def test_an_idle_endpoint_is_expected_to_get_prompts_as_soon_as_it_is_there() -> None:
    busyness, (one, other) = Busyness(10.0), states(2)
    for second in range(100):
        busyness.booked(one, 0.6, float(second))
    expected = busyness.expect((one, other), 100.0)
    assert 0.0 < expected.share(other, 0.0) < expected.share(one, 0.0) < 0.6


def test_who_decodes_much_is_expected_to_be_left_alone() -> None:
    busyness, (one, other, third) = Busyness(10.0), states(3)
    for second in range(100):
        busyness.booked(one, 0.6, float(second))
    decode(third, 40)
    expected = busyness.expect((one, other, third), 100.0)
    assert expected.share(third, 40.0) < 0.02 < expected.share(other, 0.0)


def test_a_window_that_is_not_full_yet_shows_no_less() -> None:
    early, late = Busyness(10.0), Busyness(10.0)
    [state] = states(1)
    for second in range(101):
        late.booked(state, 0.4, float(second))
        if second < 4:
            early.booked(state, 0.4, float(second))
    soon = early.expect((state,), 3.0).share(state, 0.0)
    assert soon == pytest.approx(late.expect((state,), 100.0).share(state, 0.0), rel=0.2)


def test_shares_are_bounded_and_who_left_is_forgotten() -> None:
    busyness, (one, other) = Busyness(10.0), states(2)
    busyness.booked(one, 1_000.0, 0.0)
    assert busyness.expect((one, other), 0.0).share(one, 0.0) == 0.8
    busyness.forget(one)
    assert busyness.expect((one, other), 0.0).share(one, 0.0) == 0.0
