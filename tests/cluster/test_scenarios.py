"""Random clusters and pools: what was called feasible runs, in its domain, and all of it goes.

Four against the stand-in, whose scheduler is simulated; 200 against a real control plane.
"""

from functools import partial
from typing import Any

from bench.cluster.agreement import capacity_item
from bench.cluster.scenarios import Scenario, scenario
from endpoints.allocation.controller.resources import CAPACITIES
from endpoints.kubernetes.resources import NODES
from tests.support.capacity_stage import Stage, capacity_stage
from tests.support.clusters import Cluster, eventually

_STAND_IN_SCENARIOS = 4
_REAL_SCENARIOS = 200
_AGREEING = 0.99
_PLAIN = [
    ("scheduling.run.ai", "podgroups"),
    ("scheduling.k8s.io", "workloads"),
    ("grove.io", "podcliquesets"),
]


async def test_plans_of_random_scenarios_come_true(cluster: Cluster) -> None:
    count = _REAL_SCENARIOS if cluster.real else _STAND_IN_SCENARIOS
    async with capacity_stage(cluster, without=_PLAIN) as stage:
        pods = agreeing = 0
        for seed in range(count):
            case = scenario(
                seed,
                prefix=f"{cluster.namespace}-{seed}-",
                driver=stage.driver,
                class_=stage.device_class,
            )
            here, planned = await _play(stage, case)
            pods += here
            agreeing += planned
        assert pods > count
        assert agreeing >= _AGREEING * pods


async def _play(stage: Stage, case: Scenario) -> tuple[int, int]:
    """Pods, and how many of them run in the domain and on the node that was planned."""
    for node in case.nodes:
        created = await stage.put(NODES, node)
        await stage.cluster.objects.patch_status(NODES, created["metadata"]["name"], node["status"])
    for slice_ in case.slices:
        await stage.put(stage.kinds.slices, slice_)
    names = {node["metadata"]["name"] for node in case.nodes}
    await eventually(lambda: names <= stage.controller.inventory.nodes.keys())
    await eventually(lambda: _devices_known(stage, case))
    for name, spec in case.pools.items():
        item = capacity_item(
            name, {**spec, "scheduler": {"type": "Plain"}}, stage.cluster.namespace
        )
        await stage.cluster.objects.create(CAPACITIES, item, stage.cluster.namespace)
    for name in case.pools:
        await eventually(partial(_settled, stage, name), 60.0)
    counts = [await _compare(stage, name) for name in case.pools]
    for name in case.pools:
        await stage.cluster.objects.delete(CAPACITIES, name, stage.cluster.namespace)
    for name in case.pools:
        await eventually(partial(_gone, stage, name), 60.0)
    for resource, name in stage.undo[1:][::-1]:
        await stage.cluster.objects.delete(resource, name, grace_seconds=0)
    del stage.undo[1:]
    await eventually(lambda: not names & stage.controller.inventory.nodes.keys())
    return sum(pods for pods, _ in counts), sum(planned for _, planned in counts)


def _devices_known(stage: Stage, case: Scenario) -> bool:
    known = stage.controller.inventory.pools
    names = {slice_["spec"]["pool"]["name"] for slice_ in case.slices}
    return names <= {key.name for key, pool in known.items() if not pool.problem}


async def _settled(stage: Stage, name: str) -> bool:
    """Whether everything that has a place runs."""
    status = await stage.status(name)
    if status.get("observedGeneration") is None:
        return False
    ready: bool = status["placed"] == status["ready"]
    return ready and (status["placed"] == status["wanted"] or status["limit"] != "")


async def _compare(stage: Stage, name: str) -> tuple[int, int]:
    status = await stage.status(name)
    planned: dict[tuple[str, str], Any] = {}
    for record in status["replicas"]:
        for role, index, node, *_ in record["plan"]["pods"]:
            planned[f"{record['name']}-{role}-{index}", node] = record["domain"]
    pods = await stage.pods(name)
    places = [(pod["metadata"]["name"], pod["spec"].get("nodeName")) for pod in pods]
    assert all(node is not None for _, node in places), "a pod waits that was called feasible"
    return len(places), sum(place in planned for place in places)


async def _gone(stage: Stage, name: str) -> bool:
    return not await stage.left(name)
