"""The model-based candidate: the fewest endpoints that meet the objective at the rate to come.

The rate planned for is the larger of the present one and what the forecast's past errors make of
it for when an endpoint that is started now would be ready, and a margin: a share of what is usual,
so that there is room for a jump, and little on top of one. Where it is known how far traffic rose
from levels as high as the present one, it is no more than that: what has risen to its peak is not
given the room that it needed for getting there. Going down, the same must fit with ``tolerance``
to spare, so that a rate that trembles around a step does not move the pool.

Apart from that there is the *surge*: what it takes, on top, to work off what will have piled up
by the time that help is there. It goes as soon as the pile does.
"""

from dataclasses import dataclass
from typing import Final

from endpoints.scaling.capacity import Profile, Sizing, fewest, largest_rate, profile
from endpoints.scaling.role import Role
from endpoints.scaling.settings import ScalingSettings
from endpoints.scaling.signals import RoleObservation

CATCH_UP: Final = 90.0
"""Seconds in which a backlog is to be worked off."""
LEAST_PILE: Final = 5.0
"""Requests below which there is no backlog to speak of."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``floor``: a pool below it is too small; ``count``: what it should then be; ``roof``: a
    pool above it is too large. ``rate`` (requests/s) is what was planned for. ``surge``: what it
    should be for a while, to work off a backlog; 0 without one.
    """

    floor: int
    count: int
    roof: int
    rate: float
    sizing: Sizing
    reason: str
    surge: int = 0
    surge_reason: str = ""


@dataclass(frozen=True, slots=True)
class Demand:
    """Requests/s to plan for: what is ``expected``, and a ``margin``; ``why`` it is as large."""

    expected: float
    margin: float
    why: str

    @property
    def rate(self) -> float:
        """Both together."""
        return self.expected + self.margin


def demand(seen: RoleObservation, settings: ScalingSettings) -> Demand | None:
    """The traffic to plan for; None when the present rate is not known."""
    present = seen.arrival_rate.value
    if present is None:
        return None
    usual = min(present, seen.usual_rate.or_else(present))
    expected = max(present, seen.forecast_high.or_else(0.0))
    if settings.margin is not None:
        return Demand(expected, settings.margin * usual, "as set")
    first, least, most = settings.margins
    margin = min(max(seen.jumps.or_else(first), least), most) * usual
    here = seen.jumps_here.value
    if here is not None and max(here, least) * present < margin:
        return Demand(expected, max(here, least) * present, "jumps from this level")
    return Demand(expected, margin, "jumps" if seen.jumps.value is not None else "no experience")


def backlog(seen: RoleObservation, role: Role, one: Profile, settings: ScalingSettings) -> float:
    """Requests too many when an endpoint that is started now will be ready.

    Those that wait now, and what comes until then beyond what the ready ones can take. Those that
    are coming don't count, as nobody knows when each will be there: of many the first is there
    soon, and who is not needed any more once enough are ready has cost a few minutes.
    """
    ready, waiting = seen.replicas.ready, 0.0
    queued, speed = seen.queued_tokens.value, seen.prefill_rate.last
    if queued is not None and speed and one.prefill > 0.0:
        waiting = max(queued / speed - one.prefill * max(ready, 1), 0.0) / one.prefill
    present = seen.arrival_rate.value
    if not ready or present is None:
        return waiting
    taken = largest_rate(one, role, ready, settings.objective, settings.utilisation)
    if not taken:  # an objective that can't be met says nothing of what can be taken
        return waiting
    return max(waiting + (present - taken) * settings.startup, 0.0)


def plan(seen: RoleObservation, role: Role, settings: ScalingSettings) -> Plan | None:
    """The candidate for a role; None while the model isn't learned or the rate isn't known."""
    one = profile(seen)
    if one is None:
        return None
    coming = demand(seen, settings)
    if coming is None:
        return None
    rate = coming.rate
    goal, most, slack = settings.objective, settings.utilisation, settings.tolerance
    sizing = fewest(one, role, rate, goal, most)
    floor = fewest(one, role, rate * (1.0 - slack), goal, most).count
    roof = fewest(one, role, rate * (1.0 + slack), goal, most).count
    reason = (
        f"{rate:.3g} requests/s ({coming.margin:.3g} of them margin: {coming.why}), "
        f"{one.prefill:.3g} s of prefill each: {sizing.limit} limits"
    )
    if sizing.unmet:
        names = " and ".join(name.upper() for name in sizing.unmet)
        reason += f"; {names} can't be met at any size"
    piled = backlog(seen, role, one, settings)
    surge, why = 0, ""
    if piled > LEAST_PILE:
        present = seen.arrival_rate.or_else(0.0)
        surge = fewest(one, role, present + piled / CATCH_UP, goal, most).count
        why = f"about {piled:.0f} requests will wait, to be worked off in {CATCH_UP:g} s"
    return Plan(floor, sizing.count, roof, rate, sizing, reason, surge, why)
