"""Several controllers of InferenceCapacity: one plans and writes, the others take over."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path

import aiohttp
import pytest

from endpoints.allocation.controller.resources import CAPACITIES
from endpoints.allocation.controller.service import CapacityController, ControllerSettings
from endpoints.allocation.controller.topologies import topologies
from endpoints.allocation.emission.identity import Object
from endpoints.allocation.planner import PlannerSettings
from endpoints.kubernetes.connection import ClusterSettings
from endpoints.kubernetes.leading.election import ElectionSettings
from endpoints.kubernetes.leading.leader import Leader
from endpoints.kubernetes.leading.reign import Reigns
from endpoints.kubernetes.resources import LEASES, PODS, Resource
from gateway.placing.command import Lease, Wishes, run
from gateway.placing.pages import Post
from gateway.planning.wishes import WishError, scheme_named
from tests.support.capacity_stage import Stage, capacity_stage
from tests.support.clusters import QUICK, Cluster, eventually
from tests.support.envoy import free_port

LEASE = "inferway-capacity"
PACE = ElectionSettings(lease_seconds=1, renew_seconds=0.6, retry_seconds=0.1)
_NO_GANGS = [
    ("scheduling.run.ai", "podgroups"),
    ("scheduling.k8s.io", "workloads"),
    ("scheduling.k8s.io", "podgroups"),
    ("grove.io", "podcliquesets"),
]


class Process:
    """What one process of `inferway capacity` runs."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.leader = Leader(
            stage.cluster.connection, stage.cluster.namespace, LEASE, identity=name, settings=PACE
        )
        self.reigns: Reigns[CapacityController] = Reigns(
            self.leader, lambda leads: stage.make_controller(leads, name)
        )
        self.post = Post(self.reigns, self.leader)

    async def start(self) -> None:
        await self.reigns.start()

    async def stop(self) -> None:
        await self.reigns.stop()

    async def kill(self) -> None:
        """Gone without a word: nothing is released, nothing finished."""
        tasks = [self.leader._task, self.reigns._task]
        running = self.reigns.running
        if running is not None:
            tasks.append(running._task)
        for task in tasks:
            assert task is not None
            task.cancel()
        await asyncio.gather(*(task for task in tasks if task), return_exceptions=True)
        if running is not None:
            await running._view.stop()


async def _versions(stage: Stage, name: str) -> dict[str, str]:
    """Every object of a capacity, and the version that tells whether it was written again."""
    found = {}
    for resource in (PODS, stage.kinds.templates):
        for item in await stage.cluster.objects.list(
            resource,
            stage.cluster.namespace,
            label_selector=f"inferway.dev/capacity={name}",
        ):
            metadata = item["metadata"]
            found[f"{metadata['name']} {metadata['uid']}"] = metadata["resourceVersion"]
    return found


async def test_another_takes_over_when_the_leader_is_killed(cluster: Cluster) -> None:
    async with capacity_stage(cluster, without=_NO_GANGS) as stage:
        await stage.stop_controller()
        await stage.add_node("a")
        await stage.add_node("b")
        first, second = Process(stage, "first"), Process(stage, "second")
        await first.start()
        await eventually(first.leader.leads)
        await second.start()
        await stage.apply("llama", 2, pods=2, count=1)
        await stage.ready("llama", 2)
        assert (await stage.status("llama"))["controller"] == "first"
        assert _passes(second) == 0, "a follower plans nothing"
        await eventually(lambda: not second.post.trouble())
        before = await _versions(stage, "llama")
        assert len(before) == 5, "four pods and a template"

        await first.kill()
        began = asyncio.get_running_loop().time()
        await eventually(second.leader.leads)
        assert asyncio.get_running_loop().time() - began < PACE.lease_seconds + 1.0
        assert not first.leader.leads()
        await eventually(lambda: _passes(second) >= 2)
        assert await _versions(stage, "llama") == before, "nothing is written twice"
        running = second.reigns.running
        assert running is not None
        assert len(running.ledger) == 0, "all claims show"

        await stage.want("llama", 3)
        await stage.ready("llama", 3)
        assert (await stage.status("llama"))["controller"] == "second"
        await cluster.objects.delete(CAPACITIES, "llama", cluster.namespace)
        await eventually(lambda: _nothing_left(stage, "llama"))
        await second.stop()
        lease = await cluster.objects.get(LEASES, LEASE, cluster.namespace)
        assert lease["spec"]["holderIdentity"] == "", "the next one need not wait"


def _passes(process: Process) -> int:
    running = process.reigns.running
    return 0 if running is None else running.passes


async def _nothing_left(stage: Stage, name: str) -> bool:
    return not await stage.left(name)


def _deposed_after(writes: int) -> Callable[[], bool]:
    """Leads until so many writes were asked for."""
    asked = count()
    allowed = [True]

    def leads() -> bool:
        allowed[0] = allowed[0] and next(asked) < writes
        return allowed[0]

    return leads


@pytest.mark.parametrize("writes", range(1, 10))
async def test_a_lease_lost_in_the_middle_leaves_no_half_written_gang(
    cluster: Cluster, writes: int
) -> None:
    async with capacity_stage(cluster, without=_NO_GANGS) as stage:
        await stage.add_node("a")
        await stage.stop_controller()
        await stage.apply("llama", 1, pods=4, count=1)

        await _reign(stage, _deposed_after(writes))
        early = await stage.pods("llama")
        assert len(early) <= 4
        stage.controller = stage.make_controller(identity="next")
        await stage.controller.start()
        await stage.ready("llama", 1)
        pods = await stage.pods("llama")
        assert len(pods) == 4
        uids = {pod["metadata"]["uid"] for pod in pods}
        assert {pod["metadata"]["uid"] for pod in early} <= uids, "what was written is kept"
        await stage.stop_controller()

        await stage.want("llama", 0)
        await _reign(stage, _deposed_after(writes))
        stage.controller = stage.make_controller(identity="last")
        await stage.controller.start()
        await eventually(lambda: _no_pods(stage))
        await eventually(lambda: _placed(stage, 0))


async def _reign(stage: Stage, leads: Callable[[], bool]) -> None:
    """One that is deposed in the middle of something, and has not noticed for a while."""
    controller = stage.make_controller(leads, "deposed")
    await controller.start()
    await eventually(lambda: not leads())
    await asyncio.sleep(0.1)
    await controller.stop()


async def _no_pods(stage: Stage) -> bool:
    return not await stage.pods("llama")


async def _placed(stage: Stage, wanted: int) -> bool:
    return bool((await stage.status("llama"))["placed"] == wanted)


KUBECONFIG = """{{apiVersion: v1, kind: Config, current-context: c,
clusters: [{{name: k, cluster: {{server: '{url}'}}}}],
contexts: [{{name: c, context: {{cluster: k, user: u}}}}],
users: [{{name: u, user: {{token: t}}}}]}}"""


async def test_the_command_runs_for_the_lease_and_tells_who_leads(
    cluster: Cluster, tmp_path: Path
) -> None:
    server = cluster.stand_in_only("the command is given a kubeconfig of its own")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG.format(url=server.url))
    async with capacity_stage(cluster, without=_NO_GANGS) as stage:
        await stage.stop_controller()
        await stage.add_node("a")
        posts: list[Post] = []
        settings = ControllerSettings(namespace=cluster.namespace, interval=0.01, caches=QUICK)
        ports = [free_port(), free_port()]
        tasks = [
            asyncio.create_task(
                run(
                    ClusterSettings(kubeconfig=str(kubeconfig)),
                    settings,
                    signals=(signal.SIGUSR1,) if name == "b" else (signal.SIGUSR2,),
                    lease=Lease(LEASE, cluster.namespace, PACE, name),
                    admin=("127.0.0.1", port),
                    began=posts.append,
                )
            )
            for name, port in zip("ab", ports, strict=True)
        ]
        await eventually(lambda: len(posts) == 2)
        await eventually(lambda: any(post.leads for post in posts))
        await stage.apply("llama", 1)
        await stage.ready("llama", 1)
        async with aiohttp.ClientSession() as session:

            async def agreed() -> bool:
                return len({(await _ready(session, port))["leader"] for port in ports}) == 1

            await eventually(agreed, what="a follower hears who leads when it next reads the lease")
            told = [await _ready(session, port) for port in ports]
            assert sorted(one["leads"] for one in told) == [False, True]
            assert all(one["ready"] for one in told), "a follower is ready, too"
            (leader,) = {one["leader"] for one in told}
            assert leader in {"a", "b"}
            pages = [await _page(session, port, "metrics") for port in ports]
            (leads,) = [page for page in pages if "inferway_capacity_leader 1.0" in page]
            assert f'name="llama",namespace="{cluster.namespace}",state="ready"}} 1.0' in leads
            (follows,) = [page for page in pages if "inferway_capacity_leader 0.0" in page]
            assert "inferway_capacity_replicas" not in follows
            os.kill(os.getpid(), signal.SIGUSR1 if leader == "b" else signal.SIGUSR2)
            left = ports[0] if leader == "b" else ports[1]
            await eventually(lambda: _leads(session, left))
            os.kill(os.getpid(), signal.SIGUSR2 if leader == "b" else signal.SIGUSR1)
        await asyncio.gather(*tasks)


async def test_the_command_knows_own_levels_topologies_and_costs(
    cluster: Cluster, tmp_path: Path
) -> None:
    server = cluster.stand_in_only("the command is given a kubeconfig of its own")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG.format(url=server.url))
    topology = {
        "apiVersion": "kai.scheduler/v1alpha1",
        "kind": "Topology",
        "metadata": {"name": "hall"},
        "spec": {"levels": [{"nodeLabel": "example.com/row"}]},
    }
    kind = Resource("kai.scheduler", "v1alpha1", "topologies", "Topology", namespaced=False)
    await cluster.objects.create(kind, topology)
    found = await topologies(cluster.connection)
    assert [level.name for level in found["hall"].levels()][:2] == ["row", "host"]
    async with capacity_stage(cluster, without=_NO_GANGS) as stage:
        await stage.stop_controller()
        for node, row in (("a", "1"), ("b", "1"), ("c", "2")):
            await stage.add_node(node, gpus=1, **{"example.com/row": row})
        settings = ControllerSettings(namespace=cluster.namespace, interval=0.01, caches=QUICK)
        costs = PlannerSettings({stage.device_class: 3.0})
        own = Wishes(levels=("r=example.com/row",))
        for wishes, level in ((Wishes(planner=costs), "row"), (own, "r")):
            task = asyncio.create_task(
                run(
                    ClusterSettings(kubeconfig=str(kubeconfig)),
                    settings,
                    signals=(signal.SIGUSR1,),
                    wishes=wishes,
                )
            )
            name = f"llama-{level}"
            await stage.apply(
                name, 2, pods=2, topology={"required": level}, budget={"costPerHour": 9.0}
            )
            await stage.ready(name, 1)
            status = await stage.status(name)
            assert status["replicas"][0]["domain"] == f"{level} 1"
            assert status["replicas"][0]["plan"]["cost"] == (6.0 if level == "row" else 2.0)
            await cluster.objects.delete(CAPACITIES, name, cluster.namespace)
            await eventually(lambda name=name: _nothing_left(stage, name))  # type: ignore[misc]
            os.kill(os.getpid(), signal.SIGUSR1)
            await task
    with pytest.raises(WishError, match=r"there is no 'hal'; there are .*hall"):
        scheme_named(found, "hal", ())


async def _page(session: aiohttp.ClientSession, port: int, path: str) -> str:
    async with session.get(f"http://127.0.0.1:{port}/{path}") as answer:
        return await answer.text()


async def _ready(session: aiohttp.ClientSession, port: int) -> Object:
    told: Object = json.loads(await _page(session, port, "readyz"))
    return told


async def _leads(session: aiohttp.ClientSession, port: int) -> bool:
    told = await _ready(session, port)
    return bool(told["leads"] and told["ready"])
