"""The model-based candidate: the fewest endpoints that meet the objective at the rate to come.

The rate planned for is the larger of the present one and what the forecast's past errors make of
it for when an endpoint that is started now would be ready; a backlog is added as the rate at
which it is to be worked off. Going down, the same must fit with ``tolerance`` to spare, so that
a rate that trembles around a step does not move the pool.
"""

from dataclasses import dataclass
from typing import Final

from endpoints.scaling.capacity import Profile, Sizing, fewest, profile
from endpoints.scaling.role import Role
from endpoints.scaling.settings import ScalingSettings
from endpoints.scaling.signals import RoleObservation

CATCH_UP: Final = 60.0
"""Seconds in which a backlog is to be worked off."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``floor``: a pool below it is too small; ``count``: what it should then be; ``roof``: a
    pool above it is too large. ``rate`` (requests/s) is what was planned for.
    """

    floor: int
    count: int
    roof: int
    rate: float
    sizing: Sizing
    reason: str


def planned_rate(seen: RoleObservation, one: Profile) -> float | None:
    """Requests/s to plan for; None when the present rate is not known."""
    present = seen.arrival_rate.value
    if present is None:
        return None
    rate = max(present, seen.forecast_high.or_else(0.0))
    # A forecast can't be more than a few times what ever came.
    rate = min(rate, 3.0 * max(present, seen.peak_rate.or_else(present)))
    queued, speed = seen.queued_tokens.value, seen.prefill_rate.last
    if queued is not None and speed and one.prefill > 0.0:
        backlog = max(queued / speed - one.prefill * seen.replicas.ready, 0.0)
        rate += backlog / one.prefill / CATCH_UP
    return rate


def plan(seen: RoleObservation, role: Role, settings: ScalingSettings) -> Plan | None:
    """The candidate for a role; None while the model isn't learned or the rate isn't known."""
    one = profile(seen)
    if one is None:
        return None
    rate = planned_rate(seen, one)
    if rate is None:
        return None
    goal, most, slack = settings.objective, settings.utilisation, settings.tolerance
    sizing = fewest(one, role, rate, goal, most)
    floor = fewest(one, role, rate * (1.0 - slack), goal, most).count
    roof = fewest(one, role, rate * (1.0 + slack), goal, most).count
    reason = f"{rate:.3g} requests/s, {one.prefill:.3g} s of prefill each: {sizing.limit} limits"
    if sizing.unmet:
        names = " and ".join(name.upper() for name in sizing.unmet)
        reason += f"; {names} can't be met at any size"
    return Plan(floor, sizing.count, roof, rate, sizing, reason)
