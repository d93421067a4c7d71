"""How often what is cached is found again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.reuse import Reuse


def test_nothing_is_known_to_be_found_again_at_first() -> None:
    reuse = Reuse(4.0)
    assert (reuse.share, reuse.times) == (0.0, 0.0)


@pytest.mark.parametrize(("found", "times"), [(0.0, 0.0), (50.0, 1.0), (75.0, 3.0)])
def test_it_is_what_is_found_over_what_is_computed(found: float, times: float) -> None:
    reuse = Reuse(4.0)
    for _ in range(2_000):
        reuse.observe(found, 100.0)
    assert reuse.times == pytest.approx(times, rel=0.01)


def test_a_few_requests_say_little_and_many_are_followed() -> None:
    reuse = Reuse(4.0)
    reuse.observe(100.0, 100.0)
    assert reuse.times < 0.2
    for _ in range(500):
        reuse.observe(100.0, 100.0)
    assert reuse.times == 4.0
    for _ in range(1_000):
        reuse.observe(0.0, 100.0)
    assert reuse.times < 0.01


@given(st.lists(st.tuples(st.floats(-10.0, 1e6), st.floats(0.0, 1e6)), max_size=200))
def test_it_stays_within_its_bounds(prompts: list[tuple[float, float]]) -> None:
    reuse = Reuse(4.0)
    for found, asked in prompts:
        reuse.observe(found, asked)
        assert 0.0 <= reuse.share <= 1.0
        assert 0.0 <= reuse.times <= 4.0
