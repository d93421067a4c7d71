"""The traffic that is planned for: jumps seen early, and room for those that may come."""

from typing import Any

import pytest

from endpoints.scaling.collector import Collector
from endpoints.scaling.forecast import FEWEST_ALIKE, jumps
from endpoints.scaling.predictive import demand
from endpoints.scaling.role import Role
from endpoints.scaling.settings import Bounds, ScalingSettings
from endpoints.scaling.signals import Replicas, RoleObservation, measured
from routing.fleet import Fleet
from routing.policies import DEFAULT_POLICY, make_policy
from routing.prefix.index import PrefixIndex
from routing.router import Router, RouterSettings

POOL = ScalingSettings(roles={Role.BOTH: Bounds(1, 50)}, season=None)


def seen(**signals: float) -> RoleObservation:
    made: dict[str, Any] = {
        name: measured(value, 0.0, 0.0, 60.0) for name, value in signals.items()
    }
    return RoleObservation(replicas=Replicas(ready=4, target=4), **made)


def rate_after(counts: list[int]) -> float:
    """What a collector takes for the present rate after so many arrivals in each 15 s."""
    router = Router(Fleet(), PrefixIndex(1 << 20), make_policy(DEFAULT_POLICY), RouterSettings())
    collector = Collector("pool", POOL)
    collector.attach(router)
    assert router.traffic is not None
    now, rate = 0.0, None
    for count in [0, *counts]:
        router.traffic.arrivals += count
        rate = collector.collect(router, {Role.BOTH: 1}, now).role(Role.BOTH).arrival_rate.value
        now += 15.0
    assert rate is not None
    return rate


def test_a_jump_is_taken_to_go_on_as_far_again() -> None:
    assert rate_after([45] * 8) == pytest.approx(3.0)
    # 6/s in the last 15 s, 3.75/s in the last minute.
    assert rate_after([45] * 8 + [90]) == pytest.approx(2.0 * 6.0 - 3.75)
    # A peak that lasts is taken for what it is.
    assert rate_after([45] * 8 + [90] * 4) == pytest.approx(6.0)
    # Chance is no jump.
    assert rate_after([45] * 8 + [55]) == pytest.approx(190 / 60)


def test_a_peak_is_not_given_the_room_for_getting_there() -> None:
    spiky = ([3.0] * 30 + [9.0] * 16) * 4
    anywhere, from_base, from_peak = (jumps(spiky, 6, 0.95, level) for level in (0.0, 3.0, 9.0))
    assert anywhere == pytest.approx(2.0)
    assert from_base == pytest.approx(2.0)
    assert from_peak is not None
    assert from_peak < 0.25  # what was still to come on the way up
    assert jumps(spiky, 6, 0.95, 20.0) is None  # it never was as high
    short = [3.0] * (FEWEST_ALIKE + 20)
    assert jumps(short, 6, 0.95, 3.0) is None  # nothing is known of jumps at all


def test_the_margin_is_what_jumps_were_and_says_so() -> None:
    usual = demand(seen(arrival_rate=3.0, usual_rate=3.0, jumps=1.0, jumps_here=1.1), POOL)
    peak = demand(seen(arrival_rate=9.0, usual_rate=3.0, jumps=1.0, jumps_here=0.0), POOL)
    new = demand(seen(arrival_rate=9.0, usual_rate=3.0, jumps=1.0), POOL)
    fresh = demand(seen(arrival_rate=9.0), POOL)
    assert usual is not None
    assert peak is not None
    assert new is not None
    assert fresh is not None
    assert usual.rate == pytest.approx(6.0)
    assert usual.why == "jumps"
    assert peak.rate == pytest.approx(9.9)
    assert peak.why == "jumps from this level"
    assert new.rate == pytest.approx(12.0)  # no peak like it was seen before
    assert new.why == "jumps"
    assert fresh.why == "no experience"
    assert demand(seen(), POOL) is None


def test_a_margin_that_is_set_stands() -> None:
    fixed = ScalingSettings(roles={Role.BOTH: Bounds(1, 50)}, margin=0.5)
    found = demand(seen(arrival_rate=4.0, usual_rate=4.0, jumps=1.0, jumps_here=0.0), fixed)
    assert found is not None
    assert found.rate == pytest.approx(6.0)
    assert found.why == "as set"
