"""The contest of two pools: the closed loop leaves nothing Pending, and books are kept."""

from random import Random

import pytest

from bench.cluster.contest import CLOSED, IGNORED, Figures, checks, contest, together
from bench.cluster.machines import Machines
from bench.cluster.parts import CLASS, LEAF_LABEL, Object, device_class, device_slice, gpu, node
from bench.replay.timeline import Timeline
from endpoints.allocation.inventory import Inventory

TWO_GPUS = {
    "requests": [
        {
            "name": "gpu",
            "exactly": {"deviceClassName": CLASS, "allocationMode": "ExactCount", "count": 2},
        }
    ]
}


def machines(**gpus: int) -> Machines:
    inventory = Inventory()
    inventory.upsert_class(device_class())
    for name, count in gpus.items():
        inventory.upsert_node(node(name, {LEAF_LABEL: name[0]}))
        devices = [gpu(index, "H100", "80Gi") for index in range(count)]
        inventory.upsert_slice(device_slice(name, devices))
    made = Machines(Timeline(), inventory, Random(0))
    made.start()
    return made


def test_devices_cost_from_their_allocation_to_the_end_used_or_not() -> None:
    cluster = machines(a1=2, b1=1)
    told: list[float] = []
    pods: list[tuple[str, Object, list[Object]]] = [
        (f"pod-{number}", {}, [TWO_GPUS]) for number in range(2)
    ]
    cluster.create("gang", pods, lambda: told.append(cluster.timeline.now))
    while cluster.timeline.step(100.0):
        pass
    assert [pod.node for pod in cluster.pods] == ["a1", None]
    assert not told, "half a gang is no gang"
    assert cluster.device_seconds() == cluster.partial_seconds() == pytest.approx(2 * 99.0)
    assert cluster.pods[1].pending_seconds(100.0) == pytest.approx(100.0)
    cluster.delete("gang")
    assert cluster.inventory.claims == {}


def test_pods_with_affinity_to_each_other_stay_together() -> None:
    cluster = machines(a1=2, a2=1, b1=4)
    pods: list[tuple[str, Object, list[Object]]] = [
        (f"pod-{number}", {}, [TWO_GPUS]) for number in range(2)
    ]
    cluster.create("gang", pods, lambda: None, LEAF_LABEL)
    cluster.schedule()
    nodes = [pod.node for pod in cluster.pods]
    assert nodes in (["b1", "b1"], ["a1", None])


def test_a_short_contest() -> None:
    closed, ignored = contest(CLOSED, 0.05, 0), contest(IGNORED, 0.05, 0)
    assert closed.long_pending == 0
    assert closed.requests == ignored.requests > 100
    assert closed.partial_hours < 0.1


def test_several_plays_are_summed_and_checked() -> None:
    one = Figures(CLOSED, 0.6, (0,), 100, 0.9, 0.8, 1.0, 0, 10.0, 0.0, 5, 0, 1.0, 3, 1.0)
    two = Figures(CLOSED, 0.6, (1,), 300, 0.5, 0.4, 0.6, 2, 20.0, 1.0, 7, 1, 70.0, 9, 1.0)
    both = together([one, two])
    assert (both.load, both.seeds) == (0.6, (0, 1))
    assert both.attainment == pytest.approx(0.6)
    assert (both.device_hours, both.long_pending, both.longest_pending) == (30.0, 1, 70.0)
    assert [check.ok for check in checks(one, two)] == [True, True, True]
    assert [check.ok for check in checks(two, one)] == [False, False, False]
