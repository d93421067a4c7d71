"""Selectors that make a pod's claim take the very devices that were planned, where it matters.

The scheduler takes the first devices that fit and scores none. On a node where devices differ in
something that any pool asks for (a product, a PCIe root that a constraint compares, the counters
of partitions), its choice for one pod can leave another without the devices that were planned for
it. There every claim is narrowed to its own devices. On other nodes devices are as good as one
another, and all pods of a role share one template.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from endpoints.allocation.devices import Device
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.needs import DeviceRequest, Gang
from endpoints.allocation.plan import Grant, Plan, PodPlan

Narrowing: TypeAlias = Mapping[str, Mapping[str, str]]
"""By pod (`pod_key`), then by request: one more CEL selector."""

_IDENTITIES: Final = ("uuid", "pciBusID", "index")
"""Attributes that drivers tell devices apart by, the best first."""


def pod_key(role: str, index: int) -> str:
    """What a pod of a plan is called here."""
    return f"{role}/{index}"


def texts_in_play(gangs: Iterable[Gang], inventory: Inventory) -> tuple[str, ...]:
    """All that pools ask for of devices, as written: selectors, constraints and capacities."""
    found: dict[str, None] = {}
    for gang in gangs:
        for role in gang.roles:
            found.update((one.attribute, None) for one in role.constraints)
            for request in role.requests:
                for option in request.options:
                    found.update((text, None) for text in option.selectors)
                    found.update((name, None) for name, _ in option.capacity)
                    class_ = inventory.classes.get(option.device_class)
                    found.update((text, None) for text in (class_.selectors if class_ else ()))
    return tuple(found)


def narrowing(plan: Plan, inventory: Inventory, in_play: Sequence[str]) -> Narrowing:
    """The selectors that a plan's pods need; pods that need none are not there."""
    roles = {role.name: role for role in plan.gang.roles}
    uniform: dict[tuple[str, str], bool] = {}
    found: dict[str, dict[str, str]] = {}
    for pod in plan.pods:
        requests = {one.name: one for one in roles[pod.role].requests}
        narrowed = {}
        for grant in pod.grants:
            if not _may_narrow(requests[grant.request], grant):
                continue
            driver = grant.devices[0].driver
            key = (pod.node, driver)
            if key not in uniform:
                uniform[key] = _uniform(_devices(inventory, pod.node, driver), in_play)
            if not uniform[key] or pod.node in plan.fragile:
                expression = _expression(inventory, pod, grant)
                if expression:
                    narrowed[grant.request] = expression
        if narrowed:
            found[pod_key(pod.role, pod.index)] = narrowed
    return found


def _may_narrow(request: DeviceRequest, grant: Grant) -> bool:
    """Not where every device is asked for, none is used, or shares of devices are taken."""
    everything = any(option.count is None for option in request.options)
    return bool(grant.devices) and not (everything or grant.admin_access or any(grant.consumed))


def _devices(inventory: Inventory, node: str, driver: str) -> list[Device]:
    return [one for one in inventory.devices_of(node) if one.id.driver == driver]


def _uniform(devices: Sequence[Device], in_play: Sequence[str]) -> bool:
    """Whether none of these devices differs from another in what anybody asks for."""
    if any(device.consumes for device in devices):
        return False
    names = {name for device in devices for name in _values(device)}
    asked = {name for name in names if any(name.rpartition("/")[2] in one for one in in_play)}
    signatures = {
        tuple(repr(_values(device).get(name)) for name in sorted(asked)) for device in devices
    }
    return len(signatures) <= 1


def _values(device: Device) -> dict[str, object]:
    """Attributes and capacities by qualified name."""
    sizes = {name: one.value for name, one in device.shape.capacity.items()}
    return {**sizes, **device.shape.attributes, **dict(device.own)}


def _plain_attributes(device: Device) -> dict[str, str | int]:
    """Those that a selector can compare with what is written in it."""
    return {
        name: value
        for name, value in {**device.shape.attributes, **dict(device.own)}.items()
        if isinstance(value, str | int) and not isinstance(value, bool)
    }


def _expression(inventory: Inventory, pod: PodPlan, grant: Grant) -> str:
    """CEL that holds for the grant's devices; for others only if no attribute tells them apart."""
    there = _devices(inventory, pod.node, grant.devices[0].driver)
    known = {device.id: _plain_attributes(device) for device in there}
    if any(device not in known for device in grant.devices):
        return ""  # a device that several nodes see: which one is taken, others may decide too
    identity = _identity(list(known.values()))
    if identity is not None:
        values = [known[device][identity] for device in grant.devices]
        return f"{_has(identity)} && {_attribute(identity)} in {_written(values)}"
    names = sorted({name for values in known.values() for name in values})
    telling = [name for name in names if len({known[one].get(name) for one in known}) > 1]
    signatures: dict[str, None] = {}
    for device in grant.devices:
        parts = [
            f"{_has(name)} && {_attribute(name)} == {_written(value)}"
            for name in telling
            if (value := known[device].get(name)) is not None
        ]
        if not parts:
            return ""
        signatures[f"({' && '.join(parts)})"] = None
    return " || ".join(signatures)


def _identity(devices: Sequence[Mapping[str, str | int]]) -> str | None:
    """An attribute that has another value on each of the devices."""
    names = set.intersection(*(set(values) for values in devices))
    unique = [name for name in names if len({values[name] for values in devices}) == len(devices)]

    def rank(name: str) -> tuple[int, str]:
        short = name.rpartition("/")[2]
        return (_IDENTITIES.index(short) if short in _IDENTITIES else len(_IDENTITIES)), name

    return min(
        (name for name in unique if rank(name)[0] < len(_IDENTITIES)), key=rank, default=None
    )


def _attribute(name: str) -> str:
    domain, _, own = name.rpartition("/")
    return f'device.attributes["{domain}"]["{own}"]'


def _has(name: str) -> str:
    """An attribute that a device does not have would be an error, and abort the allocation."""
    domain, _, own = name.rpartition("/")
    return f'"{own}" in device.attributes["{domain}"]'


def _written(value: object) -> str:
    """A literal: JSON's texts, numbers and lists of them are CEL's too."""
    return json.dumps(value)
