"""What is wrong with a replica's place right now, from plain facts about it. Pure."""

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from endpoints.allocation.controller.members import Member
from endpoints.allocation.controller.watchdog import Cause, Finding
from endpoints.allocation.needs import Toleration
from endpoints.allocation.plan import DeviceId, Plan
from endpoints.allocation.taints import Taint, untolerated


class Cluster(Struct, frozen=True):
    """What can be looked up. ``taints`` gives None for a device that no complete slice has.

    ``alive`` is asked with a node: False when it is gone or not ready. ``driver_dead`` is asked
    with driver and node: False where nothing is known of the driver.
    """

    taints: Callable[[DeviceId], Iterable[Taint] | None]
    alive: Callable[[str], bool]
    driver_dead: Callable[[str, str], bool]


class Held(Struct, frozen=True):
    """Devices that a pod on a node has by its claims or, ``waiting``, will have by its plan."""

    node: str
    devices: tuple[DeviceId, ...]
    tolerations: tuple[Toleration, ...] = ()
    waiting: bool = False


def findings(members: Sequence[Member], held: Iterable[Held], cluster: Cluster) -> list[Finding]:
    """All that shows now, one of each cause."""
    found = []
    held = list(held)
    nodes = list(dict.fromkeys(one.node for one in held))
    lost = [node for node in nodes if not cluster.alive(node)]
    if lost:
        found.append(Finding(Cause.NODE_LOST, tuple(lost), f"{_some(lost)} lost or not ready"))
    gone, tainted, dead = [], [], []
    for one in held:
        for device in one.devices:
            taints = cluster.taints(device)
            if taints is None:
                gone.append((one.node, str(device)))
                continue
            tainted += [
                (one.node, f"{device} ({taint})")
                for taint in taints
                if untolerated([taint], one.tolerations) is not None
            ]
        drivers = {device.driver for device in one.devices}
        dead += [
            (one.node, f"driver {driver} on {one.node}")
            for driver in sorted(drivers)
            if cluster.driver_dead(driver, one.node)
        ]
    for cause, where, words in (
        (Cause.DEVICES_GONE, gone, "no ResourceSlice has {} any more"),
        (Cause.TAINTED, tainted, "{} tainted"),
        (Cause.DRIVER_DEAD, dead, "{} not running"),
    ):
        if where:
            where_nodes = tuple(dict.fromkeys(node for node, _ in where))
            names = list(dict.fromkeys(name for _, name in where))
            found.append(Finding(cause, where_nodes, words.format(_some(names))))
    waiting = [one for one in members if one.counts and one.node is None]
    if waiting:
        said = next((one.said for one in waiting if one.said), "the scheduler says nothing")
        detail = f"{_some([one.name for one in waiting])} Pending ({said})"
        there = tuple(dict.fromkeys(one.node for one in held if one.waiting))
        found.append(Finding(Cause.PENDING, there, detail))
    return found


def planned(plan: Plan, members: Sequence[Member]) -> list[Held]:
    """What the pods without a node will have; all of them, where none is there yet."""
    placed: dict[str, int] = {}
    for one in members:
        if one.counts and one.node is not None:
            placed[one.role] = placed.get(one.role, 0) + 1
    found = []
    for role in plan.gang.roles:
        tolerations = tuple(
            some
            for request in role.requests
            for option in request.options
            for some in option.tolerations
        )
        # Pods of a role are alike: how many wait counts, not which.
        for pod in plan.pods_of(role.name)[placed.get(role.name, 0) :]:
            devices = tuple(device for grant in pod.grants for device in grant.devices)
            found.append(Held(pod.node, devices, tolerations, waiting=True))
    return found


def _some(names: Sequence[str], most: int = 3) -> str:
    """The first few names, with a verb."""
    shown = ", ".join(names[:most])
    if len(names) > most:
        shown += f" and {len(names) - most} more"
    return shown
