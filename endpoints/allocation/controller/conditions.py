"""The status of an InferenceCapacity: figures, places, and conditions in words. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from endpoints.allocation.controller.course import Outcome
from endpoints.allocation.controller.members import Member, Standing, standing_of
from endpoints.allocation.controller.record import Record, timestamp, written_record
from endpoints.allocation.emission.identity import Object, selector


class Condition(Struct, frozen=True):
    """What is so or not; ``reason`` is one word for programs, ``message`` a sentence."""

    type: str
    status: bool
    reason: str
    message: str


def condition_list(
    conditions: Iterable[Condition], before: Sequence[Any], generation: int, now: float
) -> list[Object]:
    """As the status has them: the time is when the status last turned."""
    turned = {one["type"]: one for one in before}
    written = []
    for one in conditions:
        status = "True" if one.status else "False"
        old = turned.get(one.type)
        same = old is not None and old["status"] == status
        written.append(
            {
                "type": one.type,
                "status": status,
                "reason": one.reason,
                "message": one.message,
                "observedGeneration": generation,
                "lastTransitionTime": old["lastTransitionTime"]
                if old is not None and same
                else timestamp(now),
            }
        )
    return written


def invalid(reason: str, message: str) -> Condition:
    """Why nothing can be done for it."""
    return Condition("Valid", status=False, reason=reason, message=message)


def status_of(
    outcome: Outcome,
    members: Mapping[str, Sequence[Member]],
    *,
    name: str,
    scheduler: str,
    generation: int,
    before: Object,
    warnings: Sequence[str],
    leader: str = "",
    advice: str = "",
    now: float,
) -> Object:
    """The whole status. ``before`` is the last one; ``warnings`` is what the watchdog minds.

    ``leader``: which of several controllers says so. ``advice``: what to move to make room.
    """
    placed = outcome.placed
    ready = [record for record in placed if _standing(record, members) is Standing.READY]
    feasible = outcome.feasible
    conditions = [
        Condition("Valid", status=True, reason="Valid", message=f"scheduled by {scheduler}"),
        _placed(outcome),
        _ready(outcome, len(ready)),
        Condition("Healthy", status=False, reason="Suspected", message="; ".join(warnings))
        if warnings
        else Condition(
            "Healthy", status=True, reason="Healthy", message="every replica has its devices"
        ),
    ]
    return {
        "observedGeneration": generation,
        "wanted": outcome.wanted,
        "feasible": len(placed) + feasible.now,
        "afterPreemption": len(placed) + feasible.after_preemption,
        "placed": len(placed),
        "ready": len(ready),
        "limit": outcome.limit or feasible.reason,
        "advice": advice,
        "scheduler": scheduler,
        "controller": leader,
        "selector": selector(name),
        "replicas": [written_record(record, _phase(record, members)) for record in outcome.records],
        "conditions": condition_list(conditions, before.get("conditions") or (), generation, now),
    }


def _placed(outcome: Outcome) -> Condition:
    placed, wanted = len(outcome.placed), outcome.wanted
    if placed >= wanted:
        message = f"{placed} of {wanted} replicas have a place"
        return Condition("Placed", status=True, reason="Placed", message=message)
    reason = "Evicting" if outcome.evictions else "NoRoom"
    message = f"{placed} of {wanted} replicas have a place: {outcome.limit}"
    return Condition("Placed", status=False, reason=reason, message=message)


def _ready(outcome: Outcome, ready: int) -> Condition:
    message = f"{ready} of {outcome.wanted} replicas are ready"
    if ready >= outcome.wanted:
        return Condition("Ready", status=True, reason="Ready", message=message)
    reason = "Starting" if ready < len(outcome.placed) else "NotPlaced"
    return Condition("Ready", status=False, reason=reason, message=message)


def _standing(record: Record, members: Mapping[str, Sequence[Member]]) -> Standing:
    return standing_of(members.get(record.name, ()), record.plan.gang.pods)


def _phase(record: Record, members: Mapping[str, Sequence[Member]]) -> str:
    if record.draining:
        return "Draining"
    return {
        Standing.MISSING: "Placed",
        Standing.PENDING: "Placed",
        Standing.STARTING: "Starting",
        Standing.READY: "Ready",
    }[_standing(record, members)]
