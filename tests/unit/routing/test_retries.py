import pytest

from routing.retries import RetryBudget, RetrySettings

SHARE = RetrySettings(share=0.2, minimum_per_second=0.0, memory=10.0)


def allowed(budget: RetryBudget, now: float, tries: int) -> int:
    return sum(budget.allow(now) for _ in range(tries))


def test_a_fifth_of_recent_traffic_may_be_retried() -> None:
    budget = RetryBudget(SHARE)
    for _ in range(1_000):
        budget.request(0.0)
    assert allowed(budget, 0.0, 1_000) == pytest.approx(200, abs=1)
    assert (budget.allowed, budget.denied) == (budget.allowed, 1_000 - budget.allowed)


def test_without_traffic_and_minimum_nothing_is_retried() -> None:
    assert allowed(RetryBudget(SHARE), 5.0, 10) == 0


def test_a_quiet_gateway_has_its_minimum_as_a_burst_and_then_as_a_rate() -> None:
    budget = RetryBudget(RetrySettings(share=0.0, minimum_per_second=3.0, memory=10.0))
    assert allowed(budget, 0.0, 100) == 30
    rate = sum(allowed(budget, second / 10, 5) for second in range(1, 1_001)) / 100
    assert rate == pytest.approx(3.0, rel=0.1)


def test_traffic_is_forgotten() -> None:
    budget = RetryBudget(SHARE)
    for _ in range(1_000):
        budget.request(0.0)
    assert allowed(budget, 30.0, 1_000) == pytest.approx(200 * 0.0498, abs=1)  # e ** -3


def test_an_outage_is_not_multiplied() -> None:
    budget = RetryBudget(RetrySettings())
    retried = 0
    for tick in range(6_000):  # a minute of 100 requests a second that all want two retries
        budget.request(tick / 100)
        retried += allowed(budget, tick / 100, 2)
    assert retried <= 0.2 * 6_000 + 3.0 * (60 + 10)
    assert retried >= 0.9 * (0.2 * 6_000 + 3.0 * 60)


def test_a_clock_that_steps_back_changes_nothing() -> None:
    budget = RetryBudget(SHARE)
    for now in (10.0, 5.0):
        for _ in range(5):
            budget.request(now)
    assert allowed(budget, 1.0, 9) in {1, 2}
