"""The reactive candidate: is what there is saturated, and would fewer still be enough?

    up:    the largest of  ceil(n value / target)  over the signals, with n ready endpoints
    keep:  the fewest m with  value n / m <= 0.9 target  for every signal

Signals and targets: KV usage 0.8; seconds of queued prefill on each endpoint, half the TTFT
objective; requests waiting in the engine, 4; any lasting preemption, one more; observed TTFT and
ITL, the objectives (they lag, so they only count when nothing was changed lately). Endpoints that
are coming count as there. What is missing is unknown: nothing is added for it, and an endpoint
whose KV usage is unknown counts as at its target when fewer are considered. Source: reference
control law for LLM pools; redistribution as in WVA's and Dynamo's safety checks.
"""

from dataclasses import dataclass
from math import ceil
from typing import Final

from endpoints.scaling.role import Role
from endpoints.scaling.settings import ScalingSettings
from endpoints.scaling.signals import RoleObservation

KV_TARGET: Final = 0.8
WAITING_TARGET: Final = 4.0
PREEMPTION_RATE: Final = 0.02
"""Sequences thrown out a second and endpoint that last."""
QUEUE_SHARE: Final = 0.5
"""Of the TTFT objective, what a queue may take."""
MOST_RATIO: Final = 2.0
"""A signal asks for at most so many times the ready endpoints."""
MOST_GUARD: Final = 1.25
"""The same of observed times: they lag."""
ROOM: Final = 0.9
"""Of a target, what the load may come to after it was redistributed."""


@dataclass(frozen=True, slots=True)
class Pressure:
    """One signal against its target; both a ready endpoint's."""

    name: str
    value: float
    target: float
    queue: bool = False

    @property
    def ratio(self) -> float:
        """Above 1 there is too much of it."""
        return self.value / self.target


@dataclass(frozen=True, slots=True)
class Saturation:
    """``up``: endpoints that pressure calls for (0: none), ``keep``: the fewest that would do.

    Both in words as well.
    """

    up: int
    up_reason: str
    keep: int
    keep_reason: str


def saturation(
    seen: RoleObservation,
    role: Role,
    settings: ScalingSettings,
    *,
    settled: bool,
    unmet: bool = False,
    modelled: bool = False,
) -> Saturation | None:
    """What the ready endpoints' signals call for; None when they tell nothing.

    ``settled``: nothing was changed lately, so observed times are of the pool as it is;
    ``unmet``: an objective can't be met by any number of endpoints, so missing it says nothing;
    ``modelled``: the model knows what queues need, so they call for nothing here.
    """
    ready = seen.replicas.ready
    pressures = list(_pressures(seen, role, settings, ready)) if ready else []
    guards = [] if unmet else list(_guards(seen, role, settings))
    if not pressures:
        return None
    up, why = 0, "nothing is saturated"
    for one in pressures:
        if one.queue and modelled:
            continue
        if one.ratio > 1.0 + settings.tolerance:
            count = ceil(ready * min(one.ratio, MOST_RATIO))
            if count > up:
                up, why = count, f"{one.name} {one.value:.3g} of {one.target:.3g}"
    if settled and not seen.replicas.coming:
        for one in guards:
            if one.ratio > 1.0 + settings.tolerance:
                count = max(ceil(ready * min(one.ratio, MOST_GUARD)), ready + 1)
                if count > up:
                    up, why = count, f"{one.name} {one.value:.3g} s of {one.target:.3g} s"
    if (seen.preemptions.value or 0.0) > PREEMPTION_RATE * ready and up <= ready:
        up, why = ready + 1, f"{seen.preemptions.number:.2g} preemptions a second"
    keep, because = _keep(seen, pressures, guards, ready)
    return Saturation(up, why, keep, because)


def _pressures(
    seen: RoleObservation, role: Role, settings: ScalingSettings, ready: int
) -> "list[Pressure]":
    found = []
    usage, known = seen.kv_usage.value, seen.kv_known.value
    if usage is not None:
        found.append(Pressure("KV usage", min(usage, 1.0), KV_TARGET))
        if known is not None and known < 1.0:
            blind = usage * known + KV_TARGET * (1.0 - known)
            found[-1] = Pressure("KV usage", max(min(usage, 1.0), blind), KV_TARGET)
    queued, rate = seen.queued_tokens.value, seen.prefill_rate.last
    if role is not Role.DECODE and queued is not None and rate:
        target = QUEUE_SHARE * settings.objective.ttft
        found.append(Pressure("queued prefill s", queued / rate / ready, target, queue=True))
    if seen.waiting.value is not None:
        found.append(Pressure("waiting", seen.waiting.value / ready, WAITING_TARGET, queue=True))
    return found


def _guards(seen: RoleObservation, role: Role, settings: ScalingSettings) -> "list[Pressure]":
    found = []
    if role is not Role.DECODE and seen.ttft.value is not None:
        found.append(Pressure("observed TTFT", seen.ttft.value, settings.objective.ttft))
    if role is not Role.PREFILL and seen.itl.value is not None:
        found.append(Pressure("observed ITL", seen.itl.value, settings.objective.itl))
    return found


def _keep(
    seen: RoleObservation, pressures: "list[Pressure]", guards: "list[Pressure]", ready: int
) -> tuple[int, str]:
    """The fewest endpoints on which today's load would leave room, and what says so."""
    keep, why = 1, "little is used"
    for one in pressures:
        count = ceil(min(ready * one.ratio / ROOM, ready))  # a quotient of signals may be infinite
        if count > keep:
            keep, why = count, f"{one.name} would exceed {ROOM * one.target:.3g} with fewer"
    for one in guards:
        if one.ratio > 1.0 and keep < ready:
            keep, why = ready, f"{one.name} is {one.value:.3g} s"
    if seen.kv_usage.value is None and keep < ready - 1:
        keep, why = ready - 1, "KV usage is not known: one at a time"
    return keep, why
