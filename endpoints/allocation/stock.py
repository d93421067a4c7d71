"""What of a node's devices an ask can use, with equal devices counted instead of listed.

Nodes with equal stock have equal possibilities: that is what makes ten thousand nodes cheap.
"""

from collections.abc import Mapping
from typing import NamedTuple

from endpoints.allocation.ask import MATCH, MISS, Ask
from endpoints.allocation.devices import Device, Value
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.nodes import Node
from endpoints.allocation.plan import DeviceId
from endpoints.allocation.pools import PoolKey
from endpoints.allocation.taints import untolerated

CounterKey = tuple[int, str, str]
"""(place of the pool on the node, counter set, counter)."""


class Kind(NamedTuple):
    """Devices that are alike for an ask.

    ``mask`` has a bit for each wish that they can meet; ``values`` one value for each of the ask's
    attributes; ``consumes`` what each takes of shared counters; ``left`` what is left of each
    capacity of a device that can be shared (then the kind is one device), and ``takes`` what each
    wish takes of it. ``serial`` tells kinds apart that must not be counted together.
    """

    mask: int
    values: tuple[tuple[type, Value] | None, ...] = ()
    consumes: tuple[tuple[CounterKey, int], ...] = ()
    left: tuple[tuple[str, int], ...] | None = None
    takes: tuple[tuple[int, tuple[tuple[str, int], ...]], ...] = ()
    started: bool = False
    serial: int = 0


class Stock(NamedTuple):
    """A node's devices by kind: how many are free, how many are there at all.

    ``every`` has for each wish for all devices how many those are, 0 when they can't be had.
    ``roles`` has a bit for each role that the node takes. It is hashable: equal stock, equal fit.
    """

    kinds: tuple[Kind, ...]
    free: tuple[int, ...]
    there: tuple[int, ...]
    counters: tuple[tuple[CounterKey, int], ...]
    every: tuple[int, ...]
    roles: int


class Tally(NamedTuple):
    """For people: of the devices that match a wish, how many are used, tainted, or too small."""

    matching: int = 0
    used: int = 0
    tainted: int = 0
    small: int = 0
    free: int = 0


class Shelf(NamedTuple):
    """A node's stock with the devices behind it (in order of kinds), and why some are not used."""

    stock: Stock
    devices: tuple[tuple[Device, ...], ...]
    free_devices: tuple[tuple[Device, ...], ...]
    tallies: tuple[Tally, ...]
    problem: str
    waits: frozenset[DeviceId]


class Overlay(NamedTuple):
    """What differs from the inventory: devices taken by plans, and claims that are thought away.

    ``shares`` is what plans consume of devices that are shared. ``parent`` is an overlay that this
    one only adds to, so that what is known of it need not be found again.
    """

    taken: frozenset[DeviceId] = frozenset()
    shares: Mapping[DeviceId, tuple[tuple[str, int], ...]] = {}
    without: frozenset[str] = frozenset()
    parent: "Overlay | None" = None

    @property
    def empty(self) -> bool:
        """Whether nothing differs."""
        return not (self.taken or self.shares or self.without)


NOTHING = Overlay()


class _State(NamedTuple):
    """Who uses a device: wholly taken, and what is consumed of it."""

    taken: bool
    consumed: Mapping[str, int]


def state_of(inventory: Inventory, device: Device, overlay: Overlay) -> _State:
    """As claims and plans have it."""
    id_ = device.id
    taken = id_ in overlay.taken
    consumed: dict[str, int] = {}
    for claim, use in inventory.uses_of(id_):
        if use.admin or claim in overlay.without:
            continue
        if not device.shape.multiple:
            taken = True
        for name, amount in use.consumed:
            consumed[name] = consumed.get(name, 0) + amount
        if device.shape.multiple and not use.consumed:  # allocated before it could be shared
            taken = True
    for name, amount in overlay.shares.get(id_, ()):
        consumed[name] = consumed.get(name, 0) + amount
    return _State(taken, consumed)


def visible(inventory: Inventory, node: Node) -> list[Device]:
    """All devices that a node sees, those that others see too last."""
    found = list(inventory.devices_of(node.name))
    for pool in inventory.shared_pools.values():
        if not pool.problem:
            found += [device for device in pool.devices if device.scope.covers(node)]
    if not any(device.binding for device in found):
        return found
    # As the scheduler does: what has to be waited for comes last.
    found.sort(key=lambda device: bool(device.binding))
    return found


class _Shelving:
    """Builds one shelf."""

    def __init__(
        self, inventory: Inventory, ask: Ask, node: Node, overlay: Overlay, roles: int
    ) -> None:
        self.roles = roles
        self.inventory = inventory
        self.ask = ask
        self.node = node
        self.overlay = overlay
        self.problem = ""
        self.kinds: dict[Kind, tuple[list[Device], list[Device]]] = {}
        self.tallies = [[0, 0, 0, 0, 0] for _ in ask.wishes]
        self.every = [0 for _ in ask.wishes]
        self.blocked = [not wish.every for wish in ask.wishes]
        self.pools: dict[PoolKey, int] = {}
        self.waits: set[DeviceId] = set()

    def shelf(self) -> Shelf:
        devices = visible(self.inventory, self.node)
        for serial, device in enumerate(devices):
            self._add(serial, device)
        problem = next(self.inventory.problems_of(self.node), "")
        if problem:
            for place, wish in enumerate(self.ask.wishes):
                if wish.every:
                    self.blocked[place] = True
                    self.problem = self.problem or f"{problem}, and all devices are asked for"
        order = sorted(self.kinds, key=lambda kind: (kind.mask.bit_count(), repr(kind)))
        stock = Stock(
            tuple(order),
            tuple(len(self.kinds[kind][1]) for kind in order),
            tuple(len(self.kinds[kind][0]) for kind in order),
            self._counters(),
            tuple(
                0 if blocked else count
                for count, blocked in zip(self.every, self.blocked, strict=True)
            ),
            0 if self.problem else self.roles,
        )
        return Shelf(
            stock,
            tuple(tuple(self.kinds[kind][0]) for kind in order),
            tuple(tuple(self.kinds[kind][1]) for kind in order),
            tuple(Tally(*numbers) for numbers in self.tallies),
            self.problem,
            frozenset(self.waits),
        )

    def _add(self, serial: int, device: Device) -> None:
        state = state_of(self.inventory, device, self.overlay)
        fits = self.ask.fits(device)
        taints = self.inventory.taints_of(device)
        mask, there = 0, False
        takes = []
        for place, (wish, fit) in enumerate(zip(self.ask.wishes, fits, strict=True)):
            if fit.outcome is MISS or fit.outcome == MISS:
                continue
            if fit.outcome != MATCH:
                if not state.taken or wish.every or wish.admin:
                    self._object(f"selector: {fit.outcome.kind}: {fit.outcome.detail}")
                continue
            tally = self.tallies[place]
            tally[0] += 1
            used = state.taken and not wish.admin
            tainted = untolerated(taints, wish.option.tolerations) is not None
            tally[1] += used
            tally[2] += not used and tainted
            tally[3] += not used and not tainted and not fit.enough
            if wish.every and fit.enough:
                self.every[place] += 1
                self.blocked[place] |= used or tainted
            if tainted or not fit.enough:
                continue
            there = True
            tally[4] += not used
            mask |= 1 << place
            if device.shape.multiple:
                takes.append((place, fit.takes))
        if not there:
            return
        if device.binding:
            self.waits.add(device.id)
        kind = Kind(
            mask,
            tuple(
                None if (value := device.attribute(name)) is None else (type(value), value)
                for name in self.ask.attributes
            ),
            self._consumes(device),
            *self._sharing(serial, device, state, tuple(takes)),
        )
        shown, free = self.kinds.setdefault(kind, ([], []))
        shown.append(device)
        if not state.taken:
            free.append(device)

    def _sharing(
        self,
        serial: int,
        device: Device,
        state: _State,
        takes: tuple[tuple[int, tuple[tuple[str, int], ...]], ...],
    ) -> tuple[
        tuple[tuple[str, int], ...] | None,
        tuple[tuple[int, tuple[tuple[str, int], ...]], ...],
        bool,
        int,
    ]:
        if not device.shape.multiple:
            return None, (), False, 0
        left = tuple(
            (name, one.value - state.consumed.get(name, 0))
            for name, one in device.shape.capacity.items()
        )
        return left, takes, bool(state.consumed), serial + 1

    def _consumes(self, device: Device) -> tuple[tuple[CounterKey, int], ...]:
        if not device.consumes:
            return ()
        key = PoolKey(device.id.driver, device.id.pool)
        place = self.pools.setdefault(key, len(self.pools))
        return tuple(((place, name, counter), amount) for name, counter, amount in device.consumes)

    def _counters(self) -> tuple[tuple[CounterKey, int], ...]:
        """What is left of the counters of pools whose devices are on the shelf."""
        found = []
        for key, place in self.pools.items():
            pool = self.inventory.pools[key]
            left = dict(pool.counters)
            for device in pool.devices:
                state = state_of(self.inventory, device, self.overlay) if device.consumes else None
                if state is not None and (state.taken or state.consumed):
                    for name, counter, amount in device.consumes:
                        left[name, counter] -= amount
            found += [((place, *name), amount) for name, amount in sorted(left.items())]
        return tuple(found)

    def _object(self, problem: str) -> None:
        self.problem = self.problem or problem


def shelve(inventory: Inventory, ask: Ask, node: Node, overlay: Overlay = NOTHING) -> Shelf:
    """A node's shelf for an ask."""
    return _Shelving(inventory, ask, node, overlay, ask.roles_on(node)).shelf()
