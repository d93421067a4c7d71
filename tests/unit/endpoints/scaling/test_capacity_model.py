"""The queueing model, the forecast, the windows and others' formulas."""

from math import inf, pi, sin
from typing import Any

import pytest

from endpoints.scaling.capacity import Profile, fewest, largest_rate, predict
from endpoints.scaling.forecast import forecast, jumps
from endpoints.scaling.memory import Memory
from endpoints.scaling.policies.hpa import Hpa
from endpoints.scaling.policies.wva_saturation import WvaSaturation
from endpoints.scaling.role import Role
from endpoints.scaling.settings import Bounds, Objective, ScalingSettings
from endpoints.scaling.signals import (
    EndpointSample,
    Observation,
    Replicas,
    RoleObservation,
    measured,
)
from endpoints.scaling.windows import Bins, Peak, Totals, quantile

ONE = Profile(0.35, 1_400.0, 1.0, 0.02, 0.013, 0.00006, 50e-9, 8_000.0, 330.0, 300_000.0)
GOAL = Objective(2.0, 0.05, 0.95)
POOL = ScalingSettings(roles={Role.BOTH: Bounds(1, 50)})


def test_sizing_and_the_largest_rate_agree() -> None:
    for count in (2, 5, 12):
        rate = largest_rate(ONE, Role.BOTH, count, GOAL, 0.8)
        assert fewest(ONE, Role.BOTH, rate * 0.999, GOAL, 0.8).count == count
        assert fewest(ONE, Role.BOTH, rate * 1.02, GOAL, 0.8).count > count


def test_what_cannot_be_kept_up_with_takes_for_ever() -> None:
    found = predict(ONE, Role.BOTH, 10.0, 2, 0.95)
    assert found.ttft == inf
    assert found.itl == inf


def test_a_large_pool_takes_more_than_its_share() -> None:
    few = largest_rate(ONE, Role.PREFILL, 2, GOAL, 1.0) / 2
    many = largest_rate(ONE, Role.PREFILL, 20, GOAL, 1.0) / 20
    assert many > few


def test_prefill_and_decode_counts_follow_their_own_work() -> None:
    long_answers = Profile(0.05, 400.0, 1.0, 0.02, 0.013, 0.0005, 0.0, 2_000.0, 900.0, 300_000.0)
    prefill = fewest(long_answers, Role.PREFILL, 8.0, GOAL, 0.8).count
    decode = fewest(long_answers, Role.DECODE, 8.0, GOAL, 0.8).count
    assert prefill < decode


def test_a_trend_is_followed_and_a_jump_is_not_drawn_on() -> None:
    rising = [2.0 + 0.05 * step for step in range(60)]
    ahead = forecast(rising, 6)
    assert ahead is not None
    assert ahead.value > rising[-1]
    jumped = forecast([3.0] * 60 + [9.0] * 4, 6)
    assert jumped is not None
    assert jumped.high <= 9.0 * 1.2 * 1.15 + 1e-9


def test_a_season_is_found() -> None:
    day = [5.0 + 4.0 * sin(2.0 * pi * step / 40.0) for step in range(130)]
    ahead = forecast(day, 5, season=40)
    assert ahead is not None
    assert ahead.method == "seasonal"


def test_jumps_are_learned() -> None:
    assert jumps([3.0] * 100, 6, 0.95) == pytest.approx(0.0)
    spiky = ([3.0] * 30 + [9.0] * 8) * 4
    assert (jumps(spiky, 6, 0.95) or 0.0) > 1.0


def test_windows_tell_rates_peaks_and_nothing_when_nothing_is_known() -> None:
    totals = Totals(60.0)
    assert totals.rate(0.0, 60.0) is None
    for at, total in ((0.0, 0.0), (10.0, 20.0), (20.0, 40.0), (30.0, 10.0)):  # it was restarted
        totals.add(at, total)
    assert totals.rate(30.0, 30.0) == pytest.approx(50.0 / 30.0)
    bins = Bins(10.0, 5)
    bins.add(0.0, 0.0)
    bins.add(25.0, 50.0)
    assert list(bins.rates) == pytest.approx([2.0, 2.0])
    peak = Peak(10.0)
    peak.add(0.0, 5.0)
    peak.add(5.0, 3.0)
    assert peak.most(12.0) == 3.0
    assert quantile([1.0, 2.0], 0.5) is None


def seen(**signals: float) -> RoleObservation:
    made: dict[str, Any] = {
        name: measured(value, 0.0, 0.0, 60.0) for name, value in signals.items()
    }
    return RoleObservation(replicas=Replicas(ready=4, target=4), **made)


def test_the_hpa_takes_the_formula_and_its_tolerance() -> None:
    for busy, wanted in ((0.8, 4), (0.85, 4), (1.0, 5)):
        observed = Observation("pool", 0.0, {Role.BOTH: seen(busy=busy)})
        found, _ = Hpa("busy", 0.8).decide(observed, POOL, Memory(), None, 0.0)
        assert found.replicas[Role.BOTH] == wanted


def test_wva_adds_one_when_little_is_spare() -> None:
    samples = tuple(
        EndpointSample(str(number), 0.0, 0.0, 0.0, kv_peak=0.75, waiting_peak=0.0)
        for number in range(4)
    )
    role = RoleObservation(replicas=Replicas(ready=4, target=4), endpoints=samples)
    found, _ = WvaSaturation().decide(
        Observation("pool", 0.0, {Role.BOTH: role}), POOL, Memory(), None, 0.0
    )
    assert found.replicas[Role.BOTH] == 5
