"""Whether the scheduler's own choice of devices can spoil a plan for a node.

The scheduler takes the first devices that fit, pod by pod, in an order of pools that is not
defined. Where a pod may so take what only another can use, the plan holds only if the claims
select the planned devices. Devices are tried in both directions, and roles in several orders.
"""

from itertools import islice, permutations

from endpoints.allocation.ask import Ask
from endpoints.allocation.packing import Packer, Vector
from endpoints.allocation.stock import Kind, Shelf, Stock

_MOST_ORDERS = 6


def is_fragile(ask: Ask, shelf: Shelf, vector: Vector) -> bool:
    """Whether some order of pods and devices leaves a pod of the vector without devices."""
    stock = shelf.stock
    present = [role for role, count in enumerate(vector) if count]
    wishes = [place for role in present for place in ask.of_role[role]]
    coupled = any(kind.consumes or kind.left is not None for kind in stock.kinds)
    if len(wishes) == 1 and not coupled and not any(bond.role in present for bond in ask.bonds):
        return False
    relevant = sum(1 << place for place in wishes)
    masks = {kind.mask & relevant for kind in stock.kinds if kind.mask & relevant}
    if masks == {relevant} and not coupled and not ask.bonds:
        return False
    for order in islice(permutations(present), _MOST_ORDERS):
        roles = [role for role in order for _ in range(vector[role])]
        for backwards in (False, True):
            if not Packer(ask, _apart(shelf, backwards)).first_fit(roles):
                return True
    return False


def _apart(shelf: Shelf, backwards: bool) -> Stock:
    """The stock with each device a kind of its own, in the order of the slices or against it."""
    single: list[tuple[str, Kind, int]] = []
    for kind, devices, free in zip(
        shelf.stock.kinds, shelf.devices, shelf.free_devices, strict=True
    ):
        usable = {device.id for device in free}
        single += [(str(one.id), kind, int(one.id in usable)) for one in devices]
    single.sort(key=lambda one: _natural(one[0]), reverse=backwards)
    return Stock(
        tuple(kind for _, kind, _ in single),
        tuple(free for _, _, free in single),
        tuple(1 for _ in single),
        *shelf.stock[3:],
    )


def _natural(name: str) -> tuple[str, int]:
    """Sorts gpu-10 after gpu-9, as slices list them."""
    stem = name.rstrip("0123456789")
    digits = name[len(stem) :]
    return (stem, int(digits) if digits else -1)
