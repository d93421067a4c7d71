"""What devices the cluster has, who uses them, and which are free: kept up to date by events.

Objects come as the API server's JSON, of any served version of ``resource.k8s.io`` (v1, v1beta2,
v1beta1); what placement needs of them is kept, in the form of `pools`, `nodes` and `usage`.

Each node has a *stamp* that changes whenever anything that could change what fits there has
changed, so that who caches by node looks again at those nodes only. What many nodes see
(`shared_pools`) has a stamp for all.
"""

from collections.abc import Iterable, Iterator

from endpoints.allocation.classes import (
    DeviceClass,
    TaintRule,
    read_class,
    read_taint_rule,
)
from endpoints.allocation.devices import Device, Interner
from endpoints.allocation.nodes import Node, read_node
from endpoints.allocation.plan import DeviceId
from endpoints.allocation.pools import Pool, PoolKey, Slice, read_slice
from endpoints.allocation.raw import InventoryError, Raw
from endpoints.allocation.taints import Taint
from endpoints.allocation.usage import Claim, Use, read_claim

__all__ = ["Inventory", "InventoryError", "Raw"]


class Inventory:
    """The cluster's devices. Each upsert replaces what was known under that name.

    ``upsert_*`` raise InventoryError for an object that can't be read, and leave what was known.
    ``remove_*`` of something unknown does nothing. Names are ``metadata.name``; of claims
    ``namespace/name``.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.pools: dict[PoolKey, Pool] = {}
        self.classes: dict[str, DeviceClass] = {}
        self.claims: dict[str, Claim] = {}
        self.shared_pools: dict[PoolKey, Pool] = {}
        self.labels_stamp = 0
        self.classes_stamp = 0
        self.shared_stamp = 0
        self.rules_stamp = 0
        self._slices: dict[str, Slice] = {}
        self._by_node: dict[str, dict[PoolKey, Pool]] = {}
        self._uses: dict[DeviceId, tuple[tuple[str, Use], ...]] = {}
        self._rules: dict[str, TaintRule] = {}
        self._dead: dict[tuple[str, str], str] = {}
        self._stamps: dict[str, int] = {}
        self._clock = 0
        self._interner = Interner()

    # What is there

    def upsert_slice(self, slice_: Raw) -> None:
        """A ResourceSlice that came or changed."""
        found = read_slice(slice_, self._interner)
        before = self._slices.get(found.name)
        if before is not None and before.pool != found.pool:
            self.remove_slice(found.name)
        pool = self.pools.get(found.pool)
        if pool is None:
            pool = self.pools[found.pool] = Pool(found.pool)
        self._slices[found.name] = found
        self._unplace(pool)
        pool.slices[found.name] = found
        pool.update()
        self._place(pool)

    def remove_slice(self, name: str) -> None:
        """A ResourceSlice that is gone."""
        found = self._slices.pop(name, None)
        if found is None:
            return
        pool = self.pools[found.pool]
        self._unplace(pool)
        del pool.slices[name]
        if pool.slices:
            pool.update()
            self._place(pool)
        else:
            del self.pools[found.pool]

    def upsert_node(self, node: Raw) -> None:
        """A Node that came or changed: labels, taints, readiness, cordon."""
        found = read_node(node)
        before = self.nodes.get(found.name)
        if found == before:
            return
        if before is None or before.labels != found.labels:
            self.labels_stamp = self._tick()
        self.nodes[found.name] = found
        self._touch(found.name)

    def remove_node(self, name: str) -> None:
        """A Node that is gone."""
        if self.nodes.pop(name, None) is not None:
            self.labels_stamp = self._tick()
            self._stamps.pop(name, None)

    def upsert_class(self, class_: Raw) -> None:
        """A DeviceClass that came or changed."""
        found = read_class(class_)
        if self.classes.get(found.name) != found:
            self.classes[found.name] = found
            self.classes_stamp = self._tick()

    def remove_class(self, name: str) -> None:
        """A DeviceClass that is gone."""
        if self.classes.pop(name, None) is not None:
            self.classes_stamp = self._tick()

    # Who uses it

    def upsert_claim(self, claim: Raw) -> None:
        """A ResourceClaim that came or changed: its status says what is in use."""
        found = read_claim(claim)
        if self.claims.get(found.key) == found:
            return
        self.remove_claim(found.key)
        # The same device is not kept twice in memory.
        found = found._replace(
            uses=tuple(use._replace(device=self._kept(use.device)) for use in found.uses)
        )
        self.claims[found.key] = found
        for use in found.uses:
            self._uses[use.device] = (*self._uses.get(use.device, ()), (found.key, use))
            self._touch_device(use.device)

    def remove_claim(self, name: str) -> None:
        """A ResourceClaim that is gone; ``namespace/name``."""
        found = self.claims.pop(name, None)
        for use in found.uses if found is not None else ():
            left = tuple(one for one in self._uses[use.device] if one[0] != name)
            if left:
                self._uses[use.device] = left
            else:
                self._uses.pop(use.device)
            self._touch_device(use.device)

    # What keeps off it

    def upsert_taint_rule(self, rule: Raw) -> None:
        """A DeviceTaintRule that came or changed."""
        found = read_taint_rule(rule)
        self.rules_stamp = self._tick()
        if found is None:
            self._rules.pop(str(rule["metadata"]["name"]), None)
        else:
            self._rules[found.name] = found

    def remove_taint_rule(self, name: str) -> None:
        """A DeviceTaintRule that is gone."""
        if self._rules.pop(name, None) is not None:
            self.rules_stamp = self._tick()

    def mark_driver(self, driver: str, node: str, alive: bool, reason: str = "is dead") -> None:
        """Whether a driver runs on a node; the devices of one that does not are not used.

        Slices stay when their driver dies on a healthy node (kubernetes issue 141912).
        """
        if alive:
            self._dead.pop((driver, node), None)
        else:
            self._dead[driver, node] = reason
        self._touch(node)

    # Questions

    @property
    def clock(self) -> int:
        """Grows with every change of anything."""
        return self._clock

    def own_attributes(self) -> frozenset[str]:
        """Qualified names of attributes that tell equal devices apart."""
        return self._interner.own_names()

    def stamp(self, node: str) -> int:
        """Changes with what fits on the node, apart from shared pools, classes and rules."""
        return self._stamps.get(node, 0)

    def pools_of(self, node: str) -> Iterable[Pool]:
        """The pools that only this node sees, or sees apart from others; with a problem too."""
        return self._by_node.get(node, {}).values()

    def devices_of(self, node: str) -> Iterator[Device]:
        """The devices of these pools, without those of pools with a problem or a dead driver."""
        for pool in self.pools_of(node):
            if pool.problem or (pool.key.driver, node) in self._dead:
                continue
            if pool.node is not None:
                yield from pool.devices
            else:
                yield from (one for one in pool.devices if one.scope.node == node)

    def problems_of(self, node: Node) -> Iterator[str]:
        """What keeps pools that the node sees from being used."""
        for pool in self.pools_of(node.name):
            dead = self._dead.get((pool.key.driver, node.name))
            if pool.problem or dead:
                yield f"pool {pool.key}: {pool.problem or f'its driver {dead}'}"
        for pool in self.shared_pools.values():
            if pool.problem and any(scope.covers(node) for scope in pool.scopes):
                yield f"pool {pool.key}: {pool.problem}"

    def uses_of(self, device: DeviceId) -> tuple[tuple[str, Use], ...]:
        """(claim, use) of a device, looked-at ones included."""
        return self._uses.get(device, ())

    def taints_of(self, device: Device) -> tuple[Taint, ...]:
        """Its own, and those of rules."""
        if not self._rules:
            return device.taints
        rules = (rule.taints for rule in self._rules.values() if rule.covers(device))
        return (*device.taints, *(taint for taints in rules for taint in taints))

    def device(self, id_: DeviceId) -> Device | None:
        """A device by its identity; None when its pool does not have it (any more)."""
        pool = self.pools.get(PoolKey(id_.driver, id_.pool))
        return None if pool is None else pool.by_name.get(id_.device)

    def node_of(self, id_: DeviceId) -> str | None:
        """The node that a device is in; None for one that several see, or that is unknown."""
        found = self.device(id_)
        return None if found is None else found.scope.node

    # Books

    def _place(self, pool: Pool) -> None:
        if pool.node is None and not pool.apart:
            self.shared_pools[pool.key] = pool
            self.shared_stamp = self._tick()
            return
        for scope in pool.scopes:
            assert scope.node is not None
            self._by_node.setdefault(scope.node, {})[pool.key] = pool
            self._touch(scope.node)

    def _unplace(self, pool: Pool) -> None:
        if self.shared_pools.pop(pool.key, None) is not None:
            self.shared_stamp = self._tick()
        for scope in pool.scopes:
            there = self._by_node.get(scope.node) if scope.node is not None else None
            if there is not None and there.pop(pool.key, None) is not None:
                if not there:
                    del self._by_node[str(scope.node)]
                self._touch(str(scope.node))

    def _kept(self, id_: DeviceId) -> DeviceId:
        known = self.device(id_)
        return id_ if known is None else known.id

    def _touch_device(self, id_: DeviceId) -> None:
        pool = self.pools.get(PoolKey(id_.driver, id_.pool))
        if pool is None:
            return
        if pool.key in self.shared_pools:
            self.shared_stamp = self._tick()
        elif pool.node is not None:
            self._touch(pool.node)
        elif id_.device in pool.by_name:
            self._touch(str(pool.by_name[id_.device].scope.node))

    def _touch(self, node: str) -> None:
        """A new stamp; a node that is not there has none, and gets one when it comes."""
        stamp = self._tick()
        if node in self.nodes:
            self._stamps[node] = stamp

    def _tick(self) -> int:
        self._clock += 1
        return self._clock
