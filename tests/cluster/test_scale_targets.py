"""Scale targets in a cluster: changed with care, and left alone when they are somebody else's."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from endpoints.kubernetes.errors import NotFoundError
from endpoints.kubernetes.resources import DEPLOYMENTS, PODS, STATEFUL_SETS, Object, Resource
from endpoints.scaling.actuators.actuator import ActuatorError, MovedError, Phase, Target
from endpoints.scaling.actuators.kubernetes import (
    DELETION_COST,
    HPAS,
    LEADER_WORKER_SETS,
    LEAVING,
    LOWEST_COST,
    SCALED_OBJECTS,
    KubernetesActuator,
    TargetRef,
)
from tests.support.clusters import QUICK, Cluster, eventually

CLIQUES = Resource("grove.io", "v1alpha1", "podcliques", "PodClique")


def workload(replicas: int, app: str = "decode") -> Object:
    template = {
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "server", "image": "example.com/server:1"}]},
    }
    return {
        "metadata": {"name": app},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": app}},
            "serviceName": app,
            "template": template,
        },
    }


def deployment(replicas: int, app: str = "decode") -> Object:
    item = workload(replicas, app)
    del item["spec"]["serviceName"]
    return item


@asynccontextmanager
async def actuator(
    cluster: Cluster, kind: str = "Deployment", api_version: str = "apps/v1", **options: object
) -> AsyncIterator[KubernetesActuator]:
    ref = TargetRef(cluster.namespace, "decode", kind, api_version)
    found = KubernetesActuator(cluster.connection, ref, endpoints=dict, caches=QUICK)
    await found.start()
    try:
        yield found
    finally:
        await found.close()


async def pods(cluster: Cluster, *names: str, **labels: str) -> None:
    """Pods of the target, where no controller makes them."""
    for number, name in enumerate(names):
        await cluster.pod(name, f"127.0.0.{number + 2}", labels={"app": "decode", **labels})


async def annotations(cluster: Cluster, pod: str) -> dict[str, str]:
    item = await cluster.objects.get(PODS, pod, cluster.namespace)
    found: dict[str, str] = item["metadata"].get("annotations") or {}
    return found


async def settled(one: KubernetesActuator, holds: Callable[[Target], bool]) -> Target:
    """The target once it is as expected: HPAs and pods come by watches."""
    found: list[Target] = []

    async def look() -> bool:
        try:
            found[:] = [await one.look()]
        except ActuatorError:
            return False
        return holds(found[0])

    await eventually(look)
    return found[0]


async def test_a_deployment_is_scaled_by_its_scale_subresource(cluster: Cluster) -> None:
    await cluster.create(DEPLOYMENTS, deployment(2))
    async with actuator(cluster) as one:
        target = await settled(one, lambda target: target.owner is None)
        assert target.replicas == 2
        await one.check()  # a dry run
        assert (await one.look()).replicas == 2
        await one.scale(target, 5, ())
        item = await cluster.objects.get(DEPLOYMENTS, "decode", cluster.namespace)
        assert item["spec"]["replicas"] == 5
        managers = {entry["manager"] for entry in item["metadata"]["managedFields"]}
        assert "inferway-scaler" in managers


async def test_a_number_that_somebody_changed_meanwhile_is_not_overwritten(
    cluster: Cluster,
) -> None:
    await cluster.create(DEPLOYMENTS, deployment(2))
    async with actuator(cluster) as one:
        target = await settled(one, lambda target: target.owner is None)
        await cluster.objects.set_scale(DEPLOYMENTS, "decode", cluster.namespace, 7)
        with pytest.raises(MovedError, match="2 replicas became 7"):
            await one.scale(target, 3, ())
        assert (await one.look()).replicas == 7


async def test_a_target_whose_number_stands_is_scaled_though_it_was_touched(
    cluster: Cluster,
) -> None:
    await cluster.create(DEPLOYMENTS, deployment(2))
    async with actuator(cluster) as one:
        target = await settled(one, lambda target: target.owner is None)
        touch = {"metadata": {"annotations": {"touched": "yes"}}}
        await cluster.objects.merge_patch(DEPLOYMENTS, "decode", touch, cluster.namespace)
        await one.scale(target, 3, ())
        assert (await one.look()).replicas == 3


async def test_the_target_of_an_hpa_is_the_hpas(cluster: Cluster) -> None:
    await cluster.create(DEPLOYMENTS, deployment(2))
    ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "decode"}
    hpa = {
        "metadata": {"name": "theirs"},
        "spec": {"scaleTargetRef": ref, "minReplicas": 1, "maxReplicas": 4},
    }
    async with actuator(cluster) as one:
        await settled(one, lambda target: target.owner is None)
        await cluster.create(HPAS, hpa)
        target = await settled(one, lambda target: target.owner is not None)
        assert target.owner == "HorizontalPodAutoscaler theirs"
        await cluster.objects.delete(HPAS, "theirs", cluster.namespace)
        await settled(one, lambda target: target.owner is None)


async def test_the_target_of_a_scaled_object_is_kedas(cluster: Cluster) -> None:
    cluster.stand_in_only("KEDA must be installed")
    await cluster.create(DEPLOYMENTS, deployment(2))
    spec = {"scaleTargetRef": {"name": "decode"}, "triggers": []}
    await cluster.create(SCALED_OBJECTS, {"metadata": {"name": "theirs"}, "spec": spec})
    async with actuator(cluster) as one:
        target = await settled(one, lambda target: target.owner is not None)
        assert target.owner == "ScaledObject theirs"


async def test_an_hpa_of_another_target_is_none_of_ours(cluster: Cluster) -> None:
    await cluster.create(DEPLOYMENTS, deployment(2))
    ref = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "decode"}
    hpa = {
        "metadata": {"name": "theirs"},
        "spec": {"scaleTargetRef": ref, "minReplicas": 1, "maxReplicas": 4},
    }
    await cluster.create(HPAS, hpa)
    async with actuator(cluster) as one:
        assert (await settled(one, lambda target: target.owner is None)).replicas == 2


async def test_hpas_that_can_not_be_read_could_be_there(cluster: Cluster) -> None:
    server = cluster.stand_in_only("rights are taken away")
    server.access.refuse("horizontalpodautoscalers", verbs=["list"])
    await cluster.create(DEPLOYMENTS, deployment(2))
    async with actuator(cluster) as one:
        target = await one.look()
        assert target.owner is not None
        assert "HorizontalPodAutoscalers can't be read" in target.owner


async def test_victims_get_the_lowest_cost_and_their_own_one_back(cluster: Cluster) -> None:
    cluster.stand_in_only("a Deployment's own pods are made by hand")
    await cluster.create(DEPLOYMENTS, deployment(3))
    await pods(cluster, "decode-a", "decode-b", "decode-c")
    own = {"metadata": {"annotations": {DELETION_COST: "50"}}}
    await cluster.objects.merge_patch(PODS, "decode-b", own, cluster.namespace)
    async with actuator(cluster) as one:
        target = await settled(one, lambda target: len(target.members) == 3)
        assert {member.phase for member in target.members} == {Phase.RUNNING}
        await one.announce(target, ["decode-b", "decode-a"])
        assert await annotations(cluster, "decode-b") == {
            DELETION_COST: str(LOWEST_COST), LEAVING: "50"}  # fmt: skip
        assert (await annotations(cluster, "decode-a"))[DELETION_COST] == str(LOWEST_COST + 1)
        assert await annotations(cluster, "decode-c") == {}
        target = await settled(one, lambda target: sum(m.announced for m in target.members) == 2)
        assert one.choosable(target, 1) is None
        assert list(one.removable(target, {"decode-b"})) == ["decode-b"]
        await one.announce(target, ["decode-a"])
        assert await annotations(cluster, "decode-b") == {DELETION_COST: "50"}
        await one.announce(target, [])
        assert await annotations(cluster, "decode-a") == {}


@pytest.mark.parametrize(
    ("resource", "label"),
    [
        (STATEFUL_SETS, "apps.kubernetes.io/pod-index"),
        (LEADER_WORKER_SETS, "leaderworkerset.sigs.k8s.io/group-index"),
    ],
)
async def test_ordinals_end_from_the_top(cluster: Cluster, resource: Resource, label: str) -> None:
    cluster.stand_in_only("pods are made by hand, and LeaderWorkerSets must be installed")
    await cluster.create(resource, workload(3))
    for number in range(3):
        await pods(cluster, f"decode-{number}", **{label: str(number)})
    async with actuator(cluster, resource.kind, resource.api_version) as one:
        target = await settled(one, lambda target: len(target.members) == 3)
        chosen = one.choosable(target, 2)
        assert chosen is not None
        assert [member.name for member in chosen] == ["decode-2", "decode-1"]
        assert list(one.removable(target, {"decode-1"})) == []
        assert list(one.removable(target, {"decode-1", "decode-2"})) == ["decode-2", "decode-1"]
        await one.scale(target, 1, ["decode-2", "decode-1"])
        assert (await one.look()).replicas == 1


async def test_any_kind_with_a_scale_subresource_will_do(cluster: Cluster) -> None:
    cluster.stand_in_only("Grove must be installed")
    await cluster.create(CLIQUES, workload(2))
    async with actuator(cluster, "PodClique", "grove.io/v1alpha1") as one:
        target = await settled(one, lambda target: target.owner is None)
        await one.scale(target, 4, ())
        assert (await one.look()).replicas == 4
    async with actuator(cluster, "ConfigMap", "v1") as one:
        with pytest.raises(ActuatorError, match="configmaps have no scale subresource"):
            await one.look()
    async with actuator(cluster, "Nonsense", "apps/v1") as one:
        with pytest.raises(ActuatorError, match="has no kind Nonsense"):
            await one.look()


async def test_pods_are_seen_as_what_they_are(cluster: Cluster) -> None:
    cluster.stand_in_only("pods are made by hand")
    await cluster.create(DEPLOYMENTS, deployment(4))
    await pods(cluster, "decode-fine", "decode-crashing", "decode-done")
    unscheduled = {"metadata": {"name": "decode-pending", "labels": {"app": "decode"}},
                   "spec": {"containers": [{"name": "server", "image": "i"}]}}  # fmt: skip
    await cluster.create(PODS, unscheduled)
    await cluster.objects.patch_status(
        PODS, "decode-pending", {"phase": "Pending"}, cluster.namespace
    )
    loop = {"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}
    await cluster.objects.patch_status(PODS, "decode-crashing", loop, cluster.namespace)
    await cluster.objects.patch_status(PODS, "decode-done", {"phase": "Failed"}, cluster.namespace)
    async with actuator(cluster) as one:
        target = await settled(one, lambda target: len(target.members) == 3)
        assert {member.name: member.phase for member in target.members} == {
            "decode-fine": Phase.RUNNING,
            "decode-crashing": Phase.FAILING,
            "decode-pending": Phase.PENDING,
        }


async def test_a_target_that_is_not_there_is_said(cluster: Cluster) -> None:
    async with actuator(cluster) as one:
        with pytest.raises(ActuatorError, match=r"Deployment .*decode.*404"):
            await one.look()
    with pytest.raises(NotFoundError):
        await cluster.objects.get(DEPLOYMENTS, "decode", cluster.namespace)
