"""The whole capacity loop in a cluster: pods drain and go, HPAs are respected, leaders change."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from endpoints.discovery.keeper import FleetKeeper
from endpoints.kubernetes.leading.election import ElectionSettings
from endpoints.kubernetes.leading.leader import Leader
from endpoints.kubernetes.resources import DEPLOYMENTS, PODS
from endpoints.scaling.actuators.kubernetes import (
    HPAS,
    LEAVING,
    KubernetesActuator,
    TargetRef,
    by_pod,
)
from endpoints.scaling.ceiling import Ceiling
from endpoints.scaling.controller import Controller
from endpoints.scaling.decision import Memory, Wanted
from endpoints.scaling.receipt import Receipt
from endpoints.scaling.role import Role
from endpoints.scaling.settings import Bounds, ScalingSettings
from endpoints.scaling.signals import Observation
from routing.fleet import Fleet
from routing.policies import make_policy
from routing.prefix.index import PrefixIndex
from routing.router import Router, RouterSettings
from tests.support.clusters import QUICK, Cluster, eventually
from tests.support.replicasets import discovering, names_of, running_deployment
from tests.support.scaletargets import Plain

LEASE = "inferway-scaler"
PACE = ElectionSettings(lease_seconds=1, renew_seconds=0.6, retry_seconds=0.1)
APP = "decode"


class Wish:
    """As many as the test wishes."""

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas

    def decide(
        self,
        observation: Observation,
        settings: ScalingSettings,
        memory: Memory,
        ceiling: Mapping[Role, Ceiling] | None,
        now: float,
    ) -> tuple[Wanted, Memory]:
        receipt = Receipt("pool", now, (), (), (), (), "as the test wishes")
        return Wanted("pool", now, {Role.BOTH: self.replicas}, receipt), memory


class Gateway:
    """One gateway's part of the loop."""

    def __init__(self, cluster: Cluster, wish: Wish, leads: Callable[[], bool]) -> None:
        self.router = Router(
            Fleet(), PrefixIndex(1 << 20), make_policy("round_robin"), RouterSettings()
        )
        self.keeper = FleetKeeper(
            self.router.fleet,
            clock=time.monotonic,
            upsert=self.router.upsert_endpoint,
            remove=self.router.remove_endpoint,
            changed=lambda: None,
            settle=0.3,
        )
        self.actuator = KubernetesActuator(
            cluster.connection,
            TargetRef(cluster.namespace, APP),
            endpoints=lambda: by_pod(self.router.fleet),
            caches=QUICK,
        )
        self.controller = Controller(
            "pool",
            ScalingSettings(roles={Role.BOTH: Bounds(0, 100)}, interval=0.2),
            {Role.BOTH: self.actuator},
            Plain(),
            router=self.router,
            keeper=self.keeper,
            clock=time.monotonic,
            leads=leads,
            decider=wish.decide,
            grace=10.0,
            poll=0.05,
        )

    @property
    def serving(self) -> set[str]:
        """The pods that get requests."""
        return {dict(state.endpoint.labels)["pod"] for state in self.router.fleet.serving(None)}

    @property
    def leaving(self) -> set[str]:
        return set(self.controller.roles[Role.BOTH].shrinking.draining)


@asynccontextmanager
async def gateway(
    cluster: Cluster, wish: Wish, leads: Callable[[], bool] = lambda: True
) -> AsyncIterator[Gateway]:
    one = Gateway(cluster, wish, leads)
    await one.actuator.start()
    async with discovering(cluster, APP, one.router.fleet, one.keeper):
        task = asyncio.get_running_loop().create_task(one.controller.run())
        try:
            yield one
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await one.controller.close()


async def replicas(cluster: Cluster) -> int:
    return (await cluster.objects.scale(DEPLOYMENTS, APP, cluster.namespace)).replicas


async def test_a_deployment_grows_and_shrinks_and_only_the_drained_go(cluster: Cluster) -> None:
    wish = Wish(3)
    async with running_deployment(cluster, APP, 3), gateway(cluster, wish) as one:
        await eventually(lambda: len(one.serving) == 3)
        wish.replicas = 5
        await eventually(lambda: len(one.serving) == 5)
        assert await replicas(cluster) == 5
        before = one.serving
        for state in one.router.fleet:
            state.ledger.reserve("request", 10, 10, time.monotonic())
        wish.replicas = 2
        await eventually(lambda: len(one.leaving) == 3)
        await asyncio.sleep(0.5)
        assert await replicas(cluster) == 5  # work is in flight
        victims = one.leaving
        kept = before - victims
        for state in one.router.fleet:
            state.ledger.release("request", time.monotonic())
        await eventually(lambda: _is(names_of(cluster, APP), kept), 20.0)
        assert await replicas(cluster) == 2
        await eventually(lambda: one.serving == kept)
        assert one.controller.roles[Role.BOTH].shrinking.cut == 0


async def _is(found: Awaitable[set[str]], wanted: set[str]) -> bool:
    return await found == wanted


async def test_a_foreign_hpa_is_respected(cluster: Cluster) -> None:
    wish = Wish(2)
    async with running_deployment(cluster, APP, 2), gateway(cluster, wish) as one:
        await eventually(lambda: len(one.serving) == 2)
        ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": APP}
        spec = {"scaleTargetRef": ref, "minReplicas": 2, "maxReplicas": 2}
        await cluster.create(HPAS, {"metadata": {"name": "theirs"}, "spec": spec})
        role = one.controller.roles[Role.BOTH]
        await eventually(lambda: role.conflict is not None)
        wish.replicas = 1
        await asyncio.sleep(1.0)
        assert await replicas(cluster) == 2
        assert len(one.serving) == 2
        assert role.conflict == "HorizontalPodAutoscaler theirs"
        await cluster.objects.delete(HPAS, "theirs", cluster.namespace)
        await eventually(lambda: _equals(replicas(cluster), 1), 20.0)


async def _equals(found: Awaitable[int], wanted: int) -> bool:
    return await found == wanted


async def test_a_leader_lost_in_the_middle_of_a_drain_is_survived(cluster: Cluster) -> None:
    wish = Wish(3)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running_deployment(cluster, APP, 3))
        leaders = [
            Leader(cluster.connection, cluster.namespace, LEASE, identity=name, settings=PACE)
            for name in ("a", "b")
        ]
        gateways = []
        for leader in leaders:
            await leader.start()
            stack.push_async_callback(leader.stop)
            await eventually(lambda: any(one.leads() for one in leaders))
            gateways.append(await stack.enter_async_context(gateway(cluster, wish, leader.leads)))
        first, second = gateways
        await eventually(lambda: len(first.serving) == 3 and len(second.serving) == 3)
        for state in first.router.fleet:
            state.ledger.reserve("request", 10, 10, time.monotonic())
        wish.replicas = 2
        await eventually(lambda: len(first.leaving) == 1)
        (victim,) = first.leaving
        await eventually(lambda: second.leaving == {victim})  # both give it nothing new
        pod = await cluster.objects.get(PODS, victim, cluster.namespace)
        assert LEAVING in pod["metadata"]["annotations"]
        assert leaders[0]._task is not None
        leaders[0]._task.cancel()  # gone without a word
        await eventually(leaders[1].leads)
        assert not leaders[0].leads()
        for state in first.router.fleet:
            state.ledger.release("request", time.monotonic())
        await eventually(lambda: _equals(replicas(cluster), 2), 20.0)
        await eventually(lambda: _is(names_of(cluster, APP), second.serving))
        assert victim not in await names_of(cluster, APP)
