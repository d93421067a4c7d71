from collections import Counter

import numpy as np
import pytest

from routing.endpoint import Endpoint, EndpointState, Load
from routing.fleet import Fleet
from routing.loads import WEIGHED, Group, LoadTable, below, lowest


def states_of(table: LoadTable, size: int) -> list[EndpointState]:
    states = [EndpointState(Endpoint(f"e{number}", "http://e")) for number in range(size)]
    for state in states:
        table.add(state)
    return states


def wait(table: LoadTable, state: EndpointState, now: float) -> float:
    table.refresh(now)
    return table.wait_seconds(now).item(state.row)


def truth(state: EndpointState, now: float) -> float:
    timing = state.timing
    queued = state.ledger.queued_prefill_tokens(now, timing.prefill_rate)
    return timing.prefill_seconds(queued)


def test_a_queue_drains_with_time_alone_as_far_as_its_oldest_entry() -> None:
    table = LoadTable()
    state = states_of(table, 1)[0]
    state.ledger.reserve("a", 8_000, 0, 10.0)
    state.ledger.reserve("b", 4_000, 0, 10.0)
    for now in (10.0, 10.4, 11.0, 50.0):
        assert wait(table, state, now) == pytest.approx(truth(state, now))
    state.ledger.prefilled("a", 50.0)
    for now in (50.0, 50.2, 60.0):
        assert wait(table, state, now) == pytest.approx(truth(state, now))
    state.ledger.release("b", 60.0)
    assert wait(table, state, 60.0) == pytest.approx(0.020)


def test_every_change_shows_without_being_told() -> None:
    table = LoadTable()
    state, other = states_of(table, 2)
    table.refresh(0.0)
    state.ledger.reserve("a", 100, 10, 0.0)
    state.ledger.prefilled("a", 0.0)
    table.refresh(0.0)
    state.timing.observe_prefill(4_000, 2.0)
    table.refresh(0.0)
    assert table.slope.item(state.row) == state.timing.prefill.slope
    state.timing.observe_decode(0.2, 8)
    table.refresh(0.0)
    assert table.requests[[state.row, other.row]].tolist() == [1, 0]
    assert table.decoding_slope.item(state.row) == state.timing.prefill.slope
    decode = state.timing.decode
    assert table.step_seconds.item(state.row) == decode.fixed + 3 * decode.slope
    assert table.step_context.item(state.row) == 2 * decode.tilt
    assert table.slope.item(other.row) == other.timing.prefill.slope != state.timing.prefill.slope


def test_an_unseen_prefill_becomes_a_decode_when_its_time_is_over() -> None:
    table = LoadTable()
    first, second = states_of(table, 2)
    first.ledger.reserve("a", 100, 10, 0.0, prefilled_at=1.0)
    second.ledger.reserve("b", 100, 10, 0.0, prefilled_at=2.0)
    for now, decoding in ((0.9, [0, 0]), (1.0, [1, 0]), (1.5, [1, 0]), (2.0, [1, 1])):
        table.refresh(now)
        assert table.decoding_slope[[first.row, second.row]].tolist() == [
            count * state.timing.prefill.slope
            for count, state in zip(decoding, (first, second), strict=True)
        ]


def test_requests_of_others_count_as_long_as_a_scrape_says_so() -> None:
    fleet = Fleet()
    state = fleet.upsert(Endpoint("a", "http://a"), 0.0)
    table = fleet.table
    table.refresh(0.0)
    assert (table.any_foreign, table.scraped_at.item(state.row)) == (False, float("-inf"))
    fleet.observe_load("a", Load(3.0, running=2, waiting=1))
    table.refresh(3.0)
    assert (table.any_foreign, table.requests.item(state.row)) == (True, 3)
    assert table.foreign_waiting.item(state.row) + table.foreign_running.item(state.row) == 3
    fleet.observe_load("a", Load(4.0, running=0, waiting=0))
    table.refresh(4.0)
    assert (table.any_foreign, table.scraped_at.item(state.row)) == (False, 4.0)


def test_rows_are_used_again_and_a_leaver_is_not_followed() -> None:
    table = LoadTable()
    states = states_of(table, 200)
    assert sorted(state.row for state in states) == list(range(200))
    left = states[7]
    left.ledger.reserve("a", 1_000, 10, 0.0, prefilled_at=5.0)
    table.refresh(0.0)
    table.remove(left)
    new = states_of(table, 1)[0]
    assert new.row == 7
    left.ledger.release("a", 1.0)
    table.refresh(9.0)
    assert table.requests.item(7) == 0.0
    assert wait(table, new, 9.0) == pytest.approx(0.020)
    assert len({state.row for state in [*states, new]} - {7}) == 199


def test_a_leaver_does_not_write_into_the_row_that_another_has_now() -> None:
    table = LoadTable()
    left = states_of(table, 1)[0]
    table.remove(left)
    new = states_of(table, 1)[0]
    left.foreign_waiting = 3.0
    table.touch(left)
    table.refresh(0.0)
    assert new.row == left.row
    assert (table.any_foreign, table.requests.item(new.row)) == (False, 0.0)


def test_changes_are_settled_before_somebody_asks_once_somebody_has() -> None:
    table = LoadTable()
    state = states_of(table, 1)[0]
    state.ledger.reserve("a", 100, 10, 0.0)
    table.settle()
    assert table.requests.item(state.row) == 0.0
    table.refresh(0.0)
    state.ledger.reserve("b", 100, 10, 0.0)
    assert table.requests.item(state.row) == 1.0
    table.settle()
    assert table.requests.item(state.row) == 2.0


def test_weighed_columns_are_summed_up_with_savings_discounted_by_trust() -> None:
    table = LoadTable()
    state = states_of(table, 1)[0]
    state.trust.share, state.crowding = 0.5, 0.3
    state.ledger.reserve("a", 100, 10, 0.0)
    state.ledger.prefilled("a", 0.0)
    table.refresh(0.0)
    prefill, decode = state.timing.prefill, state.timing.decode
    columns = (
        decode.fixed + 3 * decode.slope,
        2 * decode.tilt,
        *(prefill.slope, prefill.tilt) * 2,  # one sequence decodes
        *(0.3 * prefill.slope,) * 2,
        *(0.5 * prefill.slope, 0.25 * prefill.tilt) * 2,
        *(0.15 * prefill.slope,) * 2,
    )
    assert len(columns) == WEIGHED
    for index, expected in enumerate(columns):
        assert table.weighed(np.eye(WEIGHED)[index]).item(state.row) == pytest.approx(expected)


def test_a_group_starts_anywhere_and_goes_round() -> None:
    table = LoadTable()
    states = states_of(table, 5)
    group = Group(states[::-1], table)
    assert group.rows(3).tolist() == [1, 0, 4, 3, 2]
    assert group.names[3:8] == ["e1", "e0", "e4", "e3", "e2"]
    assert group.places["e4"] == 0


def test_the_lowest_values_come_in_their_order() -> None:
    values = np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    assert lowest(values, 2) == [1, 3]
    assert lowest(values, 5) == lowest(values, 9) == [1, 3, 4, 2, 0]
    assert lowest(np.array([]), 3) == []
    assert below(values, 3.0) == [1, 3]
    assert Counter(lowest(np.zeros(50), 50)) == Counter(range(50))
