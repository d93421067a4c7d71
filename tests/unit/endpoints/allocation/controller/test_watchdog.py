"""What shows, for how long, and what is done about it."""

import pytest
from msgspec.structs import replace

from endpoints.allocation.controller.findings import (
    Cluster,
    Held,
    findings,
    planned,
)
from endpoints.allocation.controller.members import Member, Standing, member_of, standing_of
from endpoints.allocation.controller.watchdog import (
    Cause,
    Finding,
    Patience,
    Remedy,
    Watchdog,
)
from endpoints.allocation.needs import Toleration
from endpoints.allocation.plan import DeviceId
from endpoints.allocation.taints import Taint
from tests.support.capacities import member
from tests.support.plans import plan

GPU = DeviceId("gpu.nvidia.com", "n1", "gpu-0")


def finding(cause: Cause, node: str = "n1") -> Finding:
    return Finding(cause, (node,), "something shows")


@pytest.mark.parametrize(
    ("cause", "standing", "bound", "remedy"),
    [
        (Cause.PENDING, Standing.PENDING, 120.0, Remedy.REPLAN),
        (Cause.DEVICES_GONE, Standing.MISSING, 60.0, Remedy.REPLAN),
        (Cause.DEVICES_GONE, Standing.STARTING, 60.0, Remedy.REPLAN),
        (Cause.DEVICES_GONE, Standing.READY, 60.0, Remedy.WARN),
        (Cause.DRIVER_DEAD, Standing.PENDING, 60.0, Remedy.REPLAN),
        (Cause.DRIVER_DEAD, Standing.READY, 60.0, Remedy.WARN),
        (Cause.NODE_LOST, Standing.READY, 60.0, Remedy.REPLAN),
        (Cause.TAINTED, Standing.PENDING, 0.0, Remedy.REPLAN),
        (Cause.TAINTED, Standing.STARTING, 0.0, Remedy.DRAIN),
        (Cause.TAINTED, Standing.READY, 0.0, Remedy.DRAIN),
    ],
)
def test_every_cause_has_its_bound_and_its_remedy(
    cause: Cause, standing: Standing, bound: float, remedy: Remedy
) -> None:
    watchdog = Watchdog()
    if bound:
        assert watchdog.look("a-0", standing, [finding(cause)], 10.0) is None
        assert watchdog.next_look(10.0) == bound
        assert watchdog.look("a-0", standing, [finding(cause)], 9.9 + bound) is None
    verdict = watchdog.look("a-0", standing, [finding(cause)], 10.0 + bound)
    assert verdict is not None
    assert verdict.remedy is remedy
    assert "a-0: something shows; it " in verdict.message


def test_what_goes_away_is_forgiven() -> None:
    watchdog = Watchdog()
    watchdog.look("a-0", Standing.PENDING, [finding(Cause.PENDING)], 0.0)
    watchdog.look("a-0", Standing.PENDING, [], 100.0)
    assert watchdog.look("a-0", Standing.PENDING, [finding(Cause.PENDING)], 130.0) is None


def test_a_warning_is_given_once() -> None:
    watchdog = Watchdog(Patience(devices=0.0))
    gone = [finding(Cause.DEVICES_GONE)]
    assert watchdog.look("a-0", Standing.READY, gone, 0.0) is not None
    assert watchdog.look("a-0", Standing.READY, gone, 1.0) is None
    watchdog.look("a-0", Standing.READY, [], 2.0)
    assert watchdog.look("a-0", Standing.READY, gone, 3.0) is not None


def test_where_pods_stayed_pending_nothing_is_planned_for_a_time() -> None:
    watchdog = Watchdog(Patience(pending=10.0, avoid=100.0))
    watchdog.look("a-0", Standing.PENDING, [finding(Cause.PENDING)], 0.0)
    watchdog.look("a-0", Standing.PENDING, [finding(Cause.PENDING)], 10.0)
    assert watchdog.avoided(50.0) == {"n1"}
    assert watchdog.next_look(50.0) == 60.0
    assert watchdog.avoided(110.0) == frozenset()


def test_the_gravest_cause_speaks() -> None:
    watchdog = Watchdog(Patience(node=0.0))
    shows = [finding(Cause.TAINTED), finding(Cause.NODE_LOST)]
    verdict = watchdog.look("a-0", Standing.READY, shows, 0.0)
    assert verdict is not None
    assert verdict.finding.cause is Cause.NODE_LOST


# --- what shows ------------------------------------------------------------------------------


def cluster(
    taints: dict[DeviceId, list[Taint]] | None = None,
    dead: str | None = None,
    lost: str | None = None,
) -> Cluster:
    devices = {GPU: []} if taints is None else taints
    return Cluster(
        taints=devices.get,
        alive=lambda node: node != lost,
        driver_dead=lambda _, node: node == dead,
    )


def causes(*held: Held, of: Cluster, members: tuple[Member, ...] = ()) -> list[Cause]:
    return [one.cause for one in findings(members, held, of)]


def test_all_is_well() -> None:
    assert causes(Held("n1", (GPU,)), of=cluster()) == []


def test_each_cause_shows() -> None:
    held = Held("n1", (GPU,))
    assert causes(held, of=cluster(taints={})) == [Cause.DEVICES_GONE]
    assert causes(held, of=cluster(dead="n1")) == [Cause.DRIVER_DEAD]
    assert causes(held, of=cluster(lost="n1")) == [Cause.NODE_LOST]
    waiting = member("a-0", None, ready=False, said="0/3 nodes are available")
    (found,) = findings([waiting], [replace(held, waiting=True)], cluster())
    assert found.cause is Cause.PENDING
    assert "0/3 nodes" in found.detail
    assert found.nodes == ("n1",)


@pytest.mark.parametrize(
    ("effect", "toleration", "shows"),
    [
        ("NoSchedule", None, True),
        ("NoExecute", None, True),
        ("NoSchedule", Toleration("", "Exists"), False),
        ("NoSchedule", Toleration("xid", "Equal", "63"), False),
        ("NoSchedule", Toleration("xid", "Equal", "64"), True),
        ("NoSchedule", Toleration("xid", "Exists", "", "NoExecute"), True),
    ],
)
def test_taints_condemn_unless_they_are_put_up_with(
    effect: str, toleration: Toleration | None, shows: bool
) -> None:
    taints = {GPU: [Taint("xid", "63", effect)]}
    held = Held("n1", (GPU,), () if toleration is None else (toleration,))
    assert causes(held, of=cluster(taints)) == ([Cause.TAINTED] if shows else [])


def test_what_waits_counts_by_its_plan() -> None:
    made = plan()
    everything = planned(made, [])
    assert [one.node for one in everything] == ["n1", "n2", "n2"]
    assert everything[0].tolerations == (Toleration("maintenance", "Exists"),)
    running = Member("llama-0-decode-0", "llama-0", "decode", "n2", ready=True)
    assert [one.node for one in planned(made, [running])] == ["n1", "n2"]


# --- pods as facts ------------------------------------------------------------------------------


def test_pods_as_the_api_server_has_them() -> None:
    labels = {"inferway.dev/replica": "a-0", "inferway.dev/role": "decode"}
    pending = {
        "metadata": {"name": "p", "labels": labels},
        "spec": {},
        "status": {
            "phase": "Pending",
            "conditions": [
                {"type": "PodScheduled", "status": "False", "message": "no devices"},
            ],
        },
    }
    assert member_of(pending) == Member("p", "a-0", "decode", said="no devices")
    running = {
        "metadata": {"name": "p", "labels": labels},
        "spec": {"nodeName": "n1"},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "resourceClaimStatuses": [{"name": "devices", "resourceClaimName": "p-devices-x"}],
        },
    }
    assert member_of(running) == Member(
        "p", "a-0", "decode", "n1", ready=True, claims=("p-devices-x",)
    )
    assert member_of({**running, "status": {"phase": "Failed"}}).finished
    assert not member_of({**running, "status": {"phase": "Failed"}}).counts


def test_the_least_pod_decides_how_a_replica_stands() -> None:
    ready, starting, pending = (
        member("a-0"),
        member("a-0", ready=False),
        member("a-0", None, ready=False),
    )
    assert standing_of([ready], 2) is Standing.MISSING
    assert standing_of([ready, member("a-0", leaving=True)], 2) is Standing.MISSING
    assert standing_of([ready, pending], 2) is Standing.PENDING
    assert standing_of([ready, starting], 2) is Standing.STARTING
    assert standing_of([ready, ready], 2) is Standing.READY
