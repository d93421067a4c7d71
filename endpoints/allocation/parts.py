"""What of an overlay concerns which node: nodes that it does not concern need no second look."""

from collections.abc import Iterable

from endpoints.allocation.inventory import Inventory
from endpoints.allocation.plan import DeviceId
from endpoints.allocation.pools import PoolKey
from endpoints.allocation.stock import Overlay

NodeParts = dict[str, frozenset[object]]
"""By node; parts are equal when they change the node alike."""


class Parts:
    """The parts of overlays, the last of which is remembered with what it was built upon."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._clock = -1
        self._last: tuple[Overlay, NodeParts | None] | None = None

    def of(self, overlay: Overlay) -> NodeParts | None:
        """By node; None: it may concern every node, as several see one of its devices."""
        if self._clock != self._inventory.clock:
            self._clock, self._last = self._inventory.clock, None
        last = self._last
        if last is not None and last[0] is overlay:
            return last[1]
        found: NodeParts | None = {}
        before = Overlay()
        if last is not None and last[0] is overlay.parent:
            before, known = last
            found = dict(known) if known is not None else None
        if found is not None and not self._added(found, overlay, before):
            found = None
        self._last = (overlay, found)
        return found

    def _added(self, found: NodeParts, overlay: Overlay, before: Overlay) -> bool:
        """Adds what the overlay has beyond the one before; False when it concerns every node."""
        for id_, what in self._changes(overlay, before):
            pool = self._inventory.pools.get(PoolKey(id_.driver, id_.pool))
            device = pool.by_name.get(id_.device) if pool is not None else None
            if pool is None or device is None:
                continue
            node = device.scope.node
            if node is None or pool.key in self._inventory.shared_pools:
                return False
            found[node] = found.get(node, frozenset()) | {what}
        return True

    def _changes(self, overlay: Overlay, before: Overlay) -> Iterable[tuple[DeviceId, object]]:
        for id_ in overlay.taken - before.taken:
            yield id_, id_
        for id_, consumed in overlay.shares.items():
            if before.shares.get(id_) != consumed:
                yield id_, (id_, consumed)
        for claim in overlay.without - before.without:
            held = self._inventory.claims.get(claim)
            for use in held.uses if held is not None else ():
                yield use.device, claim
