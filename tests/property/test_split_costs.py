"""What splitting is decided by: bounded, and monotone where it has to be."""

from hypothesis import given
from hypothesis import strategies as st

from routing.busyness import Busyness
from routing.fleet import Endpoint, Fleet
from routing.loads import Group, LoadTable
from routing.pairs import View
from routing.policies.policy import Slate
from routing.prefix.match import Match
from routing.splitrules import DisaggregationSettings
from routing.transfer import Links

TIMES = st.floats(0.0, 1e9)
SEQUENCES = st.lists(st.integers(0, 300), min_size=1, max_size=12)


def view_of(miss_share: float) -> View:
    settings = DisaggregationSettings(miss_share=miss_share)
    fleet = Fleet()
    state = fleet.upsert(Endpoint("a", "http://a"), 0.0)
    group = Group([state], LoadTable(), [state])
    slate = Slate(group, Match({}), 16.0, 1_000.0, 300)
    links = Links(1e9, (), 0.0)
    return View(settings, links, Busyness(10.0), slate, [state], state, 1.0, 0.0)


@given(TIMES, TIMES, TIMES, TIMES, st.floats(0.0, 10.0))
def test_a_miss_is_dearer_the_later_and_never_dearer_than_all(
    ttft: float, itl: float, later: float, slower: float, share: float
) -> None:
    view = view_of(share)
    soon = view.miss(ttft, itl)
    late = view.miss(ttft + later, itl + slower)
    assert 0.0 <= soon <= late + 1e-9 <= share * 2.0 + 2e-9


@given(SEQUENCES, st.lists(st.tuples(st.integers(0, 11), st.floats(0.0, 50.0), st.floats(0, 9))))
def test_expected_shares_are_bounded_and_fall_with_who_decodes(
    sequences: list[int], prompts: list[tuple[int, float, float]]
) -> None:
    fleet, busyness, now = Fleet(), Busyness(10.0), 0.0
    states = []
    for number, decoding in enumerate(sequences):
        state = fleet.upsert(Endpoint(f"e{number}", f"http://e{number}"), 0.0)
        states.append(state)
        for key in range(decoding):
            state.ledger.reserve(key, 0, 9, 0.0)
            state.ledger.prefilled(key, 0.0)
    for place, work, wait in prompts:
        now += wait
        busyness.booked(states[place % len(states)], work, now)
    expected = busyness.expect(states, now)
    for state, decoding in zip(states, sequences, strict=True):
        share = expected.share(state, float(decoding))
        assert 0.0 <= share <= 0.8
        assert expected.share(state, decoding + 5.0) <= share + 1e-12
