"""The inventory, fed by caches: each object that changes is read again, alone.

Nodes that are avoided are shown to the inventory as cordoned; devices whose driver does not run
are marked so.
"""

import logging
from collections.abc import Callable, Mapping
from typing import TypeAlias

from msgspec import Struct

from endpoints.allocation.controller.resources import Kinds
from endpoints.allocation.inventory import Inventory, InventoryError
from endpoints.kubernetes.cache import Cache
from endpoints.kubernetes.connection import Connection
from endpoints.kubernetes.resources import NODES, PODS, Key, Object

_log = logging.getLogger(__name__)
MakeCache: TypeAlias = Callable[..., Cache]


class DriverPods(Struct, frozen=True):
    """Where a DRA driver's pods are, one a node: their namespace and a label selector."""

    namespace: str
    selector: str


class Feed:
    """Caches of slices, classes, claims, nodes and taint rules, and of drivers' pods."""

    def __init__(
        self,
        connection: Connection,
        kinds: Kinds,
        inventory: Inventory,
        drivers: Mapping[str, DriverPods],
        changed: Callable[[], None],
        make_cache: MakeCache = Cache,
    ) -> None:
        self.inventory = inventory
        self.problems: dict[str, str] = {}
        """Objects that can't be read, and why; what was known of them before stays."""
        self._changed = changed
        self._avoided: frozenset[str] = frozenset()
        self._nodes = make_cache(connection, NODES)
        self._drivers = {
            name: make_cache(
                connection, PODS, namespace=pods.namespace, label_selector=pods.selector
            )
            for name, pods in drivers.items()
        }
        self.dead: frozenset[tuple[str, str]] = frozenset()
        """(driver, node) where the driver has devices and no pod that is ready."""
        self._pairs: list[tuple[Cache, Callable[[Object], None], Callable[[str], None]]] = [
            (self._nodes, self._upsert_node, inventory.remove_node),
            (
                make_cache(connection, kinds.slices),
                inventory.upsert_slice,
                inventory.remove_slice,
            ),
            (
                make_cache(connection, kinds.classes),
                inventory.upsert_class,
                inventory.remove_class,
            ),
            (
                make_cache(connection, kinds.claims),
                inventory.upsert_claim,
                inventory.remove_claim,
            ),
        ]
        if kinds.rules is not None:
            self._pairs.append(
                (
                    make_cache(connection, kinds.rules),
                    inventory.upsert_taint_rule,
                    inventory.remove_taint_rule,
                )
            )

    @property
    def caches(self) -> list[Cache]:
        """All of them."""
        return [*(cache for cache, _, _ in self._pairs), *self._drivers.values()]

    async def start(self) -> None:
        """Begin to follow; returns at once."""
        for cache, upsert, remove in self._pairs:
            cache.subscribe(self._follower(cache, upsert, remove))
        for cache in self._drivers.values():
            cache.subscribe(lambda _: self._look_at_drivers())
        for cache in self.caches:
            await cache.start()

    async def stop(self) -> None:
        """Follow no more."""
        for cache in self.caches:
            await cache.stop()

    def avoid(self, nodes: frozenset[str]) -> None:
        """Plan nothing on these nodes, and on those of before again."""
        changed = nodes ^ self._avoided
        self._avoided = nodes
        for name in changed:
            node = self._nodes.get(name)
            if node is not None:
                self._upsert_node(node)

    def alive(self, node: str) -> bool:
        """Whether the node is there and ready."""
        found = self.inventory.nodes.get(node)
        return found is not None and found.ready

    def _follower(
        self,
        cache: Cache,
        upsert: Callable[[Object], None],
        remove: Callable[[str], None],
    ) -> Callable[[frozenset[Key]], None]:
        def follow(keys: frozenset[Key]) -> None:
            for key in keys:
                namespace, name = key
                path = f"{namespace}/{name}" if namespace else name
                item = cache.objects.get(key)
                problem = f"{cache.resource.name} {path}"
                if item is None:
                    remove(path)
                    self.problems.pop(problem, None)
                    continue
                try:
                    upsert(item)
                    self.problems.pop(problem, None)
                except InventoryError as error:
                    self.problems[problem] = str(error)
                    _log.warning("%s can't be read: %s", problem, error)
            if self._drivers:
                self._look_at_drivers()
            self._changed()

        return follow

    def _upsert_node(self, node: Object) -> None:
        if node["metadata"]["name"] in self._avoided:
            node = {**node, "spec": {**(node.get("spec") or {}), "unschedulable": True}}
        self.inventory.upsert_node(node)

    def _look_at_drivers(self) -> None:
        """Mark what has devices on a node but no ready pod there. Slices outlive their driver."""
        dead = set()
        for driver, cache in self._drivers.items():
            if not cache.synced:
                continue  # what is not known is not dead
            ready = {
                (pod.get("spec") or {}).get("nodeName")
                for pod in cache.objects.values()
                if any(
                    one["type"] == "Ready" and one["status"] == "True"
                    for one in (pod.get("status") or {}).get("conditions") or ()
                )
            }
            for pool in self.inventory.pools.values():
                if pool.key.driver == driver and pool.node is not None and pool.node not in ready:
                    dead.add((driver, pool.node))
        for driver, node in self.dead ^ dead:
            self.inventory.mark_driver(
                driver, node, (driver, node) not in dead, "has no pod there that is ready"
            )
        self.dead = frozenset(dead)
        self._changed()
