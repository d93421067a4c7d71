"""What is expected of work, after what was seen of it."""

from gateway.tokenizing.pace import Pace


def test_slow_work_is_expected_soon_and_fast_work_late() -> None:
    pace = Pace(1e-6)
    pace.observe(1000, 0.1)
    slowed = pace.expected(1000)
    assert slowed > 0.04
    pace.observe(1000, 0.0)
    assert 0.9 * slowed < pace.expected(1000) < slowed


def test_small_work_teaches_nothing() -> None:
    pace = Pace(1e-6)
    pace.observe(10, 5.0)
    assert pace.rate == 1e-6
