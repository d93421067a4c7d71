"""Lists, watches and writes, as everything else builds on them."""

import asyncio
import logging
from dataclasses import replace

import pytest

from bench.apiserver.server import Trouble
from endpoints.kubernetes.cache import Cache
from endpoints.kubernetes.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnreachableError,
)
from endpoints.kubernetes.listwatch import Phase
from endpoints.kubernetes.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    INFERENCE_POOLS,
    PODS,
    Key,
    Object,
    Resource,
)
from tests.support.clusters import QUICK, Cluster, eventually

UNKNOWN = Resource("unheard-of.example.com", "v1", "things", "Thing")


def config_map(name: str, **data: str) -> Object:
    return {"metadata": {"name": name, "labels": {"app": name[0]}}, "data": data}


async def test_a_cache_follows_what_is_created_changed_and_deleted(cluster: Cluster) -> None:
    told: list[frozenset[Key]] = []
    await cluster.create(CONFIG_MAPS, config_map("a-1", x="1"))
    async with cluster.cache(CONFIG_MAPS, label_selector="app in (a,b)") as cache:
        cache.subscribe(told.append)
        key = (cluster.namespace, "a-1")
        assert cache.objects[key]["data"] == {"x": "1"}
        assert "managedFields" not in cache.objects[key]["metadata"]
        await cluster.create(CONFIG_MAPS, config_map("b-1"))
        await cluster.create(CONFIG_MAPS, config_map("c-1"))  # not selected
        patch = {"data": {"x": "2"}}
        await cluster.objects.merge_patch(CONFIG_MAPS, "a-1", patch, cluster.namespace)
        await eventually(lambda: cache.objects[key]["data"]["x"] == "2")
        await eventually(lambda: cache.get("b-1", cluster.namespace) is not None)
        unlabelled = {"metadata": {"labels": {"app": "other"}}}  # leaves the selection
        await cluster.objects.merge_patch(CONFIG_MAPS, "b-1", unlabelled, cluster.namespace)
        await eventually(lambda: cache.get("b-1", cluster.namespace) is None)
        await cluster.objects.delete(CONFIG_MAPS, "a-1", cluster.namespace)
        await eventually(lambda: key not in cache.objects)
        await eventually(lambda: bool(told) and set().union(*told) >= {key})
        assert cache.lists == 1


async def test_a_long_list_comes_in_pages(cluster: Cluster) -> None:
    for number in range(7):
        await cluster.create(CONFIG_MAPS, config_map(f"m-{number}"))
    found = await cluster.objects.list(
        CONFIG_MAPS, cluster.namespace, label_selector="app=m", page=3
    )
    assert [item["metadata"]["name"] for item in found] == [f"m-{number}" for number in range(7)]
    assert found[0]["kind"] == "ConfigMap"


async def test_metadata_alone_can_be_asked_for(cluster: Cluster) -> None:
    await cluster.create(CONFIG_MAPS, config_map("a-1", x="1"))
    async with cluster.cache(CONFIG_MAPS, metadata_only=True, label_selector="app=a") as cache:
        await cluster.create(CONFIG_MAPS, config_map("a-2", x="1"))
        await eventually(lambda: len(cache.objects) == 2)
        for item in cache.objects.values():
            assert item["kind"] == "PartialObjectMetadata"
            assert "data" not in item
            assert item["metadata"]["labels"] == {"app": "a"}


async def test_a_missing_resource_is_said_and_tried_again(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(cluster.connection, UNKNOWN, namespace=cluster.namespace, settings=QUICK)
    with caplog.at_level(logging.ERROR):
        await cache.start()
        assert await cache.wait_answered(10.0)
        await asyncio.sleep(0.3)
        await cache.stop()
    assert cache.condition.phase is Phase.MISSING
    assert not cache.listed
    (said,) = caplog.messages  # once, however often it is tried
    assert "install its definition" in said


async def test_a_resource_that_gets_installed_later_is_found(cluster: Cluster) -> None:
    server = cluster.stand_in_only("installs a definition")
    kind = server.catalogue.find("inference.networking.k8s.io", "v1", "inferencepools")
    assert kind is not None
    server.catalogue.remove(kind.group, kind.plural)
    cache = Cache(cluster.connection, INFERENCE_POOLS, settings=QUICK)
    await cache.start()
    assert await cache.wait_answered(5.0)
    assert cache.condition.phase is Phase.MISSING
    server.catalogue.add(kind)
    assert await cache.wait_synced(5.0)
    await cache.stop()


async def test_what_may_not_be_read_is_said_with_the_way_out(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    server = cluster.stand_in_only("takes permissions away")
    refusal = server.access.refuse("pods")
    cache = Cache(cluster.connection, PODS, namespace=cluster.namespace, settings=QUICK)
    with caplog.at_level(logging.ERROR):
        await cache.start()
        assert await cache.wait_answered(5.0)
    assert cache.condition.phase is Phase.FORBIDDEN
    assert "rbac.yaml" in caplog.text
    assert 'cannot list resource "pods"' in cache.condition.message
    server.access.refusals.remove(refusal)
    assert await cache.wait_synced(5.0)
    await cache.stop()


async def test_an_api_server_that_is_away_leaves_the_last_known(cluster: Cluster) -> None:
    server = cluster.stand_in_only("stops the API server")
    await cluster.create(CONFIG_MAPS, config_map("a-1"))
    async with cluster.cache(CONFIG_MAPS) as cache:
        await server.stop()
        await eventually(lambda: cache.condition.phase is Phase.STALE)
        assert len(cache.objects) == 1
        assert cache.stale_seconds >= 0.0
        await server.start()
        assert await cache.wait_synced(5.0)
        assert cache.lists == 1  # it went on from where it was
        assert cache.stale_seconds == 0.0
        await cluster.create(CONFIG_MAPS, config_map("a-2"))
        await eventually(lambda: len(cache.objects) == 2)


async def test_what_was_missed_while_history_was_forgotten_is_found(cluster: Cluster) -> None:
    server = cluster.stand_in_only("compacts the history")
    told: list[frozenset[Key]] = []
    for name in ("stays", "goes", "changes"):
        await cluster.create(CONFIG_MAPS, config_map(name))
    async with cluster.cache(CONFIG_MAPS) as cache:
        await asyncio.sleep(2 * QUICK.settle)  # the first list has been told
        cache.subscribe(told.append)
        await server.stop()
        space = cluster.namespace
        kind = server.catalogue.find("", "v1", "configmaps")
        assert kind is not None
        server.store.delete(kind, space, "goes")
        server.store.update(kind, space, "changes", config_map("changes", x="1"))
        server.store.create(kind, space, config_map("new"))
        server.forget()
        await server.start()
        await eventually(lambda: cache.lists == 2)
        assert {name for _space, name in cache.objects} == {"stays", "changes", "new"}
        await eventually(lambda: bool(told and set().union(*told)))
        assert {name for _space, name in set().union(*told)} == {"goes", "changes", "new"}


async def test_a_watch_whose_past_is_forgotten_lists_again(cluster: Cluster) -> None:
    server = cluster.stand_in_only("compacts the history")
    async with cluster.cache(CONFIG_MAPS) as cache:
        server.bookmark_seconds = 60.0
        await cluster.create(CONFIG_MAPS, config_map("a-1"))
        await eventually(lambda: len(cache.objects) == 1)
        kind = server.catalogue.find("", "v1", "configmaps")
        assert kind is not None
        server.store.create(kind, cluster.namespace, config_map("a-2"))
        server.forget()  # before the watch could tell of it: an ERROR event in the stream
        await eventually(lambda: cache.lists == 2)
        assert len(cache.objects) == 2


async def test_watches_that_end_are_taken_up_again(cluster: Cluster) -> None:
    server = cluster.stand_in_only("closes watches")
    async with cluster.cache(CONFIG_MAPS) as cache:
        for number in range(3):
            await eventually(lambda: server.watches == 1)
            await cluster.create(CONFIG_MAPS, config_map(f"a-{number}"))
            await eventually(lambda number=number: len(cache.objects) == number + 1)  # type: ignore[misc]
            server.close_watches()
        assert cache.lists == 1


async def test_a_watch_that_falls_silent_is_made_anew(cluster: Cluster) -> None:
    """As when the way to the API server is cut without anybody saying so."""
    server = cluster.stand_in_only("counts watches")
    server.bookmark_seconds = 60.0
    quiet = replace(QUICK, quiet_seconds=0.1, pacing=replace(QUICK.pacing, least=0.05))
    async with cluster.cache(CONFIG_MAPS, settings=quiet) as cache:
        await eventually(lambda: server.requests.get("watch", 0) >= 3)
        assert cache.synced
        await cluster.create(CONFIG_MAPS, config_map("a-1"))
        await eventually(lambda: len(cache.objects) == 1)
        assert cache.lists == 1


async def test_an_overloaded_server_is_given_the_time_that_it_asks_for(cluster: Cluster) -> None:
    server = cluster.stand_in_only("makes the API server refuse")
    server.troubles.append(Trouble(429, 1, "configmaps", retry_after=1))
    server.troubles.append(Trouble(500, 1, "configmaps"))
    cache = Cache(cluster.connection, CONFIG_MAPS, settings=QUICK)
    await cache.start()
    assert await cache.wait_synced(5.0)
    await cache.stop()
    assert server.requests["list"] == 3


async def test_writes_are_guarded_by_versions(cluster: Cluster) -> None:
    objects, space = cluster.objects, cluster.namespace
    made = await cluster.create(CONFIG_MAPS, config_map("a", x="1"))
    with pytest.raises(AlreadyExistsError):
        await cluster.create(CONFIG_MAPS, config_map("a"))
    changed = await objects.replace(CONFIG_MAPS, {**made, "data": {"x": "2"}})
    with pytest.raises(ConflictError):
        await objects.replace(CONFIG_MAPS, {**made, "data": {"x": "3"}})
    version = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}}
    with pytest.raises(ConflictError):
        await objects.merge_patch(CONFIG_MAPS, "a", {**version, "data": {"x": "3"}}, space)
    test = {"op": "test", "path": "/data/x", "value": "1"}
    replace = {"op": "replace", "path": "/data/x", "value": "3"}
    with pytest.raises(InvalidError):
        await objects.json_patch(CONFIG_MAPS, "a", [test, replace], space)
    await objects.json_patch(CONFIG_MAPS, "a", [{**test, "value": "2"}, replace], space)
    tried = await objects.merge_patch(CONFIG_MAPS, "a", {"data": {"x": "9"}}, space, dry_run=True)
    assert tried["data"] == {"x": "9"}
    assert (await objects.get(CONFIG_MAPS, "a", space))["data"] == {"x": "3"}
    with pytest.raises(ConflictError):
        await objects.delete(CONFIG_MAPS, "a", space, uid="11111111-1111-1111-1111-111111111111")
    with pytest.raises(ConflictError):
        old = changed["metadata"]["resourceVersion"]
        await objects.delete(CONFIG_MAPS, "a", space, resource_version=old)
    await objects.delete(CONFIG_MAPS, "a", space, uid=made["metadata"]["uid"])
    with pytest.raises(NotFoundError):
        await objects.get(CONFIG_MAPS, "a", space)


async def test_applying_owns_fields_and_removes_what_it_leaves_out(cluster: Cluster) -> None:
    objects, space = cluster.objects, cluster.namespace

    def ours(**data: str) -> Object:
        return {"metadata": {"name": "a", "namespace": space}, "data": data}

    made = await objects.apply(CONFIG_MAPS, ours(x="1", y="1"))
    assert made["data"] == {"x": "1", "y": "1"}
    same = await objects.apply(CONFIG_MAPS, ours(x="1", y="1"))
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert (await objects.apply(CONFIG_MAPS, ours(x="2")))["data"] == {"x": "2"}
    await objects.merge_patch(CONFIG_MAPS, "a", {"data": {"z": "1"}}, space)
    other = type(objects)(cluster.connection, "somebody-else")
    with pytest.raises(ConflictError) as conflict:
        await other.apply(CONFIG_MAPS, ours(x="3"))
    assert conflict.value.fields == (".data.x",)
    taken = await other.apply(CONFIG_MAPS, ours(x="3"), force=True)
    assert taken["data"] == {"x": "3", "z": "1"}
    with pytest.raises(ConflictError):
        await objects.apply(CONFIG_MAPS, ours(x="2"))


async def test_status_and_spec_are_written_apart(cluster: Cluster) -> None:
    objects, space = cluster.objects, cluster.namespace
    spec = {
        "selector": {"matchLabels": {"app": "a"}},
        "targetPorts": [{"number": 8000}],
    }
    pool = await cluster.create(INFERENCE_POOLS, {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": "a"},
        "spec": {**spec, "endpointPickerRef": {"name": "epp", "port": {"number": 9002}}},
    })  # fmt: skip
    assert pool["metadata"]["generation"] == 1
    parents = [{
        "parentRef": {"name": "g"},
        "conditions": [{
            "type": "Accepted",
            "status": "True",
            "reason": "Accepted",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    }]  # fmt: skip
    status = {"parents": parents, "unknown": 1}
    if cluster.real:
        del status["unknown"]
    after = await objects.patch_status(INFERENCE_POOLS, "a", status, space)
    assert after["metadata"]["generation"] == 1
    assert after["status"]["parents"][0]["conditions"][0]["type"] == "Accepted"
    patch = {"spec": {"targetPorts": [{"number": 8001}]}, "status": {"parents": []}}
    again = await objects.merge_patch(INFERENCE_POOLS, "a", patch, space)
    assert again["metadata"]["generation"] == 2
    assert again["status"]["parents"]


async def test_scale_is_guarded_by_its_version(cluster: Cluster) -> None:
    objects, space = cluster.objects, cluster.namespace
    await cluster.create(DEPLOYMENTS, {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "d"}},
            "template": {
                "metadata": {"labels": {"app": "d"}},
                "spec": {"containers": [{"name": "c", "image": "example.com/c:1"}]},
            },
        },
    })  # fmt: skip
    scale = await objects.scale(DEPLOYMENTS, "d", space)
    assert (scale.replicas, scale.selector) == (0, "app=d")
    after = await objects.set_scale(DEPLOYMENTS, "d", space, 2)
    assert after.replicas == 2
    with pytest.raises(ConflictError):
        await objects.set_scale(DEPLOYMENTS, "d", space, 1, resource_version=scale.resource_version)
    assert (await objects.get(DEPLOYMENTS, "d", space))["spec"]["replicas"] == 2


async def test_a_finalizer_holds_an_object_and_its_end_takes_dependents_along(
    cluster: Cluster,
) -> None:
    objects, space = cluster.objects, cluster.namespace
    owner = config_map("owner")
    owner["metadata"]["finalizers"] = ["inferway.dev/test"]
    made = await cluster.create(CONFIG_MAPS, owner)
    reference = {
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": made["metadata"]["uid"],
    }  # fmt: skip
    child = config_map("child")
    child["metadata"]["ownerReferences"] = [reference]
    await cluster.create(CONFIG_MAPS, child)
    await objects.delete(CONFIG_MAPS, "owner", space)
    held = await objects.get(CONFIG_MAPS, "owner", space)
    assert held["metadata"]["deletionTimestamp"]
    async with cluster.cache(CONFIG_MAPS, label_selector="app in (o,c)") as cache:
        assert len(cache.objects) == 2
        patch = {"metadata": {"finalizers": None}}
        await objects.merge_patch(CONFIG_MAPS, "owner", patch, space)
        await eventually(lambda: not cache.objects, 30.0)


async def test_names_can_be_left_to_the_server(cluster: Cluster) -> None:
    item = {"metadata": {"generateName": "made-"}, "data": {}}
    first, second = [await cluster.create(CONFIG_MAPS, item) for _ in range(2)]
    assert first["metadata"]["name"] != second["metadata"]["name"]
    assert first["metadata"]["name"].startswith("made-")


async def test_errors_say_what_happened(cluster: Cluster) -> None:
    server = cluster.stand_in_only("refuses and stops")
    server.access.refuse("configmaps", verbs=["create"])
    with pytest.raises(ForbiddenError, match="cannot create"):
        await cluster.create(CONFIG_MAPS, config_map("a"))
    await server.stop()
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1"):
        await cluster.objects.get(CONFIG_MAPS, "a", cluster.namespace)


async def test_what_cannot_be_understood_is_listed_again(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """As if an event had been lost: never silently."""
    heard = 0

    def stumbling(item: Object) -> Object:
        nonlocal heard
        if item["metadata"]["name"] == "a-2" and (heard := heard + 1) == 1:
            raise KeyError("metadata")
        return item

    async with cluster.cache(CONFIG_MAPS, label_selector="app=a", trim=stumbling) as cache:
        await cluster.create(CONFIG_MAPS, config_map("a-1"))
        await cluster.create(CONFIG_MAPS, config_map("a-2"))
        await eventually(lambda: len(cache.objects) == 2)
        assert cache.lists == 2
    assert "what the API server said can't be used" in caplog.text
