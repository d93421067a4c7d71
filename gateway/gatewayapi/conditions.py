"""Conditions and the statuses that hold them, so that only what changes is written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.gatewayapi.snapshot import Object

_LONGEST_MESSAGE = 32_768


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition as it should be; ``holds`` None: not known yet."""

    type: str
    holds: bool | None
    reason: str
    message: str = ""

    @property
    def status(self) -> str:
        """As the API writes it."""
        return "Unknown" if self.holds is None else str(self.holds)


def written(
    conditions: Iterable[Condition], before: Sequence[Object], generation: int, now: str
) -> list[Object]:
    """The conditions as an object holds them.

    The time of the last transition stays while a condition's status does (``before`` are those
    that the object has now); ``now`` is RFC 3339.
    """
    known = {one.get("type"): one for one in before}
    found = []
    for condition in conditions:
        old = known.get(condition.type)
        same = old is not None and old.get("status") == condition.status
        since = old.get("lastTransitionTime") if same and old is not None else None
        found.append(
            {
                "type": condition.type,
                "status": condition.status,
                "reason": condition.reason,
                "message": condition.message[:_LONGEST_MESSAGE],
                "observedGeneration": generation,
                "lastTransitionTime": since or now,
            }
        )
    return found


def parents_with(ours: Sequence[Object], before: Sequence[Object], controller: str) -> list[Object]:
    """A status's ``parents``: everybody else's entries as they are, then ours."""
    others = [one for one in before if one.get("controllerName") != controller]
    return [*others, *ours]


def entry_of(before: Sequence[Object], controller: str, parent: Object) -> Object:
    """Our entry for a parent as it is now; an empty one when there is none."""
    for one in before:
        if one.get("controllerName") == controller and one.get("parentRef") == parent:
            return one
    return {}
