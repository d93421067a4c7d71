"""What is on a node, whoever asks: nodes with equal devices in equal use share one `Base`.

Ten thousand nodes have a few hundred bases, and an ask looks at each base once. A base holds the
devices of the node alone; attributes that tell equal devices apart are not in it.
"""

from weakref import WeakValueDictionary

from endpoints.allocation.inventory import Inventory
from endpoints.allocation.nodes import Node
from endpoints.allocation.stock import NOTHING, state_of


class Base:
    """An identity: one object for all nodes that are alike."""

    __slots__ = ("__weakref__", "key")

    def __init__(self, key: tuple[object, ...]) -> None:
        self.key = key


class Bases:
    """The bases of an inventory's nodes, each looked at again when its node's stamp changes."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._by_node: dict[str, tuple[int, int, Base]] = {}
        self._interned: WeakValueDictionary[tuple[object, ...], Base] = WeakValueDictionary()

    def of(self, node: Node) -> Base:
        """A node's base."""
        stamp, rules = self._inventory.stamp(node.name), self._inventory.rules_stamp
        found = self._by_node.get(node.name)
        if found is not None and found[0] == stamp and found[1] == rules:
            return found[2]
        key = self._key(node)
        base = self._interned.get(key)
        if base is None:
            base = self._interned[key] = Base(key)
        self._by_node[node.name] = (stamp, rules, base)
        if len(self._by_node) > 2 * len(self._inventory.nodes) + 1_000:
            self.live()
        return base

    def live(self) -> set[Base]:
        """The bases of nodes that are there; forgets others."""
        self._by_node = {
            name: held for name, held in self._by_node.items() if name in self._inventory.nodes
        }
        return {held[2] for held in self._by_node.values()}

    def _key(self, node: Node) -> tuple[object, ...]:
        inventory = self._inventory
        pools = {pool.key: place for place, pool in enumerate(inventory.pools_of(node.name))}
        found: list[tuple[object, ...]] = []
        for device in inventory.devices_of(node.name):
            state = state_of(inventory, device, NOTHING)
            used = (state.taken, tuple(state.consumed.items())) if state.consumed else state.taken
            shape = device.shape
            if not device.consumes and not device.taints and not device.binding:
                found.append((shape, used, inventory.taints_of(device)))
                continue
            place = pools[device.id[:2]]  # type: ignore[index]  # a pool's key is such a pair
            found.append(
                (
                    *(shape, used, inventory.taints_of(device)),
                    *(device.consumes, device.binding, place),
                )
            )
        problems = tuple(
            (place, pool.problem, tuple(pool.counters.items()) if pool.counters else ())
            for place, pool in enumerate(inventory.pools_of(node.name))
        )
        dead = tuple(inventory.problems_of(node)) if any(one[1] for one in problems) else ()
        return (tuple(found), problems, dead)
