"""Small random clusters and gangs, in terms so plain that an exhaustive search can be trusted.

A scenario knows what a device is like and who may have it; `cluster` writes it down as the objects
that the planner reads. Whatever the planner says can so be held against the scenario itself.
"""

from collections.abc import Iterator
from random import Random

from msgspec import Struct

from bench.placement.objects import GPU, NIC, Item, claim, device_class, node, slice_, used
from endpoints.allocation import needs
from endpoints.allocation.quantity import parse_quantity

LEVELS = {"leaf": "fabric.topograph.run/tier-0", "spine": "fabric.topograph.run/tier-1"}
ROOT = "resource.kubernetes.io/pcieRoot"
TAINT = "broken"


class Thing(Struct, frozen=True):
    """A device. ``memory`` in Gi; ``counter``: (counter set, amount) that it consumes, or None.

    ``shared``: it may be given many times, in steps of 10 Gi, and so much of it is given already;
    None: it is given once.
    """

    driver: str
    pool: str
    name: str
    model: str
    memory: int
    root: str
    used: bool = False
    tainted: bool = False
    counter: tuple[str, int] | None = None
    shared: int | None = None


class Machine(Struct, frozen=True):
    """A node with its own devices, and totals of its counter sets."""

    name: str
    leaf: str | None
    spine: str
    things: tuple[Thing, ...]
    counters: tuple[tuple[str, int], ...] = ()
    tainted: bool = False
    ready: bool = True


class Wanted(Struct, frozen=True):
    """A way to meet a request: ``model`` None for any; ``count`` None for all of them.

    ``takes``: Gi that are wanted of each device (at least, where it is not shared), None for no
    wish. ``admin``: it only looks.
    """

    driver: str
    model: str | None
    memory: int
    count: int | None
    tolerates: bool = False
    takes: int | None = None
    admin: bool = False


class Part(Struct, frozen=True):
    """A role. Each request is a list of ways; ``one_root``: all its devices on one PCIe root."""

    name: str
    pods: int
    requests: tuple[tuple[Wanted, ...], ...]
    one_root: bool = False
    required: str | None = None
    tolerates: bool = False


class Scenario(Struct, frozen=True):
    """A cluster, devices that all nodes of a leaf see, and a gang."""

    machines: tuple[Machine, ...]
    reachable: tuple[tuple[str, Thing], ...]
    parts: tuple[Part, ...]
    required: str | None


def random_scenario(random: Random) -> Scenario:
    """One that is small enough to be searched exhaustively."""
    partitions = random.random() < 0.25
    machines = tuple(
        _machine(random, f"n{index}", partitions) for index in range(random.randint(2, 5))
    )
    leaves = sorted({one.leaf for one in machines if one.leaf is not None})
    reachable: tuple[tuple[str, Thing], ...] = ()
    if random.random() < 0.2 and leaves:
        reachable = tuple(
            (leaf, Thing(NIC, f"fabric-{leaf}", f"nic-{at}", "far", 0, "r0"))
            for leaf in leaves
            for at in range(random.randint(0, 2))
        )
    parts = tuple(_part(random, name) for name in ("prefill", "decode")[: random.choice((1, 1, 2))])
    return Scenario(
        machines,
        reachable,
        parts,
        random.choice((None, None, None, "leaf", "spine", "spine", "host")),
    )


def _machine(random: Random, name: str, partitions: bool) -> Machine:
    things: list[Thing] = []
    counters: tuple[tuple[str, int], ...] = ()
    if partitions:
        counters = (("set0", 4),)
        for index, size in enumerate(random.sample((4, 2, 2, 1, 1, 1, 1), random.randint(2, 5))):
            things.append(
                Thing(
                    *(GPU, name, f"gpu-{index}", random.choice("AB"), size * 10, "r0"),
                    counter=("set0", size),
                )
            )
        taken = random.choice(things)
        if random.random() < 0.4:
            things[things.index(taken)] = _changed(taken, used=True)
    else:
        things += [_gpu(random, name, index) for index in range(random.randint(1, 5))]
    for index in range(random.choice((0, 1, 1, 2, 3))):
        root = random.choice(("r0", "r1"))
        things.append(Thing(NIC, name, f"nic-{index}", "near", 0, root, random.random() < 0.2))
    return Machine(
        name,
        random.choice(("l0", "l0", "l0", "l1", None)),
        random.choice(("s0", "s0", "s1")),
        tuple(things),
        counters,
        tainted=random.random() < 0.08,
        ready=random.random() > 0.04,
    )


def _gpu(random: Random, machine: str, index: int) -> Thing:
    memory, root = random.choice((40, 80)), random.choice(("r0", "r1"))
    model, shared = random.choice("AAB"), random.random() < 0.15
    return Thing(
        *(GPU, machine, f"gpu-{index}", model, memory, root),
        used=not shared and random.random() < 0.2,
        tainted=random.random() < 0.08,
        shared=random.choice((0, 0, 10, 30)) if shared else None,
    )


def _changed(thing: Thing, *, used: bool) -> Thing:
    return Thing(
        *(thing.driver, thing.pool, thing.name, thing.model, thing.memory, thing.root),
        used,
        thing.tainted,
        thing.counter,
    )


def _part(random: Random, name: str) -> Part:
    first = [_wanted(random)]
    if random.random() < 0.25:
        first.append(_wanted(random))
    requests = [tuple(first)]
    if random.random() < 0.35:
        requests.append((Wanted(NIC, None, 0, 1),))
    if random.random() < 0.1:
        count = random.choice((1, 2, None))
        requests.append((Wanted(GPU, random.choice((None, "A")), 0, count, True, admin=True),))
    return Part(
        name,
        random.randint(1, 3),
        tuple(requests),
        one_root=random.random() < 0.3,
        required=random.choice((None, None, None, None, "leaf", "host")),
        tolerates=random.random() < 0.2,
    )


def _wanted(random: Random) -> Wanted:
    return Wanted(
        GPU,
        random.choice((None, "A", "A", "B")),
        random.choice((0, 0, 0, 20, 50)),
        random.choice((1, 1, 1, 1, 2, 2, 3, None)),
        tolerates=random.random() < 0.2,
        takes=random.choice((None, None, None, 5, 15, 35)),
    )


def cluster(scenario: Scenario) -> Iterator[Item]:
    """The objects that the API server would show."""
    yield from (device_class(GPU), device_class(NIC))
    for machine in scenario.machines:
        labels = {LEVELS["spine"]: machine.spine}
        if machine.leaf is not None:
            labels[LEVELS["leaf"]] = machine.leaf
        taints = [{"key": "node", "value": "x", "effect": "NoSchedule"}] * machine.tainted
        yield node(machine.name, labels, ready=machine.ready, taints=taints)
        yield from _slices(machine.name, machine.name, machine.things, machine.counters)
    by_leaf: dict[str, list[Thing]] = {}
    for leaf, thing in scenario.reachable:
        by_leaf.setdefault(leaf, []).append(thing)
    for leaf, things in by_leaf.items():
        need = {"key": LEVELS["leaf"], "operator": "In", "values": [leaf]}
        selector = {"nodeSelectorTerms": [{"matchExpressions": [need]}]}
        shown = [_device(one) for one in things]
        yield slice_(None, shown, driver=NIC, pool=f"fabric-{leaf}", nodeSelector=selector)
    everything = [thing for one in scenario.machines for thing in one.things]
    taken = [used(one.name, one.pool, driver=one.driver) for one in everything if one.used]
    taken += [
        used(one.name, one.pool, consumedCapacity={"memory": f"{one.shared}Gi"}, shareID=one.name)
        for one in everything
        if one.shared
    ]
    for index, result in enumerate(taken):
        yield claim(f"used-{index}", result)


def _slices(
    machine: str, pool: str, things: tuple[Thing, ...], counters: tuple[tuple[str, int], ...]
) -> Iterator[Item]:
    for driver in (GPU, NIC):
        shown = [_device(one) for one in things if one.driver == driver]
        if not shown:
            continue
        if driver == GPU and counters:
            sets = [
                {"name": name, "counters": {"units": {"value": str(total)}}}
                for name, total in counters
            ]
            yield slice_(machine, name=f"{pool}-sets", count=2, sharedCounters=sets)
            yield slice_(machine, shown, name=f"{pool}-gpus", count=2)
        else:
            yield slice_(machine, shown, driver=driver)


def _device(thing: Thing) -> Item:
    made: Item = {
        "name": thing.name,
        "attributes": {"model": {"string": thing.model}, ROOT: {"string": thing.root}},
        "capacity": {"memory": {"value": f"{thing.memory}Gi"}},
    }
    if thing.shared is not None:
        steps = {"min": "10Gi", "step": "10Gi"}
        made["allowMultipleAllocations"] = True
        made["capacity"]["memory"]["requestPolicy"] = {"default": "10Gi", "validRange": steps}
    if thing.tainted:
        made["taints"] = [{"key": TAINT, "effect": "NoSchedule"}]
    if thing.counter is not None:
        name, amount = thing.counter
        made["consumesCounters"] = [
            {"counterSet": name, "counters": {"units": {"value": str(amount)}}}
        ]
    return made


def gang_of(scenario: Scenario) -> needs.Gang:
    """The gang in the planner's words."""
    return needs.Gang(
        "pool",
        tuple(_role(part) for part in scenario.parts),
        reach=needs.Reach(scenario.required),
    )


def _role(part: Part) -> needs.RoleNeed:
    requests = tuple(
        needs.DeviceRequest(
            f"r{index}",
            tuple(_option(one, f"o{at}" if len(ways) > 1 else "") for at, one in enumerate(ways)),
            any(one.admin for one in ways),
        )
        for index, ways in enumerate(part.requests)
    )
    exists = (needs.Toleration(operator="Exists"),)
    return needs.RoleNeed(
        part.name,
        part.pods,
        requests,
        constraints=(needs.DeviceConstraint(ROOT),) if part.one_root else (),
        reach=needs.Reach(part.required),
        tolerations=exists if part.tolerates else (),
    )


def _option(one: Wanted, name: str) -> needs.DeviceOption:
    selectors = []
    if one.model is not None:
        selectors.append(f'device.attributes["{one.driver}"].model == "{one.model}"')
    if one.memory:
        selectors.append(
            f'device.capacity["{one.driver}"].memory.compareTo(quantity("{one.memory}Gi")) >= 0'
        )
    exists = (needs.Toleration(operator="Exists"),)
    return needs.DeviceOption(
        one.driver,
        name,
        one.count,
        tuple(selectors),
        capacity=() if one.takes is None else (("memory", parse_quantity(f"{one.takes}Gi")),),
        tolerations=exists if one.tolerates else (),
    )
