"""From pods on nodes to devices of claims."""

from collections.abc import Mapping

from endpoints.allocation.ask import Ask
from endpoints.allocation.devices import Device
from endpoints.allocation.fragility import is_fragile
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.packing import Packed, Vector
from endpoints.allocation.plan import Grant, PodPlan
from endpoints.allocation.profiles import Profiles
from endpoints.allocation.stock import Overlay, Shelf, shelve
from endpoints.allocation.topology import Topology


def pods_of(
    inventory: Inventory,
    profiles: Profiles,
    topology: Topology,
    taken: Mapping[str, Vector],
    overlay: Overlay,
) -> tuple[tuple[PodPlan, ...], tuple[str, ...]]:
    """Each pod with its node and devices, role by role; and the nodes that are fragile.

    ``taken``: pods by role for each node, which must fit there. AssertionError when they do not:
    that would be a defect of the search.
    """
    ask = profiles.ask
    made: list[tuple[int, str, tuple[Grant, ...]]] = []
    fragile: list[str] = []
    for node, vector in sorted(taken.items()):
        shelf = shelve(inventory, ask, inventory.nodes[node], overlay)
        packed = profiles.packed(shelf.stock, vector)
        assert packed is not None, f"{vector} pods do not fit on {node}"
        made += [(role, node, grants) for role, grants in granted(ask, shelf, packed)]
        if is_fragile(ask, shelf, vector):
            fragile.append(node)
    made.sort(key=lambda one: one[0])
    counts = [0] * len(ask.need)
    pods = []
    for role, node, grants in made:
        pods.append(
            PodPlan(
                ask.gang.roles[role].name, counts[role], node, grants, topology.domains_of(node)
            )
        )
        counts[role] += 1
    return tuple(pods), tuple(fragile)


def granted(ask: Ask, shelf: Shelf, packed: Packed) -> list[tuple[int, tuple[Grant, ...]]]:
    """The devices behind the kinds that each pod got: each once, looked-at ones once a claim."""
    rest = [list(reversed(devices)) for devices in shelf.free_devices]
    made = []
    for role, filling in packed.pods:
        shown: dict[int, int] = {}
        grants = []
        for place, kinds in filling:
            wish = ask.wishes[place]
            devices: list[Device] = []
            consumed: list[tuple[tuple[str, int], ...] | None] = []
            for at in kinds:
                kind = shelf.stock.kinds[at]
                if wish.admin:
                    devices.append(shelf.devices[at][shown.get(at, 0)])
                    shown[at] = shown.get(at, 0) + 1
                elif kind.left is not None:
                    devices.append(shelf.free_devices[at][0])
                    consumed.append(dict(kind.takes)[place])
                else:
                    devices.append(rest[at].pop())
                    consumed.append(None)
            grants.append(
                Grant(
                    wish.request,
                    wish.option.name,
                    wish.option.device_class,
                    tuple(device.id for device in devices),
                    () if not any(one is not None for one in consumed) else tuple(consumed),
                    wish.admin,
                )
            )
        made.append((role, tuple(grants)))
    return made
