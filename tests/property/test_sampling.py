"""Samples by id: whatever the traffic, a share in its bounds and the same requests everywhere."""

from hypothesis import given
from hypothesis import strategies as st

from routing.sampling import LastingSample

pauses = st.lists(st.floats(0.0, 30.0), min_size=1, max_size=200)
shares = st.floats(0.0, 1.0)


@given(pauses, shares, st.integers(1, 20), st.floats(0.0, 20.0))
def test_what_is_taken_was_chosen_by_id_and_the_share_stays_in_its_bounds(
    waits: list[float], most: float, capacity: int, reach: float
) -> None:
    sample, whole, at = LastingSample(most, capacity, reach), LastingSample(most, 1, 0.0), 0.0
    for number, wait in enumerate(waits):
        at += wait
        name = f"request-{number}"
        if sample.take(name, at):
            assert whole.has(name), "a thinner sample is a part of the whole one"
        assert 0.0 <= sample.share <= whole.share
        assert not sample.has(name) or whole.has(name)


@given(st.integers(1, 20), st.floats(0.5, 20.0), st.floats(0.001, 0.1))
def test_fast_traffic_is_thinned_out_and_the_whole_sample_comes_back(
    capacity: int, reach: float, pause: float
) -> None:
    sample, at = LastingSample(1.0, capacity, reach), 0.0
    for number in range(capacity + 1):
        at += pause * reach / capacity
        sample.take(f"request-{number}", at)
    assert sample.share < 1.0
    while sample.share < 1.0:
        assert at < 100.0 * reach, "32 doublings bring any share back"
        at += 1.1 * reach
        sample.take("late", at)


@given(pauses, shares)
def test_without_a_reach_the_share_never_changes(waits: list[float], most: float) -> None:
    sample, at = LastingSample(most, 1, 0.0), 0.0
    share = sample.share
    for number, wait in enumerate(waits):
        at += wait
        assert sample.take(str(number), at) == sample.has(str(number))
        assert sample.share == share
