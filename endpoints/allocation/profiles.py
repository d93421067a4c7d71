"""What fits on each node for an ask, remembered node by node and computed once for equal nodes."""

from collections.abc import Mapping
from typing import NamedTuple

from endpoints.allocation.ask import MISS, Ask
from endpoints.allocation.bases import Base, Bases
from endpoints.allocation.covering import Offers, totals, weigh
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.nodes import Node
from endpoints.allocation.packing import Packed, Packer, Vector
from endpoints.allocation.parts import Parts
from endpoints.allocation.stock import Overlay, Shelf, Stock, Tally, shelve

_MOST_PACKED = 4_096


class Profile(NamedTuple):
    """A node as placement sees it. Nodes with equal profiles share one.

    ``offers``: pods by role that fit there together; ``most``: of each role alone;
    ``weight``: the most devices that any of the offers uses. ``free`` and ``total`` count devices
    that any wish could use, ``waits`` those with binding conditions.
    """

    stock: Stock
    offers: Offers
    most: Vector
    weight: int
    free: int
    total: int
    waits: int
    problem: str
    tallies: tuple[Tally, ...]
    gave_up: bool

    @property
    def whole(self) -> bool:
        """Whether nothing there is used."""
        return self.total > 0 and self.free == self.total


class Profiles:
    """The profiles of an inventory's nodes for one ask."""

    def __init__(self, inventory: Inventory, bases: Bases, parts: Parts, ask: Ask) -> None:
        self.inventory = inventory
        self.ask = ask
        self._bases = bases
        self._parts = parts
        self._by_base: dict[tuple[Base, int], Profile] = {}
        self._roles: dict[str, tuple[Node, int]] = {}
        self._all: Mapping[str, Profile] = {}
        self._all_stamp = -1
        self._overlaid: dict[str, tuple[object, Profile]] = {}
        self._by_node: dict[str, tuple[tuple[int, ...], Profile]] = {}
        self._offers: dict[Stock, tuple[Offers, bool]] = {}
        self._interned: dict[tuple[object, ...], Profile] = {}
        self._packed: dict[tuple[Stock, Vector], Packed | None] = {}
        self._shared_stamp = -1
        self._shared = False

    def uses_shared(self) -> bool:
        """Whether devices that several nodes see are wanted: then nodes are not independent."""
        if self._shared_stamp != self.inventory.shared_stamp:
            self._shared_stamp = self.inventory.shared_stamp
            self._shared = any(
                fit.outcome != MISS
                for pool in self.inventory.shared_pools.values()
                for device in pool.devices
                for fit in self.ask.fits(device)
            )
        return self._shared

    def all(self) -> Mapping[str, Profile]:
        """Of all nodes, as the inventory has them."""
        if self._all_stamp != self.inventory.clock:
            self._all = self._fresh()
            self._all_stamp = self.inventory.clock
        return self._all

    def changed_by(self, overlay: Overlay) -> Mapping[str, Profile]:
        """Of the nodes on which an overlay changes something, with it."""
        if overlay.empty:
            return {}
        parts = self._parts.of(overlay)
        nodes = self.inventory.nodes
        if parts is None:
            return {
                name: self.profile_of(shelve(self.inventory, self.ask, node, overlay))
                for name, node in nodes.items()
            }
        found = {}
        for name, part in parts.items():
            if name not in nodes:
                continue
            key = (self.inventory.stamp(name), self.inventory.rules_stamp, part)
            known = self._overlaid.get(name)
            if known is None or known[0] != key:
                shelf = shelve(self.inventory, self.ask, nodes[name], overlay)
                known = self._overlaid[name] = (key, self.profile_of(shelf))
            found[name] = known[1]
        return found

    def _fresh(self) -> dict[str, Profile]:
        inventory, ask = self.inventory, self.ask
        alone = (
            self.uses_shared()
            or (any(wish.every for wish in ask.wishes) and bool(inventory.shared_pools))
            or ask.looks_at(inventory.own_attributes())
        )
        if alone:
            return {node.name: self._alone(node) for node in inventory.nodes.values()}
        found = {}
        by_base, roles_of, base_of = self._by_base, self._roles, self._bases.of
        for name, node in inventory.nodes.items():
            known = roles_of.get(name)
            if known is None or known[0] is not node:
                known = roles_of[name] = (node, ask.roles_on(node))
            key = (base_of(node), known[1])
            profile = by_base.get(key)
            if profile is None:
                profile = by_base[key] = self.profile_of(shelve(inventory, ask, node))
            found[name] = profile
        return found

    def _alone(self, node: Node) -> Profile:
        """A node's by itself, where equal devices are not equal for this ask."""
        stamp = (
            self.inventory.stamp(node.name),
            self.inventory.rules_stamp,
            self.inventory.shared_stamp,
        )
        found = self._by_node.get(node.name)
        if found is not None and found[0] == stamp:
            return found[1]
        made = self.profile_of(shelve(self.inventory, self.ask, node))
        self._by_node[node.name] = (stamp, made)
        return made

    def profile_of(self, shelf: Shelf) -> Profile:
        """The profile of a shelf."""
        stock = shelf.stock
        known = self._offers.get(stock)
        if known is None:
            packer = Packer(self.ask, stock)
            offers = packer.frontier(self.ask.need) if stock.roles else ()
            known = self._offers[stock] = (offers, packer.gave_up)
        key = (stock, shelf.tallies, shelf.problem, len(shelf.waits))
        found = self._interned.get(key)
        if found is None:
            found = self._interned[key] = Profile(
                stock,
                known[0],
                totals([known[0]], len(self.ask.need)),
                max((weigh(vector, self.ask.sizes) for vector in known[0]), default=0),
                sum(stock.free),
                sum(stock.there),
                len(shelf.waits),
                shelf.problem,
                shelf.tallies,
                known[1],
            )
        return found

    def packed(self, stock: Stock, vector: Vector) -> Packed | None:
        """How a node with this stock holds so many pods."""
        key = (stock, vector)
        if key not in self._packed:
            if len(self._packed) >= _MOST_PACKED:
                self._packed.clear()
            self._packed[key] = Packer(self.ask, stock).pack(vector)
        return self._packed[key]

    def forget_gone(self) -> None:
        """Drop nodes that are gone, and what is kept of stocks that no node has any more."""
        nodes = self.inventory.nodes
        self._by_node = {name: held for name, held in self._by_node.items() if name in nodes}
        self._roles = {name: held for name, held in self._roles.items() if name in nodes}
        bases = self._bases.live()
        self._by_base = {key: held for key, held in self._by_base.items() if key[0] in bases}
        live = {held[1].stock for held in self._by_node.values()}
        live |= {held.stock for held in self._by_base.values()}
        self._offers = {stock: held for stock, held in self._offers.items() if stock in live}
        self._interned = {key: held for key, held in self._interned.items() if held.stock in live}
        self._packed.clear()
        self._overlaid.clear()

    def size(self) -> int:
        """How much is kept, of nodes and of stocks."""
        of_nodes = len(self._by_node) + len(self._roles) + len(self._overlaid)
        return of_nodes + len(self._offers) + len(self._interned) + len(self._by_base)
