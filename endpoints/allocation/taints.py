"""Taints of devices and nodes, and what tolerates them."""

from collections.abc import Iterable
from typing import NamedTuple

from endpoints.allocation.needs import Toleration
from endpoints.allocation.raw import Raw

_KEEPING_OFF = frozenset({"NoSchedule", "NoExecute"})


class Taint(NamedTuple):
    """What keeps pods off. Effects other than NoSchedule and NoExecute keep nobody off."""

    key: str
    value: str
    effect: str

    def __str__(self) -> str:
        return f"{self.key}{'=' if self.value else ''}{self.value}:{self.effect}"


def read_taints(items: Iterable[tuple[str, Raw]]) -> tuple[Taint, ...]:
    """Those that keep pods off; an unknown effect counts as None, as the API says."""
    return tuple(
        Taint(str(one.get("key", "")), str(one.get("value") or ""), one["effect"])
        for _, one in items
        if one.get("effect") in _KEEPING_OFF
    )


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """As the scheduler decides; how long it is tolerated is not asked."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and toleration.value == taint.value


def untolerated(taints: Iterable[Taint], tolerations: Iterable[Toleration]) -> Taint | None:
    """The first taint that nothing tolerates; None when nothing is in the way."""
    held = tuple(tolerations)
    for taint in taints:
        if not any(tolerates(one, taint) for one in held):
            return taint
    return None
