"""InferenceCapacity from its wish to running pods, and to nothing left."""

from endpoints.allocation.controller.feed import DriverPods
from endpoints.allocation.controller.resources import CAPACITIES
from endpoints.allocation.controller.watchdog import Patience
from endpoints.allocation.shares import Needs
from endpoints.kubernetes.resources import NODES, PODS
from tests.support.capacity_stage import Stage, capacity_stage
from tests.support.clusters import Cluster, eventually

_KAI = [("scheduling.run.ai", "podgroups")]
_NO_GANGS = [
    *_KAI,
    ("scheduling.k8s.io", "workloads"),
    ("scheduling.k8s.io", "podgroups"),
    ("grove.io", "podcliquesets"),
]


async def test_replicas_come_where_they_were_planned_and_go_without_a_trace(
    cluster: Cluster,
) -> None:
    async with capacity_stage(cluster, without=_NO_GANGS) as stage:
        await stage.add_node("a", leaf="leaf-1")
        await stage.add_node("b", leaf="leaf-2")
        await stage.apply(
            "llama", 2, pods=2, count=2, topology={"required": "kubernetes.io/hostname"}
        )
        await stage.ready("llama", 2)
        status = await stage.status("llama")
        places = {one["name"]: one["domain"].rpartition(" ")[2] for one in status["replicas"]}
        pods = await stage.pods("llama")
        assert len(pods) == 4
        for pod in pods:
            replica = pod["metadata"]["labels"]["inferway.dev/replica"]
            assert pod["spec"]["nodeName"] == places[replica]
            devices = await stage.devices(pod)
            assert len(devices) == 2
            assert {pool for pool, _ in devices} == {places[replica]}
        assert {one["type"]: one["status"] for one in status["conditions"]} == {
            "Valid": "True",
            "Placed": "True",
            "Ready": "True",
            "Healthy": "True",
        }
        await cluster.objects.delete(CAPACITIES, "llama", cluster.namespace)
        await eventually(lambda: _nothing_left(stage, "llama"))
        assert len(stage.controller.ledger) == 0


async def _nothing_left(stage: Stage, name: str) -> bool:
    return not await stage.left(name)


async def test_no_room_is_said_and_no_pod_waits(cluster: Cluster) -> None:
    async with capacity_stage(cluster, without=_NO_GANGS) as stage:
        await stage.add_node("a", gpus=3)
        await stage.apply("llama", 3, count=2)
        await stage.ready("llama", 1)
        status = await stage.status("llama")
        assert (status["wanted"], status["feasible"], status["placed"]) == (3, 1, 1)
        (placed,) = [one for one in status["conditions"] if one["type"] == "Placed"]
        assert placed["status"] == "False"
        assert "1 of 3 replicas have a place" in placed["message"]
        assert len(await stage.pods("llama")) == 1
        await stage.add_node("b", gpus=2)
        await stage.ready("llama", 2)


async def test_the_t_systems_case_scaling_down_aborts_nothing_in_flight(cluster: Cluster) -> None:
    """The T-Systems case, second half: a scale-down drains, however long SIGTERM would wait.

    (ai-dynamo/dynamo issues 13565 and 13559: there, in-flight requests were cut 5 s after it.)
    """
    async with capacity_stage(cluster, without=_NO_GANGS) as stage:
        await stage.add_node("a")
        await stage.apply("llama", 2)
        await stage.ready("llama", 2)
        stage.work.requests = {"llama-0": 3.0, "llama-1": 3.0}
        await stage.want("llama", 1)

        async def draining() -> list[str]:
            status = await stage.status("llama")
            return [one["name"] for one in status["replicas"] if one["phase"] == "Draining"]

        await eventually(lambda: _length(draining, 1))
        (victim,) = await draining()
        before = stage.controller.passes
        await eventually(lambda: stage.controller.passes >= before + 10)
        serving = {
            pod["metadata"]["labels"]["inferway.dev/replica"]: pod["metadata"]["labels"][
                "inferway.dev/serving"
            ]
            for pod in await stage.pods("llama")
        }
        other = {"llama-0": "llama-1", "llama-1": "llama-0"}[victim]
        assert serving == {victim: "false", other: "true"}, "no new requests, and no pod deleted"
        stage.work.requests[victim] = 0.0
        await stage.ready("llama", 1)
        await eventually(lambda: _length(lambda: stage.pods("llama"), 1))
        assert len(await stage.devices((await stage.pods("llama"))[0])) == 1


async def _length(ask: object, count: int) -> bool:
    return len(await ask()) == count  # type: ignore[operator]


async def test_more_is_wanted_again_while_one_drains(cluster: Cluster) -> None:
    async with capacity_stage(cluster, without=_NO_GANGS) as stage:
        await stage.add_node("a")
        await stage.apply("llama", 1)
        await stage.ready("llama", 1)
        uid = (await stage.pods("llama"))[0]["metadata"]["uid"]
        stage.work.requests = {"llama-0": 1.0}
        await stage.want("llama", 0)
        await eventually(lambda: _serving(stage, "false"))
        await stage.want("llama", 1)
        await eventually(lambda: _serving(stage, "true"))
        await stage.ready("llama", 1)
        assert (await stage.pods("llama"))[0]["metadata"]["uid"] == uid


async def _serving(stage: Stage, value: str) -> bool:
    pods = await stage.pods("llama")
    return [pod["metadata"]["labels"]["inferway.dev/serving"] for pod in pods] == [value]


async def test_pods_that_stay_pending_are_planned_elsewhere(cluster: Cluster) -> None:
    cluster.stand_in_only("a real scheduler leaves no pod Pending that has a place")
    patience = Patience(pending=0.3)
    async with capacity_stage(cluster, without=_NO_GANGS, patience=patience) as stage:
        await stage.add_node("a")
        await stage.add_node("b")
        stage.held_back = {"llama-0-server-0"}
        await stage.apply("llama", 1)
        await stage.ready("llama", 1)
        (pod,) = await stage.pods("llama")
        assert pod["metadata"]["name"] == "llama-1-server-0"
        assert pod["spec"]["nodeName"] == stage.node("b"), "the node of before is avoided"
        assert any(event["reason"] == "PendingTooLong" for event in await stage.events())


async def test_a_health_taint_drains_what_runs_there(cluster: Cluster) -> None:
    async with capacity_stage(cluster, without=_NO_GANGS) as stage:
        await stage.add_node("a")
        await stage.add_node("b")
        await stage.apply("llama", 1)
        await stage.ready("llama", 1)
        (pod,) = await stage.pods("llama")
        ((pool, device),) = await stage.devices(pod)
        slice_ = await cluster.objects.get(stage.kinds.slices, f"{pool}-{stage.driver}")
        devices = slice_["spec"]["devices"]
        taint = {"key": "gpu.nvidia.com/xid", "value": "63", "effect": "NoSchedule"}
        next(one for one in devices if one["name"] == device)["taints"] = [taint]
        stage.work.requests = {"llama-0": 2.0}
        await stage.publish(pool.removeprefix(stage.node("")), devices, generation=2)
        await eventually(lambda: _length(lambda: stage.pods("llama"), 2))
        stage.work.requests = {}
        await stage.ready("llama", 1)
        await eventually(lambda: _length(lambda: stage.pods("llama"), 1))
        (pod,) = await stage.pods("llama")
        assert await stage.devices(pod) != [(pool, device)]
        assert any(event["reason"] == "DevicesTainted" for event in await stage.events())


async def test_devices_that_vanish_before_pods_start_are_planned_elsewhere(
    cluster: Cluster,
) -> None:
    cluster.stand_in_only("a real scheduler would have bound the pod by then")
    patience = Patience(pending=60.0, devices=0.2)
    async with capacity_stage(cluster, without=_NO_GANGS, patience=patience) as stage:
        await stage.add_node("a")
        stage.held_back = {"llama-0-server-0"}
        await stage.apply("llama", 1)
        await eventually(lambda: _length(lambda: stage.pods("llama"), 1))
        await stage.add_node("b")
        await cluster.objects.delete(stage.kinds.slices, f"{stage.node('a')}-{stage.driver}")
        stage.undo.remove((stage.kinds.slices, f"{stage.node('a')}-{stage.driver}"))
        await stage.ready("llama", 1)
        (pod,) = await stage.pods("llama")
        assert pod["spec"]["nodeName"] == stage.node("b")


async def test_a_lost_node_is_left_at_once(cluster: Cluster) -> None:
    cluster.stand_in_only("real pods on a lost node need a garbage collector")
    async with capacity_stage(cluster, without=_NO_GANGS, patience=Patience(node=0.2)) as stage:
        await stage.add_node("a")
        await stage.apply("llama", 1)
        await stage.ready("llama", 1)
        await stage.add_node("b")
        lost = {"conditions": [{"type": "Ready", "status": "Unknown"}]}
        await cluster.objects.patch_status(NODES, stage.node("a"), lost)

        async def moved() -> bool:
            pods = await stage.pods("llama")
            return [pod["spec"].get("nodeName") for pod in pods] == [stage.node("b")]

        await eventually(moved)


async def test_what_could_be_moved_to_make_room_is_said(cluster: Cluster) -> None:
    async with capacity_stage(cluster, without=_NO_GANGS) as stage:
        for name in ("a", "b"):
            await stage.add_node(name, gpus=2)
        inventory = stage.controller.inventory
        nodes = [stage.node(name) for name in ("a", "b")]
        # Spread is over the nodes that are known, and each is heard of by itself.
        await eventually(lambda: all(any(inventory.devices_of(node)) for node in nodes))
        await stage.apply("small", 2, topology={"spread": "kubernetes.io/hostname"})
        await stage.ready("small", 2)
        pods = await stage.pods("small")
        assert len({pod["spec"]["nodeName"] for pod in pods}) == 2, "spread, when asked"
        await stage.apply("pair", 1, count=2)

        async def advised() -> bool:
            return bool((await stage.status("pair")).get("advice"))

        await eventually(advised)
        advice = (await stage.status("pair"))["advice"]
        assert advice.startswith("moving small-")
        assert advice.endswith("would make room for one more")
        await eventually(lambda: _told(stage, "Fragmented"))
        assert len(await stage.pods("pair")) == 0
        await stage.add_node("c", gpus=2)
        await stage.ready("pair", 1)
        assert (await stage.status("pair"))["advice"] == ""


async def _told(stage: Stage, reason: str) -> bool:
    return any(event["reason"] == reason for event in await stage.events())


async def test_idle_replicas_of_lower_priority_make_room(cluster: Cluster) -> None:
    async with capacity_stage(cluster, without=_NO_GANGS) as stage:
        await stage.add_node("a", gpus=2)
        await stage.apply("batch", 2)
        await stage.ready("batch", 2)
        stage.work.requests = {"batch-0": 1.0}
        await stage.apply("chat", 1, priority=10, preemption="LowerPriority")
        await stage.ready("chat", 1)
        assert [one["name"] for one in (await stage.status("batch"))["replicas"]] == ["batch-0"]
        await stage.ready("batch", 1)
        assert any(event["reason"] == "Preempted" for event in await stage.events())


async def test_the_better_served_of_two_equals_gives_way_and_stays_so(cluster: Cluster) -> None:
    async with capacity_stage(
        cluster, without=_NO_GANGS, tenure_seconds=0.0, idle_interval=0.1
    ) as stage:
        await stage.add_node("a", gpus=4)
        await stage.apply("small", 4)
        await stage.ready("small", 4)
        stage.work.requests = {"small-0": 1.0}
        fair = {"topology": {"required": "kubernetes.io/hostname"}, "preemption": "FairShare"}
        await stage.apply("big", 1, count=2, **fair)
        await eventually(lambda: len(stage.controller.pools) == 2)
        seen = stage.controller.passes
        await eventually(lambda: stage.controller.passes > seen + 3)
        assert len(await stage.pods("small")) == 4, "a need of a moment is none"
        for pool in stage.controller.pools.values():
            pool.needs = Needs(window=0.0)
        await stage.ready("big", 1)
        status = await stage.status("small")
        kept = {one["name"] for one in status["replicas"]}
        assert "small-0" in kept, "it has work"
        await stage.ready("small", 2)
        assert (await stage.status("small"))["wanted"] == 4
        before = stage.controller.passes
        await eventually(lambda: stage.controller.passes > before + 5)
        await stage.ready("big", 1)
        assert any(event["reason"] == "Preempted" for event in await stage.events())


async def test_where_a_driver_died_nothing_starts(cluster: Cluster) -> None:
    cluster.stand_in_only("a real scheduler would have bound the pod by then")
    namespace = cluster.namespace
    driver = f"{namespace.rpartition('-')[2]}.example.com"
    async with capacity_stage(
        cluster,
        without=_NO_GANGS,
        patience=Patience(pending=60.0, driver=0.2),
        drivers={driver: DriverPods(namespace, "app=driver")},
    ) as stage:
        for name in ("a", "b"):
            await stage.add_node(name)
            await cluster.pod(
                f"driver-{name}", "127.0.0.9", labels={"app": "driver"}, nodeName=stage.node(name)
            )
        await eventually(lambda: len(stage.controller.inventory.nodes) == 2)
        await eventually(lambda: not stage.controller.dead_drivers)
        stage.held_back = {"llama-0-server-0"}
        await stage.apply("llama", 1)
        await eventually(lambda: _length(lambda: stage.pods("llama"), 1))
        (record,) = (await stage.status("llama"))["replicas"]
        node = record["plan"]["pods"][0][2]
        name = f"driver-{node.removeprefix(stage.node(''))}"
        stage.broken = {name}
        await cluster.pod_status(name, ip="127.0.0.9", ready=False)
        await stage.ready("llama", 1)
        (pod,) = await stage.pods("llama")
        assert pod["spec"]["nodeName"] != node
        assert any(event["reason"] == "DriverDead" for event in await stage.events())


async def test_a_deleted_pod_comes_back_where_it_was(cluster: Cluster) -> None:
    async with capacity_stage(cluster, without=_NO_GANGS) as stage:
        await stage.add_node("a")
        await stage.add_node("b")
        await stage.apply("llama", 1)
        await stage.ready("llama", 1)
        (pod,) = await stage.pods("llama")
        await cluster.objects.delete(PODS, pod["metadata"]["name"], cluster.namespace)

        async def back() -> bool:
            pods = await stage.pods("llama")
            return [one["metadata"]["uid"] for one in pods] not in (
                [],
                [pod["metadata"]["uid"]],
            )

        await eventually(back)
        await stage.ready("llama", 1)
        (again,) = await stage.pods("llama")
        assert again["spec"]["nodeName"] == pod["spec"]["nodeName"]


async def test_another_controller_takes_over_without_moving_anything(cluster: Cluster) -> None:
    async with capacity_stage(cluster, without=_NO_GANGS) as stage:
        await stage.add_node("a")
        await stage.apply("llama", 2)
        await stage.ready("llama", 2)
        before = {pod["metadata"]["uid"] for pod in await stage.pods("llama")}
        await stage.controller.stop()
        await stage.want("llama", 3)
        await stage.another_controller()
        await stage.ready("llama", 3)
        after = {pod["metadata"]["uid"] for pod in await stage.pods("llama")}
        assert before < after


async def test_a_new_revision_replaces_pods_and_collects_old_templates(cluster: Cluster) -> None:
    async with capacity_stage(cluster, without=_NO_GANGS) as stage:
        await stage.add_node("a")
        await stage.apply("llama", 2)
        await stage.ready("llama", 2)
        (before,) = [one for one in await stage.left("llama") if "Template" in one]
        await stage.apply("llama", 2, count=2)

        async def replaced() -> bool:
            templates = [one for one in await stage.left("llama") if "Template" in one]
            pods = await stage.pods("llama")
            return len(templates) == 1 and templates != [before] and len(pods) == 2

        await eventually(replaced)
        await stage.ready("llama", 2)
        assert [len(await stage.devices(pod)) for pod in await stage.pods("llama")] == [2, 2]


async def test_the_gang_scheduler_that_is_served_is_used(cluster: Cluster) -> None:
    cluster.stand_in_only("it depends on what is installed there")
    without = [("scheduling.k8s.io", "workloads"), ("scheduling.k8s.io", "podgroups")]
    async with capacity_stage(cluster, without=without) as stage:
        await stage.add_node("a")
        await stage.apply("llama", 1, pods=2, scheduler={"type": "Auto", "queue": "research"})
        await stage.ready("llama", 1)
        assert (await stage.status("llama"))["scheduler"] == "KAI"
        left = await stage.left("llama")
        assert "PodGroup llama-0" in left
        await stage.apply("llama", 1, pods=2, scheduler={"type": "Plain"})

        async def plain() -> bool:
            found = await stage.left("llama")
            return (
                not any("PodGroup" in one for one in found) and len(await stage.pods("llama")) == 2
            )

        await eventually(plain)
        await stage.ready("llama", 1)


async def test_what_can_not_be_is_said_and_changes_nothing(cluster: Cluster) -> None:
    async with capacity_stage(cluster, without=_NO_GANGS) as stage:
        await stage.add_node("a")
        await stage.apply("llama", 1)
        await stage.ready("llama", 1)
        await stage.apply("llama", 1, scheduler={"type": "Grove"})

        async def valid() -> tuple[str, str]:
            conditions = (await stage.status("llama"))["conditions"]
            (found,) = [one for one in conditions if one["type"] == "Valid"]
            return found["status"], found["reason"]

        async def refused() -> bool:
            return await valid() == ("False", "SchedulerNotServed")

        await eventually(refused)
        assert len(await stage.pods("llama")) == 1
        await stage.apply("llama", 1)
        await stage.ready("llama", 1)


async def test_a_dry_run_writes_nothing(cluster: Cluster) -> None:
    async with capacity_stage(cluster, without=_NO_GANGS, dry_run=True) as stage:
        await stage.add_node("a")
        await stage.apply("llama", 1)
        pools = stage.controller.pools
        await eventually(lambda: any(pool.records for pool in pools.values()))
        await stage.want("llama", 2)
        await eventually(lambda: any(len(pool.records) == 2 for pool in pools.values()))
        assert await stage.left("llama") == []
        assert await stage.status("llama") == {}
