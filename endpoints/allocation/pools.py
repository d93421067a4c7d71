"""ResourceSlices, and the pools that they make up.

A pool is what all slices of its highest generation say together, once there are as many as they
say. Older slices are ignored; a pool with a slice missing, or with two devices of one name, has a
problem and none of its devices is used.
"""

from collections.abc import Mapping
from typing import NamedTuple

from endpoints.allocation.devices import Device, Interner, Scope, read_device, read_scope
from endpoints.allocation.raw import (
    InventoryError,
    Raw,
    flag,
    integer,
    items,
    mapping,
    name_of,
    quantity,
    text,
)


class PoolKey(NamedTuple):
    """A pool, cluster-wide."""

    driver: str
    name: str

    def __str__(self) -> str:
        return "/".join(self)


class Slice(NamedTuple):
    """One ResourceSlice, one ``of`` so many. ``scope`` None: each device says which nodes see it.

    ``counters`` are totals in billionths by (counter set, counter).
    """

    name: str
    pool: PoolKey
    generation: int
    of: int
    scope: Scope | None
    devices: tuple[Device, ...]
    counters: Mapping[tuple[str, str], int]


def read_slice(item: Raw, interner: Interner) -> Slice:
    """A ResourceSlice of v1, v1beta2 or v1beta1. Raises InventoryError."""
    name = name_of(item)
    at = f"ResourceSlice {name}.spec"
    spec = mapping(item, "spec", f"ResourceSlice {name}")
    driver = interner.shared(text(spec, "driver", at))
    pool = mapping(spec, "pool", at)
    key = PoolKey(driver, text(pool, "name", f"{at}.pool"))
    by_device = flag(spec, "perDeviceNodeSelection", at)
    scope = None if by_device else read_scope(spec, at)
    counters = {
        (interner.shared(text(one, "name", place)), interner.shared(counter)): quantity(
            raw.get("value"), f"{place}.counters[{counter}]"
        )
        for place, one in items(spec, "sharedCounters", at)
        for counter, raw in mapping(one, "counters", place).items()
    }
    count = integer(pool, "resourceSliceCount", f"{at}.pool")
    if count < 1:
        raise InventoryError(f"{at}.pool.resourceSliceCount: is {count}")
    return Slice(
        name,
        key,
        integer(pool, "generation", f"{at}.pool", 0),
        count,
        scope,
        tuple(
            read_device(one, place, driver, key.name, scope, interner)
            for place, one in items(spec, "devices", at)
        ),
        counters,
    )


class Pool:
    """One pool's slices, and what they amount to.

    ``problem`` says why nothing of it is used; empty: it is whole. ``node``: the one node that
    sees all of it, else None. ``apart``: its devices are each of one node and share no counters,
    so that each node's can be used without looking at the others'.
    """

    __slots__ = (
        *("apart", "by_name", "counters", "devices", "key", "node", "problem", "scopes"),
        "slices",
    )

    def __init__(self, key: PoolKey) -> None:
        self.key = key
        self.slices: dict[str, Slice] = {}
        self.devices: tuple[Device, ...] = ()
        self.by_name: dict[str, Device] = {}
        self.counters: dict[tuple[str, str], int] = {}
        self.scopes: tuple[Scope, ...] = ()
        self.node: str | None = None
        self.apart = False
        self.problem = ""

    def update(self) -> None:
        """Look at the slices anew; after each change of ``slices``, which must not be empty."""
        newest = max(one.generation for one in self.slices.values())
        current = [one for one in self.slices.values() if one.generation == newest]
        current.sort(key=lambda one: one.name)
        wanted = max(one.of for one in current)
        self.devices = tuple(device for one in current for device in one.devices)
        self.by_name = {device.id.device: device for device in self.devices}
        self.counters = {key: value for one in current for key, value in one.counters.items()}
        scopes = [one.scope for one in current if one.scope is not None]
        self.scopes = tuple(dict.fromkeys([*scopes, *(one.scope for one in self.devices)]))
        nodes = {scope.node for scope in self.scopes}
        self.node = next(iter(nodes)) if len(nodes) == 1 else None
        self.apart = self.node is None and None not in nodes and not self.counters
        self.problem = self._problem(newest, len(current), wanted)

    def _problem(self, generation: int, there: int, wanted: int) -> str:
        if there != wanted:
            return f"{there} of {wanted} slices of generation {generation} are there"
        if len(self.by_name) < len(self.devices):
            return "two of its devices have one name"
        for device in self.devices:
            for set_name, counter, _ in device.consumes:
                if (set_name, counter) not in self.counters:
                    return f"{device.id.device} consumes an unknown counter {set_name}/{counter}"
        return ""
