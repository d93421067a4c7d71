"""Two pools on a fragmented cluster, scaled with and without an eye on devices.

The cluster: nodes of eight GPUs under leaf switches, of which others hold some here and there. A
big model's replica is four pods of two GPUs each under one switch; a smaller one's is one pod of
two GPUs. Both have their peaks at about the same time, and together they want more than there is,
at most times or only at their peaks, as the ``load`` is.

- *closed loop*: the scaler is bounded by what the allocator says can exist, whole replicas are
  planned, their pods go where they were planned, and of two pools the better served one gives idle
  replicas up to the other (``preemption: FairShare``);
- *devices ignored*: the same scaler, unbounded; its pods claim the same devices, with affinity to
  each other under one switch, and a scheduler that knows no gangs gives them what it finds.
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from time import perf_counter
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from bench.cluster.machines import Machines
from bench.cluster.market import Market
from bench.cluster.parts import (
    CLASS,
    DRIVER,
    LEAF_LABEL,
    Object,
    device_class,
    device_slice,
    gpu,
    node,
)
from bench.cluster.pool import ContestPool
from bench.cluster.seats import HopedForSeats, PlannedSeats, Seats
from bench.cluster.traffic import at_rate
from bench.fleet.settings import Timing
from bench.replay.presets import EngineSettings, preset
from bench.replay.timeline import Timeline
from bench.replay.workload import Workload
from bench.replay.workloads import load as recorded
from bench.results import Check, at_least, at_most
from bench.scaling.figures import attained
from bench.scaling.patterns import diurnal, spikes
from bench.scaling.simulation import Played, Scene
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.ledger import Ledger
from endpoints.allocation.manifest import Capacity, capacity_from
from endpoints.allocation.planner import Planner
from endpoints.scaling.role import Role
from endpoints.scaling.settings import Bounds, Objective, ScalingSettings

CLOSED: Final = "closed loop"
IGNORED: Final = "devices ignored"
MODERATE: Final = 0.6
"""Share of the usual traffic for which there are devices at most times, though not at all."""
OVERSUBSCRIBING: Final = 1.0
LONG_PENDING: Final = 60.0
_LEAVES: Final = 3
_NODES: Final = 4  # under each
_GPUS: Final = 8  # of a node
_HORIZON: Final = 600.0


# The roofline of a 70B model on four GPUs, on eight of them: half the time for everything but a
# step's fixed part, which the hop between two nodes adds to; the KV cache has the rest.
BIG_ENGINE: Final = EngineSettings(
    Timing(
        step_base=0.014,
        prefill_token=0.000_033,
        decode_sequence=0.000_03,
        prefill_context=0.75e-9,
        decode_context=26e-9,
    ),
    cache_tokens=1_327_000,
)


@dataclass(frozen=True, slots=True)
class Contestant:
    """A pool: a replica's needs, its engine, and its traffic in requests/s over time."""

    name: str
    pods: int
    gpus: int
    engine: EngineSettings
    most: int
    initial: int
    topology: Mapping[str, str]
    rate: Callable[[float, int], Callable[[float], float]]
    """(hours, seed) -> requests/s by time"""


POOLS: Final = (
    Contestant(
        name="big",
        pods=4,
        gpus=2,
        engine=BIG_ENGINE,
        most=12,
        initial=3,
        topology=MappingProxyType({"required": LEAF_LABEL}),
        rate=lambda hours, seed: diurnal(hours, 2.4, seed),
    ),
    Contestant(
        name="small",
        pods=1,
        gpus=2,
        engine=preset("32b-h100x2"),
        most=40,
        initial=6,
        topology=MappingProxyType({}),
        rate=lambda hours, seed: spikes(hours, 1.2, seed),
    ),
)


class Figures(Struct, frozen=True):
    """One way to scale, with ``load`` times the usual traffic, for one seed or some together.

    ``device_hours`` run up to the last arrival, idle and useless ones too.

    ``long_pending``: pods that had no node for more than a minute; ``partial_hours``: device-hours
    of replicas that waited for the rest of their pods.
    """

    way: str
    load: float
    seeds: tuple[int, ...]
    requests: int
    attainment: float
    attainment_big: float
    attainment_small: float
    failed: int
    device_hours: float
    partial_hours: float
    pods: int
    long_pending: int
    longest_pending: float
    most_wanted: int
    wall_seconds: float


def contest(
    way: str,
    hours: float,
    seed: int,
    trace: str = "sample",
    progress: Callable[[str], object] = lambda _: None,
    *,
    load: float = OVERSUBSCRIBING,
) -> Figures:
    """Play one of the ways. ``load``: so many times the usual traffic."""
    began = perf_counter()
    collecting = gc.isenabled()
    gc.disable()
    try:
        machines, pools = _set_up(way, hours, seed, recorded(trace).workload, load)
        end = max(pool.last for pool in pools)
        machines.schedule()
        paid = 0.0
        timeline = machines.timeline

        def account() -> None:
            nonlocal paid
            paid = machines.device_seconds()

        timeline.at(end, account)
        told = 0.0
        while not all(pool.over for pool in pools) and timeline.step(end + _HORIZON):
            if timeline.now >= told:
                progress(f"{way}: {timeline.now / 60:.0f} of {end / 60:.0f} minutes")
                told = timeline.now + 60.0
    finally:
        if collecting:
            gc.enable()
    wall = perf_counter() - began
    played = {pool.name: pool.result(wall) for pool in pools}
    return _figures(way, load, seed, machines, played, paid, wall)


def inventory(seed: int) -> Inventory:
    """The cluster, fragmented by what others hold."""
    dice = Random(f"cluster {seed}")
    made = Inventory()
    made.upsert_class(device_class())
    for number in range(_LEAVES * _NODES):
        name = f"node-{number}"
        made.upsert_node(node(name, {LEAF_LABEL: f"leaf-{number // _NODES}"}))
        gpus = [gpu(index, "H100", "80Gi", root=index) for index in range(_GPUS)]
        made.upsert_slice(device_slice(name, gpus))
        held = dice.choice([0, 0, 1, 2, 3, 3, 5, 6])
        made.upsert_claim(_others(name, held))
    return made


def _others(name: str, held: int) -> Object:
    results = [
        {"request": "gpu", "driver": DRIVER, "pool": name, "device": f"gpu-{index}"}
        for index in range(held)
    ]
    return {
        "metadata": {"name": f"{name}-others", "namespace": "others"},
        "status": {"allocation": {"devices": {"results": results}}},
    }


def capacity_of(pool: Contestant) -> Capacity:
    """The InferenceCapacity of a contestant."""
    return capacity_from(
        {
            "apiVersion": "inferway.dev/v1alpha1",
            "kind": "InferenceCapacity",
            "metadata": {"name": pool.name, "namespace": "default"},
            "spec": {
                "poolRef": {"name": pool.name},
                "replicas": {"min": 1, "max": pool.most},
                "roles": [
                    {
                        "name": "server",
                        "pods": pool.pods,
                        "devices": [{"name": "gpu", "deviceClassName": CLASS, "count": pool.gpus}],
                        "template": {"spec": {"containers": [{"name": "server"}]}},
                    }
                ],
                "topology": dict(pool.topology),
                "preemption": "FairShare",
            },
        }
    )


def _set_up(
    way: str, hours: float, seed: int, trace: Workload, load: float
) -> tuple[Machines, list[ContestPool]]:
    timeline = Timeline()
    machines = Machines(timeline, inventory(seed), Random(f"scheduler {seed}"))
    planner = Planner(machines.inventory, Ledger())
    machines.start()
    market = Market(machines.claims)
    pools = []
    for one in POOLS:
        capacity = capacity_of(one)
        seats: Seats = (
            PlannedSeats(capacity, planner, machines, one.most, market)
            if way == CLOSED
            else HopedForSeats(capacity, machines)
        )
        workload = at_rate(
            trace, one.name, _scaled(one.rate(hours, seed), load), hours * 3_600.0, seed
        )
        scene = Scene(
            workload=workload,
            engine=one.engine,
            settings=ScalingSettings(
                roles={Role.BOTH: Bounds(least=1, most=one.most)},
                objective=Objective(ttft=4.0, itl=0.1),
            ),
            initial=one.initial,
            startup=(60.0, 180.0),
            horizon=_HORIZON,
        )
        pools.append(ContestPool(one.name, scene, seats, timeline, seed))
    for pool in pools:
        machines.freed.append(pool.room_again)
        pool.begin()
    market.pools.update({pool.name: pool for pool in pools})
    return machines, pools


def _scaled(rate: Callable[[float], float], load: float) -> Callable[[float], float]:
    return lambda at: load * rate(at)


def _figures(
    way: str,
    load: float,
    seed: int,
    machines: Machines,
    played: Mapping[str, Played],
    paid: float,
    wall: float,
) -> Figures:
    now, objective = machines.timeline.now, Objective(ttft=4.0, itl=0.1)
    good = {
        name: sum(attained(one, objective) for one in play.flights) for name, play in played.items()
    }
    total = {name: len(play.flights) for name, play in played.items()}
    waits = [pod.pending_seconds(now) for pod in machines.pods]
    return Figures(
        way=way,
        load=load,
        seeds=(seed,),
        requests=sum(total.values()),
        attainment=sum(good.values()) / sum(total.values()),
        attainment_big=good["big"] / total["big"],
        attainment_small=good["small"] / total["small"],
        failed=sum(one.finished_at is None for play in played.values() for one in play.flights),
        device_hours=paid / 3_600.0,
        partial_hours=machines.partial_seconds() / 3_600.0,
        pods=len(machines.pods),
        long_pending=sum(wait > LONG_PENDING for wait in waits),
        longest_pending=max(waits, default=0.0),
        most_wanted=max(moment.wanted for play in played.values() for moment in play.moments),
        wall_seconds=wall,
    )


def together(found: Sequence[Figures]) -> Figures:
    """Plays of one way and load as one: sums, and attainment over all requests."""
    requests = sum(one.requests for one in found)

    def mean(name: str) -> float:
        total: float = sum(getattr(one, name) * one.requests for one in found)
        return total / requests

    return Figures(
        way=found[0].way,
        load=found[0].load,
        seeds=tuple(seed for one in found for seed in one.seeds),
        requests=requests,
        attainment=mean("attainment"),
        attainment_big=mean("attainment_big"),
        attainment_small=mean("attainment_small"),
        failed=sum(one.failed for one in found),
        device_hours=sum(one.device_hours for one in found),
        partial_hours=sum(one.partial_hours for one in found),
        pods=sum(one.pods for one in found),
        long_pending=sum(one.long_pending for one in found),
        longest_pending=max(one.longest_pending for one in found),
        most_wanted=max(one.most_wanted for one in found),
        wall_seconds=sum(one.wall_seconds for one in found),
    )


def checks(closed: Figures, ignored: Figures) -> list[Check]:
    """The closed loop leaves nothing Pending, serves no worse, and takes fewer devices."""
    at = f"load {closed.load:g}: "
    return [
        at_most(f"{at}pods Pending > 60 s, closed loop", closed.long_pending, 0, "pods"),
        at_least(
            f"{at}SLO attainment, closed loop", closed.attainment, ignored.attainment, "share"
        ),
        at_most(
            f"{at}device-hours, closed loop",
            closed.device_hours,
            ignored.device_hours,
            "device-hours",
        ),
    ]
