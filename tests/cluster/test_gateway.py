"""The gateway before the pools of a cluster: real requests, real objects."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from bench.fleet.server import SimulatedServer
from endpoints.kubernetes.errors import NotFoundError
from endpoints.kubernetes.resources import (
    INFERENCE_MODEL_REWRITES,
    INFERENCE_OBJECTIVES,
    INFERENCE_POOLS,
    PODS,
    Object,
)
from gateway.app import Gateway
from gateway.settings import (
    AdminSettings,
    KubernetesSettings,
    ListenSettings,
    LogSettings,
    ProbeSettings,
    Settings,
)
from routing.endpoint import Load
from tests.support.clusters import Cluster, eventually
from tests.support.simulated import running


def settings_for(cluster: Cluster, **kubernetes: Any) -> KubernetesSettings:
    where = cluster.settings
    return KubernetesSettings(
        url=where.url,
        kubeconfig=where.kubeconfig,
        namespaces=(cluster.namespace,),
        **kubernetes,
    )


@asynccontextmanager
async def gateway_before(cluster: Cluster, **settings: Any) -> AsyncIterator[Gateway]:
    probes = settings.pop("probes", ProbeSettings(interval=0.1, models_interval=0.2))
    gateway = Gateway(
        Settings(
            listen=ListenSettings(port=0),
            admin=AdminSettings(port=0),
            kubernetes=settings_for(cluster),
            probes=probes,
            log=LogSettings(access=False, level="warning"),
            **settings,
        )
    )
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


def pool(name: str, *servers: SimulatedServer) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "targetPorts": [{"number": server.port} for server in servers],
            "endpointPickerRef": {"name": "inferway", "port": {"number": 9002}},
        },
    }


async def serve(cluster: Cluster, name: str, *servers: SimulatedServer) -> None:
    """A pool of one pod with a rank a server."""
    await cluster.create(INFERENCE_POOLS, pool(name, *servers))
    await cluster.pod(f"{name}-0", "127.0.0.1", labels={"app": name})


async def ask(gateway: Gateway, model: str, **more: Any) -> tuple[int, Any, str]:
    """Status, answer, and the endpoint that gave it."""
    headers = more.pop("headers", {})
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 3,
        **more,
    }
    url = f"http://127.0.0.1:{gateway.port}/v1/chat/completions"
    async with aiohttp.ClientSession() as http, http.post(url, json=body, headers=headers) as got:
        said = await (got.text() if more.get("stream") else got.json())
        return got.status, said, got.headers.get("x-inferway-endpoint", "")


async def test_each_request_goes_to_the_pool_that_serves_its_model(cluster: Cluster) -> None:
    async with AsyncExitStack() as stack:
        first, second, late = [
            await stack.enter_async_context(running(model=name)) for name in ("qwen", "llama", "m")
        ]
        await serve(cluster, "a", first)
        await serve(cluster, "b", second)
        gateway = await stack.enter_async_context(gateway_before(cluster))
        names = {f"{cluster.namespace}/{one}" for one in ("a", "b")}
        assert {name for name, _ in gateway.brains} == names
        for model, server, name in (("qwen", first, "a"), ("llama", second, "b")):
            status, said, endpoint = await ask(gateway, model)
            assert (status, said["model"]) == (200, model)
            assert endpoint == f"{cluster.namespace}/{name}-0:{server.port}"
        assert (await ask(gateway, "unknown"))[0] == 404

        await serve(cluster, "late", late)  # while it runs
        await eventually(lambda: gateway.brains.knows("m"))
        assert (await ask(gateway, "m"))[0] == 200

        await cluster.objects.delete(INFERENCE_POOLS, "a", cluster.namespace)
        await eventually(lambda: len(gateway.brains) == 2)
        assert (await ask(gateway, "qwen"))[0] == 404
        assert (await ask(gateway, "llama"))[0] == 200


async def test_a_pod_that_is_not_ready_any_more_gets_nothing(cluster: Cluster) -> None:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(running()) for _ in range(2)]
        for number, server in enumerate(servers):
            await serve(cluster, f"p{number}", server)
        gateway = await stack.enter_async_context(gateway_before(cluster))
        await cluster.pod_status("p0-0", ip="127.0.0.1", ready=False)
        await eventually(lambda: len(dict(gateway.brains)[f"{cluster.namespace}/p0"].fleet) == 0)
        for _ in range(3):
            status, _said, endpoint = await ask(gateway, "sim-8b")
            assert (status, endpoint.endswith(str(servers[1].port))) == (200, True)
        await cluster.objects.delete(PODS, "p1-0", cluster.namespace, grace_seconds=0)
        await eventually(lambda: len(dict(gateway.brains)[f"{cluster.namespace}/p1"].fleet) == 0)
        assert (await ask(gateway, "sim-8b"))[0] in {404, 503}


async def test_objectives_below_zero_are_shed_when_the_pool_is_saturated(cluster: Cluster) -> None:
    await _needs(cluster, INFERENCE_OBJECTIVES)
    async with running() as server:
        await serve(cluster, "a", server)
        for name, priority in (("batch", -1), ("chat", 10)):
            spec = {"poolRef": {"name": "a"}, "priority": priority}
            await cluster.create(INFERENCE_OBJECTIVES, {"metadata": {"name": name}, "spec": spec})
        async with gateway_before(cluster) as gateway:
            (router,) = (router for _, router in gateway.brains)
            await eventually(
                lambda: (
                    getattr(gateway.brains.rules_of(router), "priorities", None)
                    == {"batch": -1, "chat": 10}
                )
            )

            async def status(objective: str) -> int:
                headers = {"x-gateway-inference-objective": objective}
                return (await ask(gateway, "sim-8b", headers=headers))[0]

            assert [await status(name) for name in ("batch", "chat", "unknown")] == [200] * 3
            assert {one.request.priority for one in router.recent} == {-1, 10, 0}
            (state,) = router.fleet
            busy = Load(at=time.monotonic(), waiting=50.0)
            router.fleet.observe_load(state.name, busy)
            assert [await status(name) for name in ("batch", "chat")] == [429, 200]


async def test_a_canary_gets_its_share_and_answers_under_the_name_asked_for(
    cluster: Cluster,
) -> None:
    await _needs(cluster, INFERENCE_MODEL_REWRITES)
    async with AsyncExitStack() as stack:
        stable = await stack.enter_async_context(running(model="food-v1"))
        canary = await stack.enter_async_context(running(model="food-v2"))
        await serve(cluster, "a", stable, canary)
        targets = [{"modelRewrite": f"food-v{one}", "weight": 1} for one in (1, 2)]
        rule = {"matches": [{"model": {"value": "food"}}], "targets": targets}
        spec = {"poolRef": {"name": "a"}, "rules": [rule]}
        await cluster.create(INFERENCE_MODEL_REWRITES, {"metadata": {"name": "c"}, "spec": spec})
        gateway = await stack.enter_async_context(gateway_before(cluster))
        (router,) = (router for _, router in gateway.brains)
        await eventually(lambda: gateway.brains.rules_of(router) is not None)
        ports = set()
        for _ in range(20):
            status, said, endpoint = await ask(gateway, "food")
            assert (status, said["model"]) == (200, "food")
            ports.add(endpoint.rpartition(":")[2])
        assert ports == {str(stable.port), str(canary.port)}
        status, text, _ = await ask(gateway, "food", stream=True)
        assert status == 200
        assert '"food"' in text
        assert "food-v" not in text
        assert (await ask(gateway, "food-v2"))[1]["model"] == "food-v2"  # no rule names it


async def test_the_last_known_endpoints_serve_while_the_api_server_is_away(
    cluster: Cluster,
) -> None:
    api = cluster.stand_in_only("stops the API server")
    async with running() as server:
        await serve(cluster, "a", server)
        async with gateway_before(cluster) as gateway:
            await api.stop()
            assert (await ask(gateway, "sim-8b"))[0] == 200
            await eventually(lambda: _stale(gateway) > 0)
            assert (await ask(gateway, "sim-8b"))[0] == 200
            page = await _metrics(gateway)
            assert 'inferway_discovery_stale_seconds{namespace="' in page
            await api.start()


async def test_a_gateway_that_cannot_reach_the_cluster_says_that_it_is_not_ready(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.app._FIRST_ROUND_SECONDS", 0.1)
    api = cluster.stand_in_only("takes permissions away")
    api.access.refuse("inferencepools")
    async with gateway_before(cluster) as gateway:
        url = f"http://127.0.0.1:{gateway.admin_port}/readyz"
        async with aiohttp.ClientSession() as http, http.get(url) as got:
            assert got.status == 503
            assert "pools are not known" in await got.text()


def _stale(gateway: Gateway) -> float:
    assert gateway.cluster is not None
    assert gateway.cluster.discovery is not None
    return max(cache.stale_seconds for cache in gateway.cluster.discovery.caches())


async def _metrics(gateway: Gateway) -> str:
    url = f"http://127.0.0.1:{gateway.admin_port}/metrics"
    async with aiohttp.ClientSession() as http, http.get(url) as got:
        return await got.text()


async def _needs(cluster: Cluster, resource: Any) -> None:
    try:
        await cluster.objects.list(resource, cluster.namespace)
    except NotFoundError:
        pytest.skip(f"the cluster has no definition of {resource.name}")
