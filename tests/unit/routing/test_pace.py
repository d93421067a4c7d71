"""How near to its target the time between tokens is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.pace import Pace


def test_tokens_are_taken_for_late_until_something_is_known() -> None:
    assert Pace().near == 1.0


def test_a_few_requests_say_little_and_many_are_followed() -> None:
    pace = Pace()
    pace.observe(0.01, 0.05)
    assert pace.near > 0.9
    for _ in range(1_000):
        pace.observe(0.01, 0.05)
    assert pace.near == pytest.approx(0.2, abs=0.01)
    for _ in range(1_000):
        pace.observe(0.2, 0.05)
    assert pace.share == pytest.approx(4.0, abs=0.1)
    assert pace.near == 1.0  # late is late


@given(st.lists(st.tuples(st.floats(0, 1e3), st.floats(-1, 1e3)), max_size=50))
def test_it_stays_a_share(seen: list[tuple[float, float]]) -> None:
    pace = Pace()
    for predicted, target in seen:
        pace.observe(predicted, target)
        assert 0.0 <= pace.near <= 1.0
