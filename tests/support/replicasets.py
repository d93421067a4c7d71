"""A Deployment in a cluster without kubelets: its pods run because tests say so.

On the stand-in, which has no controllers, `ReplicaSets` is the controller as well: it makes and
deletes pods as a ReplicaSet's would, the lowest deletion cost first.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex

from endpoints.discovery.keeper import FleetKeeper
from endpoints.kubernetes.errors import NotFoundError
from endpoints.kubernetes.resources import DEPLOYMENTS, PODS, Object
from endpoints.scaling.actuators.kubernetes import DELETION_COST
from routing.fleet import Endpoint, Fleet, ServedModel
from tests.support.clusters import Cluster

_STEP = 0.02


def deployment(name: str, replicas: int) -> Object:
    container = {"name": "server", "image": "example.com/server:1"}
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": name}},
        "template": template,
    }
    return {"metadata": {"name": name}, "spec": spec}


async def pods_of(cluster: Cluster, name: str) -> list[Object]:
    return list(await cluster.objects.list(PODS, cluster.namespace, label_selector=f"app={name}"))


async def names_of(cluster: Cluster, name: str) -> set[str]:
    return {pod["metadata"]["name"] for pod in await pods_of(cluster, name)}


class ReplicaSets:
    """Plays what is missing: kubelets, and on the stand-in the controller."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self._name = name

    async def run(self) -> None:
        while True:
            try:
                if not self._cluster.real:
                    await self._control()
                await self._make_ready()
            except NotFoundError:
                pass
            await asyncio.sleep(_STEP if not self._cluster.real else 0.2)

    async def _control(self) -> None:
        cluster, name = self._cluster, self._name
        scale = await cluster.objects.scale(DEPLOYMENTS, name, cluster.namespace)
        pods = await pods_of(cluster, name)
        for _ in range(len(pods), scale.replicas):
            await cluster.pod(f"{name}-{token_hex(3)}", "127.0.0.2", labels={"app": name})
        for pod in sorted(pods, key=_cost)[: max(len(pods) - scale.replicas, 0)]:
            await cluster.objects.delete(PODS, pod["metadata"]["name"], cluster.namespace)

    async def _make_ready(self) -> None:
        for pod in await pods_of(self._cluster, self._name):
            if (pod.get("status") or {}).get("phase") != "Running":
                await self._cluster.pod_status(pod["metadata"]["name"], ip="127.0.0.2", ready=True)


def _cost(pod: Object) -> int:
    return int((pod["metadata"].get("annotations") or {}).get(DELETION_COST, "0"))


@asynccontextmanager
async def running_deployment(cluster: Cluster, name: str, replicas: int) -> AsyncIterator[None]:
    await cluster.create(DEPLOYMENTS, deployment(name, replicas))
    task = asyncio.get_running_loop().create_task(ReplicaSets(cluster, name).run())
    try:
        while len(await pods_of(cluster, name)) != replicas:
            await asyncio.sleep(_STEP)
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def discovering(
    cluster: Cluster, name: str, fleet: Fleet, keeper: FleetKeeper
) -> AsyncIterator[None]:
    """Pods are endpoints, all well, and drained ones leave."""

    async def run() -> None:
        async with cluster.cache(PODS, label_selector=f"app={name}") as cache:
            while True:
                keeper.apply(
                    Endpoint(
                        f"{space}/{pod}:8000",
                        "http://127.0.0.2:8000",
                        labels=(("namespace", space), ("pod", pod)),
                    )
                    for (space, pod), item in cache.objects.items()
                    if item["metadata"].get("deletionTimestamp") is None
                )
                for state in list(fleet):
                    fleet.observe_models(state.name, [ServedModel("m")], 0.0)
                    fleet.observe_health(state.name, True, 0.0, "test")
                keeper.sweep()
                await asyncio.sleep(_STEP)

    task = asyncio.get_running_loop().create_task(run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
