import pytest

from routing.trust import Trust


def test_predictions_that_hold_keep_full_trust() -> None:
    trust = Trust()
    for _ in range(100):
        trust.observe(4_000.0, 4_000)
    assert trust.share == 1.0
    assert (trust.held, trust.failed) == (100, 0)


def test_predictions_that_fail_lose_it_and_win_it_back() -> None:
    trust = Trust()
    for _ in range(100):
        trust.observe(4_000.0, 0)
    assert trust.share == pytest.approx(0.02, abs=0.01)
    for _ in range(100):
        trust.observe(4_000.0, 4_000)
    assert trust.share > 0.95
    assert (trust.held, trust.failed) == (100, 100)


def test_finding_more_than_predicted_is_no_failure() -> None:
    trust = Trust()
    trust.observe(1_000.0, 5_000)
    assert trust.share == 1.0


def test_small_predictions_say_nothing() -> None:
    trust = Trust()
    trust.observe(200.0, 0)
    assert (trust.share, trust.held, trust.failed) == (1.0, 0, 0)


def test_another_engine_starts_with_full_trust() -> None:
    trust = Trust()
    for _ in range(10):
        trust.observe(4_000.0, 0)
    trust.forget()
    assert trust.share == 1.0
