"""Pools, their pods and their rules in a cluster, as the gateway is told of them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from endpoints.discovery.kubernetes.discovery import KubernetesDiscovery
from endpoints.discovery.kubernetes.pools import PoolSpec
from endpoints.discovery.kubernetes.rules import NO_RULES, PoolRules
from endpoints.discovery.kubernetes.settings import DiscoverySettings, ServiceSource
from endpoints.kubernetes.cache import Cache
from endpoints.kubernetes.connection import ClusterSettings, open_connection
from endpoints.kubernetes.errors import ForbiddenError, UnauthorizedError
from endpoints.kubernetes.listwatch import Phase
from endpoints.kubernetes.objects import Objects
from endpoints.kubernetes.resources import (
    ENDPOINT_SLICES,
    INFERENCE_MODEL_REWRITES,
    INFERENCE_OBJECTIVES,
    INFERENCE_POOLS,
    NODES,
    PODS,
    Object,
)
from routing.endpoint import Endpoint
from tests.support.clusters import QUICK, Cluster, eventually

RBAC = Path(__file__).parents[2] / "deploy/kubernetes/rbac.yaml"
_ZONE = "topology.kubernetes.io/zone"


class Told:
    """A listener that remembers the last of everything."""

    def __init__(self) -> None:
        self.pools: dict[str, PoolSpec] = {}
        self.wanted: dict[str, dict[str, Endpoint]] = {}
        self.pool_rules: dict[str, PoolRules] = {}
        self.log: list[str] = []

    def pool_came(self, spec: PoolSpec) -> None:
        self.pools[spec.name] = spec
        self.log.append(f"came {spec.name}")

    def pool_left(self, spec: PoolSpec) -> None:
        del self.pools[spec.name]
        self.log.append(f"left {spec.name}")

    def endpoints(self, pool: str, wanted: Sequence[Endpoint]) -> None:
        name = pool.partition("/")[2]
        self.wanted[name] = {one.name.partition("/")[2]: one for one in wanted}
        self.log.append(f"endpoints {name}: {' '.join(sorted(self.wanted[name]))}")

    def rules(self, pool: str, rules: PoolRules) -> None:
        self.pool_rules[pool.partition("/")[2]] = rules


@asynccontextmanager
async def discovering(cluster: Cluster, **settings: Any) -> AsyncIterator[Told]:
    told = Told()
    settings = {"namespaces": (cluster.namespace,), "cache": QUICK, **settings}
    discovery = KubernetesDiscovery(cluster.connection, DiscoverySettings(**settings), told)
    await discovery.start()
    try:
        assert await discovery.wait_synced(10.0)
        yield told
    finally:
        await discovery.stop()


def pool(name: str, ports: Sequence[int] = (8000,), **spec: Any) -> Object:
    picker = {"name": "epp", "port": {"number": 9002}}
    return {
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "targetPorts": [{"number": port} for port in ports],
            "endpointPickerRef": picker,
            **spec,
        },
    }


async def test_each_port_of_each_ready_pod_is_an_endpoint(cluster: Cluster) -> None:
    await cluster.create(INFERENCE_POOLS, pool("qwen", (8000, 8001)))
    labels = {"app": "qwen", "llm-d.ai/role": "decode", "inferway.dev/engine": "vllm"}
    await cluster.pod("a", "127.0.0.2", labels=labels, annotations={"inferway.dev/models": "m"})
    await cluster.pod("starting", "127.0.0.3", labels=labels, ready=False)
    await cluster.pod("other", "127.0.0.4", labels={"app": "llama"})
    async with discovering(cluster) as told:
        assert set(told.wanted["qwen"]) == {"a:8000", "a:8001"}
        endpoint = told.wanted["qwen"]["a:8001"]
        assert endpoint.url == "http://127.0.0.2:8001"
        assert endpoint.engine == "vllm"
        assert endpoint.models == ("m",)
        said = dict(endpoint.labels)
        assert said["role"] == said["llm-d.ai/role"] == "decode"
        assert (said["pod"], said["rank"], said["namespace"]) == ("a", "1", cluster.namespace)
        assert told.pools["qwen"].picker is not None

        await cluster.pod_status("starting", ip="127.0.0.3", ready=True)
        await eventually(lambda: len(told.wanted["qwen"]) == 4)
        await cluster.pod_status("a", ip="127.0.0.2", ready=False)
        await eventually(lambda: set(told.wanted["qwen"]) == {"starting:8000", "starting:8001"})
        await cluster.objects.delete(PODS, "starting", cluster.namespace, grace_seconds=0)
        await eventually(lambda: not told.wanted["qwen"])


async def test_a_pod_that_is_being_deleted_gets_nothing_new(cluster: Cluster) -> None:
    await cluster.create(INFERENCE_POOLS, pool("qwen"))
    await cluster.pod("a", "127.0.0.2", labels={"app": "qwen"})
    hold = {"metadata": {"finalizers": ["inferway.dev/test"]}}
    await cluster.objects.merge_patch(PODS, "a", hold, cluster.namespace)
    async with discovering(cluster) as told:
        assert set(told.wanted["qwen"]) == {"a:8000"}
        await cluster.objects.delete(PODS, "a", cluster.namespace, grace_seconds=0)
        await eventually(lambda: not told.wanted["qwen"])
        pod = await cluster.objects.get(PODS, "a", cluster.namespace)
        assert pod["metadata"]["deletionTimestamp"]  # it is there, and still ready
        let_go = {"metadata": {"finalizers": None}}
        await cluster.objects.merge_patch(PODS, "a", let_go, cluster.namespace)


async def test_several_pools_have_candidates_of_their_own(cluster: Cluster) -> None:
    for name in ("qwen", "llama"):
        await cluster.create(INFERENCE_POOLS, pool(name))
        await cluster.pod(name, "127.0.0.2", labels={"app": name})
    async with discovering(cluster) as told:
        assert set(told.wanted["qwen"]) == {"qwen:8000"}
        assert set(told.wanted["llama"]) == {"llama:8000"}
        await cluster.create(INFERENCE_POOLS, pool("late", (9000,)))
        await eventually(lambda: told.wanted.get("late") == {})
        moved = {"metadata": {"labels": {"app": "late"}}}
        await cluster.objects.merge_patch(PODS, "llama", moved, cluster.namespace)
        await eventually(lambda: set(told.wanted["late"]) == {"llama:9000"})
        await eventually(lambda: not told.wanted["llama"])
        await cluster.objects.delete(INFERENCE_POOLS, "llama", cluster.namespace)
        await eventually(lambda: set(told.pools) == {"qwen", "late"})


async def test_a_changed_pool_keeps_its_endpoints_until_the_new_ones_are_known(
    cluster: Cluster,
) -> None:
    await cluster.create(INFERENCE_POOLS, pool("qwen"))
    await cluster.pod("a", "127.0.0.2", labels={"app": "qwen"})
    await cluster.pod("b", "127.0.0.3", labels={"app": "other"})
    async with discovering(cluster) as told:
        ports = {"spec": {"targetPorts": [{"number": 8000}, {"number": 8002}]}}
        await cluster.objects.merge_patch(INFERENCE_POOLS, "qwen", ports, cluster.namespace)
        await eventually(lambda: set(told.wanted["qwen"]) == {"a:8000", "a:8002"})
        selector = {"spec": {"selector": {"matchLabels": {"app": "other"}}}}
        await cluster.objects.merge_patch(INFERENCE_POOLS, "qwen", selector, cluster.namespace)
        await eventually(lambda: set(told.wanted["qwen"]) == {"b:8000", "b:8002"})
        assert "endpoints qwen: " not in told.log  # it was never empty in between


async def test_pools_can_be_chosen_by_name_and_by_picker(cluster: Cluster) -> None:
    await cluster.create(INFERENCE_POOLS, pool("ours"))
    theirs = {"name": "somebody-else", "port": {"number": 9002}, "failureMode": "FailOpen"}
    await cluster.create(INFERENCE_POOLS, pool("theirs", endpointPickerRef=theirs))
    async with discovering(cluster, picker="epp") as told:
        assert set(told.pools) == {"ours"}
    async with discovering(cluster, pools=("theirs",)) as told:
        assert set(told.pools) == {"theirs"}
        assert told.pools["theirs"].picker is not None
        assert told.pools["theirs"].picker.fail_open


async def test_a_pool_that_names_no_picker_is_ours(cluster: Cluster) -> None:
    if cluster.real:
        pytest.skip("only with the definitions of GIE 1.6: before, a picker was required")
    nobody = pool("nobody")
    del nobody["spec"]["endpointPickerRef"]
    await cluster.create(INFERENCE_POOLS, nobody)
    async with discovering(cluster, picker="epp") as told:
        assert told.pools["nobody"].picker is None


async def test_a_node_tells_where_its_pods_are(cluster: Cluster) -> None:
    node = f"node-{cluster.namespace}"
    zone = "topology.kubernetes.io/zone"
    labels = {zone: "z1", "nvidia.com/gpu.product": "H100", "unrelated": "x"}
    await cluster.objects.create(NODES, {"metadata": {"name": node, "labels": labels}})
    try:
        await cluster.create(INFERENCE_POOLS, pool("qwen"))
        await cluster.pod("a", "127.0.0.2", labels={"app": "qwen"}, nodeName=node)
        async with discovering(cluster) as told:

            def said() -> dict[str, str]:
                return dict(told.wanted["qwen"]["a:8000"].labels)

            await eventually(lambda: said().get("zone") == "z1")
            assert said()["hardware"] == "H100"
            assert said()["node"] == node
            assert "unrelated" not in said()
            await cluster.objects.merge_patch(NODES, node, {"metadata": {"labels": {zone: "z2"}}})
            await eventually(lambda: said()["zone"] == "z2")
            await cluster.objects.delete(PODS, "a", cluster.namespace, grace_seconds=0)
    finally:
        await cluster.objects.delete(NODES, node)


async def test_objectives_and_rewrites_follow_their_objects(cluster: Cluster) -> None:
    if cluster.real and not await _has(cluster, INFERENCE_OBJECTIVES):
        pytest.skip("the cluster has no InferenceObjective definition")
    await cluster.create(INFERENCE_POOLS, pool("qwen"))
    async with discovering(cluster) as told:
        assert told.pool_rules["qwen"] == NO_RULES
        reference = {"poolRef": {"name": "qwen"}}
        await cluster.create(
            INFERENCE_OBJECTIVES,
            {"metadata": {"name": "batch"}, "spec": {**reference, "priority": -10}},
        )
        await cluster.create(
            INFERENCE_OBJECTIVES, {"metadata": {"name": "plain"}, "spec": reference}
        )
        await eventually(lambda: told.pool_rules["qwen"].priorities == {"batch": -10, "plain": 0})
        targets = [{"modelRewrite": "m-v1", "weight": 90}, {"modelRewrite": "m-v2", "weight": 10}]
        rule = {"matches": [{"model": {"value": "m"}}], "targets": targets}
        await cluster.create(
            INFERENCE_MODEL_REWRITES,
            {"metadata": {"name": "canary"}, "spec": {**reference, "rules": [rule]}},
        )
        await eventually(lambda: "m" in told.pool_rules["qwen"].rewrites)
        found = told.pool_rules["qwen"].rewrites["m"]
        assert (found.models, found.weights, found.by) == (("m-v1", "m-v2"), (90, 10), "canary")
        await cluster.objects.delete(INFERENCE_OBJECTIVES, "batch", cluster.namespace)
        await eventually(lambda: told.pool_rules["qwen"].priorities == {"plain": 0})


async def test_a_headless_service_is_a_pool_without_any_definitions(cluster: Cluster) -> None:
    source = ServiceSource(cluster.namespace, "vllm", "http")
    members = [
        {"addresses": ["10.0.0.2"], "targetRef": {"kind": "Pod", "name": "a"}},
        {"addresses": ["10.0.0.3"], "conditions": {"ready": False}},
        {"addresses": ["10.0.0.4"], "conditions": {"ready": True, "terminating": True}},
    ]
    slices = {
        "metadata": {"name": "vllm-1", "labels": {"kubernetes.io/service-name": "vllm"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8000}, {"name": "metrics", "port": 9000}],
        "endpoints": members,
    }
    await cluster.create(ENDPOINT_SLICES, slices)
    async with discovering(cluster, inference_pools=False, services=(source,)) as told:
        assert set(told.wanted["vllm"]) == {"a:8000"}
        ready = {"endpoints": [{**members[0]}, {**members[1], "conditions": {"ready": True}}]}
        await cluster.objects.merge_patch(ENDPOINT_SLICES, "vllm-1", ready, cluster.namespace)
        await eventually(lambda: set(told.wanted["vllm"]) == {"a:8000", "10.0.0.3:8000"})


async def test_a_pool_with_the_name_of_a_service_that_is_served_is_refused(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    await cluster.create(INFERENCE_POOLS, pool("qwen"))
    await cluster.pod("a", "127.0.0.2", labels={"app": "qwen"})
    source = ServiceSource(cluster.namespace, "qwen")
    async with discovering(cluster, services=(source,)) as told:
        await eventually(lambda: "a Service that is served has its name" in caplog.text)
        assert told.wanted["qwen"] == {}


async def test_an_api_server_that_restarts_empties_nothing(cluster: Cluster) -> None:
    server = cluster.stand_in_only("restarts the API server")
    await cluster.create(INFERENCE_POOLS, pool("qwen"))
    await cluster.pod("a", "127.0.0.2", labels={"app": "qwen"})
    async with discovering(cluster) as told:
        before = list(told.log)
        await server.stop()
        kind = server.catalogue.find("", "v1", "pods")
        assert kind is not None
        server.store.forget()
        await server.start()
        await cluster.pod("b", "127.0.0.3", labels={"app": "qwen"})
        await eventually(lambda: set(told.wanted["qwen"]) == {"a:8000", "b:8000"})
        assert told.log[len(before) :] == ["endpoints qwen: a:8000 b:8000"]


async def test_what_may_not_be_read_is_said_and_the_rest_works(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    server = cluster.stand_in_only("takes permissions away")
    for resource in ("nodes", "inferenceobjectives", "inferencemodelrewrites"):
        server.access.refuse(resource)
    await cluster.create(INFERENCE_POOLS, pool("qwen"))
    await cluster.pod("a", "127.0.0.2", labels={"app": "qwen"})
    async with discovering(cluster) as told:
        assert set(told.wanted["qwen"]) == {"a:8000"}
        await eventually(lambda: "nodes: not allowed to read them" in caplog.text)
        server.access.refuse("pods")
        server.close_watches()
        await cluster.create(INFERENCE_POOLS, pool("late"))
        await eventually(lambda: "pods in namespace" in caplog.text)
        assert "rbac.yaml" in caplog.text
        assert set(told.wanted["qwen"]) == {"a:8000"}
        assert "late" not in told.wanted  # not known is not empty


async def test_the_role_that_is_shipped_is_enough_and_no_more(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = cluster.stand_in_only("grants and takes permissions")
    node = f"node-{cluster.namespace}"
    await cluster.objects.create(NODES, {"metadata": {"name": node, "labels": {_ZONE: "z"}}})
    await cluster.create(INFERENCE_POOLS, pool("qwen"))
    await cluster.pod("a", "127.0.0.2", labels={"app": "qwen"}, nodeName=node)
    for item in yaml.safe_load_all(RBAC.read_text()):
        if item["kind"] == "Role":
            server.access.grant("inferway", item["rules"], cluster.namespace)
        elif item["kind"] == "ClusterRole":
            server.access.grant("inferway", item["rules"])
    token = tmp_path / "token"
    token.write_text("secret\n")
    server.access.tokens["secret"] = "inferway"
    us = ClusterSettings(url=server.url, token_file=str(token))
    connection = await open_connection(us)
    try:
        source = ServiceSource(cluster.namespace, "plain")
        async with discovering(replace(cluster, connection=connection), services=(source,)) as told:
            await eventually(lambda: dict(told.wanted["qwen"]["a:8000"].labels)["zone"] == "z")
            await eventually(lambda: told.wanted.get("plain") == {})
        assert "not allowed" not in caplog.text
        with pytest.raises(ForbiddenError):
            await Objects(connection).get(PODS, "a", cluster.namespace)
        with pytest.raises(ForbiddenError):
            await Objects(connection).list(PODS)
        token.write_text("old")
        with pytest.raises(UnauthorizedError):
            await Objects(connection).list(PODS, cluster.namespace)
    finally:
        await connection.close()


async def test_a_pool_that_breaks_the_rules_is_named_and_the_last_good_one_stays(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.stand_in_only("checks nothing, as older definitions do")
    await cluster.create(INFERENCE_POOLS, pool("qwen"))
    await cluster.pod("a", "127.0.0.2", labels={"app": "qwen"})
    async with discovering(cluster) as told:
        same = {"spec": {"targetPorts": [{"number": 1}, {"number": 1}]}}
        await cluster.objects.merge_patch(INFERENCE_POOLS, "qwen", same, cluster.namespace)
        await eventually(lambda: "port number must be unique" in caplog.text)
        assert set(told.wanted["qwen"]) == {"a:8000"}
        assert caplog.text.count("port number must be unique") == 1


async def _has(cluster: Cluster, resource: Any) -> bool:
    cache = Cache(cluster.connection, resource, namespace=cluster.namespace, settings=QUICK)
    await cache.start()
    await cache.wait_answered(10.0)
    await cache.stop()
    return cache.condition.phase is not Phase.MISSING
