"""A whole gateway scales a Deployment, by its configuration alone."""

from pathlib import Path

import aiohttp
import pytest

from endpoints.allocation.controller.limits import CapacityLimit
from endpoints.allocation.controller.resources import CAPACITIES
from endpoints.kubernetes.resources import DEPLOYMENTS
from endpoints.scaling.ceiling import Ceiling
from endpoints.scaling.role import Role
from gateway.app import Gateway, StartError
from gateway.capacity import Capacity
from gateway.pool import Pool
from gateway.settings import (
    AdminSettings,
    ListenSettings,
    LogSettings,
    ScaledPoolSettings,
    ScaledRoleSettings,
    ScaleTargetSettings,
    ScalingSection,
    Settings,
)
from tests.support.clusters import Cluster, eventually
from tests.support.replicasets import names_of, running_deployment

KUBECONFIG = """{{apiVersion: v1, kind: Config, current-context: c,
clusters: [{{name: k, cluster: {{server: '{url}'}}}}],
contexts: [{{name: c, context: {{cluster: k, user: u}}}}],
users: [{{name: u, user: {{token: t}}}}]}}"""


def _settings(cluster: Cluster, kubeconfig: Path) -> Settings:
    target = ScaleTargetSettings(name="vllm")
    pool = ScaledPoolSettings(
        roles={"both": ScaledRoleSettings(target=target, min=0, max=3)},
        models=("llama",),
        interval=0.2,
        startup=5.0,
        idle=3600.0,
    )
    return Settings(
        listen=ListenSettings(port=0),
        admin=AdminSettings(port=0),
        scaling=ScalingSection(
            pools={"default": pool}, kubeconfig=str(kubeconfig), namespace=cluster.namespace
        ),
        log=LogSettings(access=False),
    )


async def test_a_request_for_a_pool_at_zero_makes_a_deployment_start(
    cluster: Cluster, tmp_path: Path
) -> None:
    server = cluster.stand_in_only("the gateway is given a kubeconfig of its own")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG.format(url=server.url))
    async with running_deployment(cluster, "vllm", 0):
        gateway = Gateway(_settings(cluster, kubeconfig))
        await gateway.start()
        try:
            async with aiohttp.ClientSession() as http:

                async def page() -> str:
                    url = f"http://127.0.0.1:{gateway.admin_port}/debug/scaling"
                    async with http.get(url) as response:
                        return await response.text()

                async def leads() -> bool:
                    return '"leading": true' in await page()

                await eventually(leads)

                async def one() -> bool:
                    return len(await names_of(cluster, "vllm")) == 1

                await eventually(one)
                scale = await cluster.objects.scale(DEPLOYMENTS, "vllm", cluster.namespace)
                assert scale.replicas == 1
                assert "Deployment" in await page()
        finally:
            await gateway.stop()


async def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path, cluster: Cluster) -> None:
    gateway = Gateway(_settings(cluster, tmp_path / "nowhere"))
    with pytest.raises(StartError, match="nowhere"):
        await gateway.start()
    await gateway.stop()


async def test_pools_come_and_go(cluster: Cluster) -> None:
    settings = Settings(
        scaling=ScalingSection(
            pools={"a": ScaledPoolSettings(roles={"both": ScaledRoleSettings()})}
        )
    )
    assert settings.scaling is not None
    capacity = Capacity(settings.scaling, settings.routing.objective, lambda: 0.0)
    await capacity.start()
    pool = Pool("a", settings, clock=lambda: 0.0, changed=lambda: None, requests=lambda _: 0)
    assert capacity.unattached == ["a"]
    capacity.came(pool)
    await eventually(lambda: "a" in capacity.controllers)
    assert capacity.rooms.of("a") is not None
    capacity.left("a")
    await eventually(lambda: not capacity.controllers)
    assert capacity.rooms.of("a") is None
    await capacity.stop()


async def test_devices_bound_the_size_of_a_pool(cluster: Cluster) -> None:
    cluster.stand_in_only("the definition of InferenceCapacity may not be installed")
    limit = CapacityLimit(cluster.objects, cluster.namespace, "llama", Role.BOTH)
    assert await limit() is None  # there is no such object yet: not known is not zero
    await cluster.objects.create(
        CAPACITIES,
        {
            "apiVersion": "inferway.dev/v1alpha1",
            "kind": "InferenceCapacity",
            "metadata": {"name": "llama", "namespace": cluster.namespace},
            "spec": {"replicas": {"wanted": 1, "max": 9}},
        },
        cluster.namespace,
    )
    assert await limit() is None
    said = {"feasible": 2, "afterPreemption": 3, "limit": "no leaf has 4 free GPUs"}
    await cluster.objects.patch_status(CAPACITIES, "llama", said, cluster.namespace)
    assert await limit() == {Role.BOTH: Ceiling(2, 3, "no leaf has 4 free GPUs")}


async def test_a_pool_grows_by_whole_replicas_of_a_capacity_and_no_further(
    cluster: Cluster, tmp_path: Path
) -> None:
    server = cluster.stand_in_only("the definition of InferenceCapacity may not be installed")
    await cluster.objects.create(
        CAPACITIES,
        {
            "apiVersion": "inferway.dev/v1alpha1",
            "kind": "InferenceCapacity",
            "metadata": {"name": "llama", "namespace": cluster.namespace},
            "spec": {"replicas": {"wanted": 0, "max": 9}, "slo": {"ttftSeconds": 0.7}},
        },
        cluster.namespace,
    )
    said = {"feasible": 1, "afterPreemption": 1, "limit": "no leaf has 4 free GPUs"}
    said["selector"] = "inferway.dev/capacity=llama"
    await cluster.objects.patch_status(CAPACITIES, "llama", said, cluster.namespace)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG.format(url=server.url))
    target = ScaleTargetSettings(
        name="llama", kind="InferenceCapacity", api_version="inferway.dev/v1alpha1"
    )
    pool = ScaledPoolSettings(
        roles={"both": ScaledRoleSettings(target=target, min=3, max=9)}, interval=0.2
    )
    section = ScalingSection(
        pools={"default": pool}, kubeconfig=str(kubeconfig), namespace=cluster.namespace
    )
    settings = Settings(
        listen=ListenSettings(port=0),
        admin=AdminSettings(port=0),
        scaling=section,
        log=LogSettings(access=False),
    )
    gateway = Gateway(settings)
    await gateway.start()
    try:

        async def grown() -> bool:
            item = await cluster.objects.get(CAPACITIES, "llama", cluster.namespace)
            wanted: int = item["spec"]["replicas"]["wanted"]
            assert wanted <= 1
            # Three are wanted at least, and devices allow one: the allocator hears of both.
            needed = (item["metadata"].get("annotations") or {}).get("inferway.dev/needed")
            return wanted == 1 and needed == "3"

        await eventually(grown)
        assert gateway.capacity is not None
        (controller,) = gateway.capacity.controllers.values()
        objective = controller.settings.objective
        assert (objective.ttft, objective.itl) == (0.7, settings.routing.objective.itl)
        url = f"http://127.0.0.1:{gateway.admin_port}/debug/scaling"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            assert "no leaf has 4 free GPUs" in await response.text()
    finally:
        await gateway.stop()
