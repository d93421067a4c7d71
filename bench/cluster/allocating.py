"""Devices for one claim on one node, as the scheduler finds them: first fit, with backtracking.

Whole devices, partitions with counters, taints, ``All``, and both kinds of constraints. Shared
devices (``allowMultipleAllocations``) are left out: nothing here publishes them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from endpoints.allocation.devices import Device
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.needs import Toleration
from endpoints.allocation.pools import PoolKey
from endpoints.allocation.quantity import parse_quantity
from endpoints.allocation.selectors import compile_selector
from endpoints.allocation.taints import untolerated


class AbortedError(Exception):
    """A selector fails on a device, so nothing is allocated for the claim at all."""


@dataclass(frozen=True, slots=True)
class Result:
    """A device for a request."""

    request: str
    device: Device
    admin: bool

    def written(self) -> dict[str, Any]:
        """As a claim's status has it."""
        driver, pool, device = self.device.id
        made = {"request": self.request, "driver": driver, "pool": pool, "device": device}
        return {**made, "adminAccess": True} if self.admin else made


def allocate(
    inventory: Inventory, node: str, devices: Mapping[str, Any]
) -> tuple[Result, ...] | None:
    """What a claim's ``spec.devices`` gets on a node, or None. Raises AbortedError."""
    search = _Search(inventory, node, devices.get("constraints") or ())
    slots = []
    for request in devices.get("requests") or ():
        exactly = request["exactly"]
        fitting = list(_fitting(inventory, node, exactly))
        if exactly.get("allocationMode") == "All":
            free = [one for one in fitting if not search.taken(one)]
            if not fitting or len(free) < len(fitting):
                return None
            slots += [(request["name"], [one], False) for one in fitting]
        else:
            admin = bool(exactly.get("adminAccess"))
            slots += [(request["name"], fitting, admin)] * exactly.get("count", 1)
    return search.run(slots)


class _Search:
    """Depth first over slots: (request, its devices, admin access)."""

    def __init__(
        self, inventory: Inventory, node: str, constraints: Iterable[Mapping[str, Any]]
    ) -> None:
        self._inventory = inventory
        self._node = node
        self._constraints = list(constraints)
        self._chosen: list[Result] = []
        self._counted: Counter[tuple[PoolKey, str, str]] = Counter()
        self._in_use: dict[PoolKey, Counter[tuple[str, str]]] = {}

    def taken(self, device: Device) -> bool:
        """Whether a claim uses it."""
        return any(not use.admin for _, use in self._inventory.uses_of(device.id))

    def run(self, slots: Sequence[tuple[str, list[Device], bool]]) -> tuple[Result, ...] | None:
        """The first choice that satisfies everything."""
        if len(self._chosen) == len(slots):
            return tuple(self._chosen)
        request, fitting, admin = slots[len(self._chosen)]
        for device in fitting:
            result = Result(request, device, admin)
            if not self._may(result):
                continue
            self._chosen.append(result)
            self._count(result, 1)
            found = self.run(slots)
            if found is not None:
                return found
            self._count(result, -1)
            self._chosen.pop()
        return None

    def _may(self, result: Result) -> bool:
        device = result.device
        if any(device.id == other.device.id for other in self._chosen):
            return False
        if not result.admin and (self.taken(device) or not self._counters_fit(device)):
            return False
        return all(
            _satisfied(constraint, [*self._chosen, result]) for constraint in self._constraints
        )

    def _counters_fit(self, device: Device) -> bool:
        key = PoolKey(device.id.driver, device.id.pool)
        if not device.consumes:
            return True
        pool = self._inventory.pools[key]
        if key not in self._in_use:
            used: Counter[tuple[str, str]] = Counter()
            for other in pool.devices:
                if self.taken(other):
                    for set_name, counter, amount in other.consumes:
                        used[set_name, counter] += amount
            self._in_use[key] = used
        return all(
            self._in_use[key][set_name, counter] + self._counted[key, set_name, counter] + amount
            <= pool.counters[set_name, counter]
            for set_name, counter, amount in device.consumes
        )

    def _count(self, result: Result, sign: int) -> None:
        if not result.admin:
            key = PoolKey(result.device.id.driver, result.device.id.pool)
            for set_name, counter, amount in result.device.consumes:
                self._counted[key, set_name, counter] += sign * amount


def _satisfied(constraint: Mapping[str, Any], chosen: Iterable[Result]) -> bool:
    requests = constraint.get("requests") or ()
    concerned = [one.device for one in chosen if not requests or one.request in requests]
    name = constraint.get("matchAttribute") or constraint["distinctAttribute"]
    values = [device.attribute(name) for device in concerned]
    if any(value is None for value in values):
        return False
    if "matchAttribute" in constraint:
        return len(set(values)) <= 1
    return len(set(values)) == len(values)


def _fitting(inventory: Inventory, node: str, exactly: Mapping[str, Any]) -> Iterator[Device]:
    """Devices that the node sees and the request selects, used ones included."""
    class_ = inventory.classes.get(exactly["deviceClassName"])
    if class_ is None:
        return
    expressions = [
        *class_.selectors,
        *(one["cel"]["expression"] for one in exactly.get("selectors") or ()),
    ]
    tolerations = [_toleration(one) for one in exactly.get("tolerations") or ()]
    needs = (exactly.get("capacity") or {}).get("requests") or {}
    for device in sorted(inventory.devices_of(node), key=lambda one: one.id):
        if untolerated(inventory.taints_of(device), tolerations) is not None:
            continue
        if _selected(device, expressions) and _has(device, needs):
            yield device


def _selected(device: Device, expressions: Iterable[str]) -> bool:
    for expression in expressions:
        outcome = compile_selector(expression).outcome(device.view())
        if outcome.kind == "error":
            raise AbortedError(outcome.detail)
        if outcome.kind != "match":
            return False
    return True


def _has(device: Device, needs: Mapping[str, str]) -> bool:
    for name, amount in needs.items():
        qualified = name if "/" in name else f"{device.id.driver}/{name}"
        capacity = device.shape.capacity.get(qualified)
        if capacity is None or capacity.value < parse_quantity(amount):
            return False
    return True


def _toleration(written: Mapping[str, Any]) -> Toleration:
    return Toleration(
        key=written.get("key", ""),
        operator=written.get("operator", "Equal"),
        value=written.get("value", ""),
        effect=written.get("effect", ""),
        seconds=written.get("tolerationSeconds"),
    )
