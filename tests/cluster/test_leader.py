"""Of several gateways one leads; when it goes or falls silent another one does."""

import asyncio
import time
from dataclasses import replace

from endpoints.kubernetes.leading.election import ElectionSettings
from endpoints.kubernetes.leading.leader import Leader
from endpoints.kubernetes.resources import LEASES
from endpoints.scaling.role import Role
from endpoints.scaling.sharing import Share, TrafficNotes
from tests.support.clusters import Cluster, eventually

LEASE = "inferway-scaler"
PACE = ElectionSettings(lease_seconds=1, renew_seconds=0.6, retry_seconds=0.1)


def candidate(cluster: Cluster, name: str) -> Leader:
    return Leader(cluster.connection, cluster.namespace, LEASE, identity=name, settings=PACE)


async def holder(cluster: Cluster) -> str:
    lease = await cluster.objects.get(LEASES, LEASE, cluster.namespace)
    return str(lease["spec"]["holderIdentity"])


async def test_one_leads_and_hands_over_when_it_stops(cluster: Cluster) -> None:
    leaders = [candidate(cluster, name) for name in ("a", "b", "c")]
    for one in leaders:
        await one.start()
    await eventually(lambda: any(one.leads() for one in leaders))
    for _ in range(20):
        assert sum(one.leads() for one in leaders) <= 1
        await asyncio.sleep(0.01)
    first = next(one for one in leaders if one.leads())
    assert await holder(cluster) == first.election.identity
    await first.stop()
    assert not first.leads()
    others = [one for one in leaders if one is not first]
    await eventually(lambda: any(one.leads() for one in others))
    second = next(one for one in others if one.leads())
    assert second.election.transitions >= 1
    for one in others:
        await one.stop()
    assert await holder(cluster) == ""


async def test_a_leader_that_dies_is_replaced(cluster: Cluster) -> None:
    first, second = candidate(cluster, "first"), candidate(cluster, "second")
    await first.start()
    await eventually(first.leads)
    await second.start()
    assert first._task is not None
    first._task.cancel()  # it is gone without a word
    await eventually(lambda: second.leads() or first.leads())
    await eventually(second.leads)
    assert not first.leads()
    await second.stop()


async def test_without_an_api_server_nobody_leads_and_it_comes_back(cluster: Cluster) -> None:
    server = cluster.stand_in_only("the API server goes away")
    changes: list[bool] = []
    one = candidate(cluster, "a")
    one.changed = lambda: changes.append(one.leads())
    await one.start()
    await eventually(one.leads)
    await server.stop()
    await eventually(lambda: changes == [True, False])
    assert not one.leads()
    await server.start()
    await eventually(one.leads)
    await eventually(lambda: changes == [True, False, True])
    await one.stop()


async def test_the_leader_hears_of_requests_that_wait_elsewhere(cluster: Cluster) -> None:
    calls: list[bool] = []
    seen = {"chat": Share(held=0, idle=9.0, roles={Role.BOTH: (1.0, 2.0, 3.0)})}
    heard = TrafficNotes(dict)
    leader = Leader(
        cluster.connection,
        cluster.namespace,
        LEASE,
        identity="leader",
        settings=PACE,
        notes=heard,
    )
    leader.changed = lambda: calls.append(leader.leads())
    await leader.start()
    await eventually(leader.leads)
    follower = Leader(
        cluster.connection,
        cluster.namespace,
        LEASE,
        identity="follower",
        settings=PACE,
        notes=TrafficNotes(lambda: seen),
    )
    await follower.start()
    now = time.monotonic
    await eventually(lambda: heard.of("chat", now()) == (seen["chat"],))
    assert calls == [True]
    seen["chat"] = replace(seen["chat"], held=1)
    await eventually(lambda: heard.of("chat", now())[0].held == 1)
    assert calls == [True, True]  # the loop is woken
    assert leader.leads()
    assert not follower.leads()
    await leader.stop()
    await eventually(follower.leads)
    lease = await cluster.objects.get(LEASES, LEASE, cluster.namespace)
    assert "traffic.inferway.dev/leader" not in (lease["metadata"].get("annotations") or {})
    await follower.stop()
