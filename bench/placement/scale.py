"""A cluster of ten thousand nodes with eight GPUs each, much like drivers publish them, in use.

Everything that happens to it comes as the API server's objects, one event after the other.
"""

import gc
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from random import Random
from statistics import median, quantiles

import psutil
from msgspec import Struct

from bench.placement.objects import Item, attributes, claim, device_class, node, slice_, used
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.needs import (
    DeviceConstraint,
    DeviceOption,
    DeviceRequest,
    Gang,
    Reach,
    RoleNeed,
)
from endpoints.allocation.plan import Plan
from endpoints.allocation.planner import Planner

DRIVER = "gpu.nvidia.com"
GPUS = 8
PODS = 64
_PER_LEAF, _LEAVES_PER_SPINE = 16, 16
_ROOT = "resource.kubernetes.io/pcieRoot"
_H100, _H200 = ("NVIDIA H100 80GB HBM3", "81559Mi"), ("NVIDIA H200", "143771Mi")


class Scale(Struct, frozen=True):
    """What a cluster of this size cost. Times are CPU: ``*_ms`` a plan, ``*_us`` an event.

    ``peak_mb`` is the most memory that the whole process ever had, ``grown_mb`` what the inventory
    and the planner added to it. ``first_plan_ms`` is the first plan of all, before which nothing
    is known of any node; it counts among neither ``new_gang`` nor ``plan``.
    """

    nodes: int
    devices: int
    read_s: float
    peak_mb: float
    grown_mb: float
    first_plan_ms: float
    new_gang_p50_ms: float
    plan_p50_ms: float
    plan_p99_ms: float
    plan_max_ms: float
    slice_p50_us: float
    slice_p99_us: float
    claim_p50_us: float
    claim_p99_us: float
    feasible_ms: float
    plans: int
    placed: int


def measure(
    nodes: int, plans: int, seed: int = 0, progress: Callable[[str], None] = lambda _: None
) -> Scale:
    """Read the cluster, then plan gangs of 64 pods while claims and slices change."""
    random = Random(seed)
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    progress(f"reading {nodes:,} nodes")
    inventory = Inventory()
    begun = time.process_time()
    for item in _cluster(nodes):
        _add(inventory, item)
    live = _Claims(random, nodes)
    for _ in range(nodes):
        live.allocate(inventory)
    read = time.process_time() - begun
    gc.collect()
    planner = Planner(inventory)
    gangs = _gangs()
    first = _timed(lambda: planner.plan(gangs[0], 0.0))[0]
    new = [_timed(lambda one=one: planner.plan(one, 0.0))[0] for one in gangs[1:]]  # type: ignore[misc]
    times, slices, claims, placed = [], [], [], 0
    for number in range(plans):
        if number % 20 == 0:
            progress(f"planning, {number} of {plans}")
        for _ in range(4):
            slices.append(_timed(_slice_event(inventory, random, nodes))[0])
            claims.append(_timed(live.event(inventory))[0])
        spent, found = _timed(lambda at=number: planner.plan(gangs[at % len(gangs)], 0.0))  # type: ignore[misc]
        times.append(spent)
        placed += isinstance(found, Plan)
    grown = process.memory_info().rss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on Linux
    progress("counting what is feasible")
    feasible = _timed(lambda: planner.feasible(gangs[0], 0.0, most=16))[0]
    return Scale(
        nodes=nodes,
        devices=nodes * GPUS,
        read_s=read,
        peak_mb=peak / 1024,
        grown_mb=(grown - before) / 2**20,
        first_plan_ms=first * 1e3,
        new_gang_p50_ms=median(new) * 1e3,
        plan_p50_ms=median(times) * 1e3,
        plan_p99_ms=_p99([*times, *new]) * 1e3,
        plan_max_ms=max(*times, *new) * 1e3,
        slice_p50_us=median(slices) * 1e6,
        slice_p99_us=_p99(slices) * 1e6,
        claim_p50_us=median(claims) * 1e6,
        claim_p99_us=_p99(claims) * 1e6,
        feasible_ms=feasible * 1e3,
        plans=len(times) + len(new),
        placed=placed,
    )


def _timed(work: Callable[[], object]) -> tuple[float, object]:
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


def _p99(values: Sequence[float]) -> float:
    return quantiles(values, n=100, method="inclusive")[98]


def _add(to: Inventory, item: Item) -> None:
    if item["kind"] == "Node":
        to.upsert_node(item)
    elif item["kind"] == "ResourceSlice":
        to.upsert_slice(item)
    else:
        to.upsert_class(item)


def _name(index: int) -> str:
    return f"node-{index:05}"


def _cluster(nodes: int) -> Iterator[Item]:
    class_ = device_class(
        DRIVER, f'device.driver == "{DRIVER}" && device.attributes["{DRIVER}"].type == "gpu"'
    )
    yield class_
    for index in range(nodes):
        leaf = index // _PER_LEAF
        labels = {
            "fabric.topograph.run/tier-0": f"leaf-{leaf}",
            "fabric.topograph.run/tier-1": f"spine-{leaf // _LEAVES_PER_SPINE}",
            "topology.kubernetes.io/zone": f"zone-{leaf % 3}",
        }
        yield node(_name(index), labels)
        yield _slice(index, 1)


def _slice(index: int, generation: int) -> Item:
    product, memory = _H100 if (index // _PER_LEAF) % 4 else _H200
    shown = []
    for at in range(GPUS):
        bus = 0x18 + at * 0x12
        shown.append(
            {
                "name": f"gpu-{at}",
                "attributes": {
                    **attributes(
                        type="gpu",
                        uuid=f"GPU-{index:08x}-{at:04x}-4a7d-9d2c-{index * 8 + at:012x}",
                        productName=product,
                        brand="Nvidia",
                        architecture="Hopper",
                    ),
                    "cudaComputeCapability": {"version": "9.0.0"},
                    "driverVersion": {"version": "580.65.6"},
                    "cudaDriverVersion": {"version": "13.0.0"},
                    "resource.kubernetes.io/pciBusID": {"string": f"0000:{bus:02x}:00.0"},
                    _ROOT: {"string": f"pci0000:{bus - 1:02x}"},
                },
                "capacity": {"memory": {"value": memory}},
            }
        )
    return slice_(_name(index), shown, driver=DRIVER, generation=generation)


def _slice_event(inventory: Inventory, random: Random, nodes: int) -> Callable[[], None]:
    """A driver publishes its node anew, now and then with a broken GPU."""
    item = _slice(random.randrange(nodes), random.randrange(2, 1_000_000))
    if random.random() < 0.1:
        taint = {"key": "gpu.nvidia.com/xid", "value": "79", "effect": "NoSchedule"}
        item["spec"]["devices"][random.randrange(GPUS)]["taints"] = [taint]
    return lambda: inventory.upsert_slice(item)


class _Claims:
    """Claims that come and go: one, two, four or eight GPUs of a node at a time."""

    def __init__(self, random: Random, nodes: int) -> None:
        self._random = random
        self._free = {index: set(range(GPUS)) for index in range(nodes)}
        self._live: list[tuple[str, int, list[int]]] = []
        self._serial = 0

    def allocate(self, inventory: Inventory) -> None:
        """One more claim, where there is room."""
        event = self._allocation(inventory)
        if event is not None:
            event()

    def event(self, inventory: Inventory) -> Callable[[], None]:
        """A claim that comes or one that goes."""
        made = self._allocation(inventory) if self._random.random() < 0.5 else None
        if made is not None:
            return made
        name, index, gpus = self._live.pop(self._random.randrange(len(self._live)))
        self._free[index].update(gpus)
        return lambda: inventory.remove_claim(name)

    def _allocation(self, inventory: Inventory) -> Callable[[], None] | None:
        index = self._random.randrange(len(self._free))
        count = self._random.choice((1, 1, 2, 4, 8))
        free = self._free[index]
        if len(free) < count:
            return None
        gpus = self._random.sample(sorted(free), count)
        free.difference_update(gpus)
        self._serial += 1
        item = claim(
            f"c{self._serial}", *(used(f"gpu-{at}", _name(index), driver=DRIVER) for at in gpus)
        )
        self._live.append((f"default/c{self._serial}", index, gpus))
        return lambda: inventory.upsert_claim(item)


def _gangs() -> list[Gang]:
    """Gangs of 64 pods: one role and two, tight and loose, with selectors and alternatives."""
    large = f'device.capacity["{DRIVER}"].memory.compareTo(quantity("70Gi")) >= 0'
    h200 = f'device.attributes["{DRIVER}"].productName.contains("H200")'

    def role(name: str, pods: int, count: int, *selectors: str, root: bool = False) -> RoleNeed:
        request = DeviceRequest("gpu", (DeviceOption(DRIVER, count=count, selectors=selectors),))
        bonds = (DeviceConstraint(_ROOT),) if root else ()
        return RoleNeed(name, pods, (request,), bonds)

    either = DeviceRequest(
        "gpu",
        (
            DeviceOption(DRIVER, "h200", 1, (h200,)),
            DeviceOption(DRIVER, "large", 2, (large,)),
        ),
    )
    half = PODS // 2
    return [
        Gang("whole", (role("w", PODS, 8, large),), reach=Reach(None, "spine")),
        Gang("spine", (role("w", PODS, 2, large),), reach=Reach("spine", "leaf")),
        Gang(
            "pair",
            (role("prefill", half, 2, large), role("decode", half, 1)),
            reach=Reach("spine", "leaf"),
            near="leaf",
        ),
        Gang("one", (role("w", PODS, 1, h200),), reach=Reach("leaf")),
        Gang("anywhere", (role("prefill", half, 4), role("decode", half, 1, h200)), spread="zone"),
        Gang("either", (RoleNeed("w", PODS, (either,)),), reach=Reach("spine")),
    ]
