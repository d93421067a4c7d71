"""Who gives way among equals: the better served, and no move undoes the one before."""

from hypothesis import given
from hypothesis import strategies as st

from endpoints.allocation.shares import WINDOW, Needs, Stake, yields


def test_the_better_served_gives_way_as_far_as_it_stays_so() -> None:
    big, small = Stake(needed=4, placed=2), Stake(needed=10, placed=10)
    assert yields(small, big) == 4, "6 of 10 is still more than 2 of 4"
    assert yields(big, small) == 0
    assert yields(Stake(10, 10, least=8), big) == 2, "it keeps its least"
    assert yields(small, Stake(2, 2)) == 0, "nothing is missing there"


def test_who_has_nothing_gets_something_and_who_needs_nothing_gives_all_but_its_least() -> None:
    assert yields(Stake(5, 1), Stake(1, 0)) == 0, "its only one"
    assert yields(Stake(5, 2), Stake(1, 0)) == 1
    assert yields(Stake(0, 3), Stake(9, 8)) == 2
    assert yields(Stake(0, 3), Stake(9, 0)) == 2


_STAKES = st.builds(Stake, st.integers(0, 30), st.integers(0, 30), st.integers(0, 3))


@given(_STAKES, _STAKES)
def test_the_least_served_is_better_served_than_before(giver: Stake, taker: Stake) -> None:
    count = yields(giver, taker)
    if not count:
        return
    left = Stake(giver.needed, giver.placed - count, giver.least)
    assert left.placed >= giver.least
    assert left.placed * taker.needed > taker.placed * giver.needed
    assert not yields(Stake(taker.needed, taker.placed + 1), left) or (
        # Only where the one taken was worth more to its taker than all were to the giver.
        (taker.placed + 1) * giver.needed > left.placed * taker.needed
    )


def test_what_was_needed_for_a_moment_is_no_need() -> None:
    needs = Needs()
    assert needs.steady(0.0) == 0
    needs.note(4, 0.0)
    assert needs.steady(WINDOW - 1) == 0, "not known for long enough"
    assert needs.steady(WINDOW) == 4
    needs.note(9, WINDOW)
    assert needs.steady(WINDOW + 1) == 4
    assert needs.most() == 9
    needs.note(9, 2 * WINDOW)
    assert needs.steady(2 * WINDOW) == 9
    needs.note(3, 2 * WINDOW + 1)
    assert needs.steady(2 * WINDOW + 1) == 3
    assert needs.most() == 9, "it may soon be needed again"
