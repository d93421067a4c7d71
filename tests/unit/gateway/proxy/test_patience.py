"""Budgets of prefill legs follow what an endpoint really needs."""

import pytest

from gateway.proxy.patience import Patience


def test_a_budget_is_a_multiple_of_the_prediction_and_a_grace() -> None:
    assert Patience(4.0, 1.0).budget("p", 0.5) == 3.0


def test_it_doubles_when_a_leg_was_given_up_and_halves_when_one_was_in_time() -> None:
    patience = Patience(1.0, 1.0)
    budgets = []
    for _ in range(8):
        patience.too_slow("p")
        budgets.append(patience.budget("p", 0.0))
    assert budgets == [2, 4, 8, 16, 32, 64, 64, 64]
    assert patience.budget("other", 0.0) == 1.0
    patience.in_time("p")
    assert patience.budget("p", 0.0) == 32.0
    for _ in range(10):
        patience.in_time("p")
    assert patience.budget("p", 0.0) == pytest.approx(1.0)
