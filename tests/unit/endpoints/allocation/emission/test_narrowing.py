"""Claims take the planned devices where devices differ, and share a template where they do not."""

from bench.cluster.allocating import allocate
from bench.cluster.parts import device_class, device_slice, gpu, node
from endpoints.allocation.controller.course import Situation, course
from endpoints.allocation.controller.record import Record, revision_of
from endpoints.allocation.emission.changes import written
from endpoints.allocation.emission.gangs.setting import Setting
from endpoints.allocation.emission.identity import Object, Owner
from endpoints.allocation.emission.narrowing import narrowing, texts_in_play
from endpoints.allocation.emission.served import GangApi
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.manifest import Capacity, capacity_from
from endpoints.allocation.planner import Planner
from tests.support.capacities import document

CLASS = "gpu.example.com"


def inventory(devices: list[Object]) -> Inventory:
    made = Inventory()
    made.upsert_node(node("n1", {}))
    made.upsert_slice(device_slice("n1", devices))
    made.upsert_class(device_class())
    return made


def pool(name: str, count: int, **role: object) -> Capacity:
    item = document(name, count=count, replicas={"max": 9, "wanted": 1}, role=role)
    item["spec"]["roles"][0]["devices"][0] |= {"deviceClassName": CLASS, **role.pop("device", {})}  # type: ignore[dict-item]
    item["spec"]["roles"][0].pop("device", None)
    return capacity_from(item)


def placed(there: Inventory, *pools: Capacity) -> list[Record]:
    planner = Planner(there)
    in_play = texts_in_play([one.gang for one in pools], there)
    found: list[Record] = []
    for one in pools:
        situation = Situation(
            one, revision_of(one), narrow=lambda plan: narrowing(plan, there, in_play)
        )
        found += course(situation, planner, 0.0).records
    return found


def templates(record: Record, one: Capacity) -> list[Object]:
    setting = Setting(
        Owner(one.name, one.namespace, "u", one.gang.pool),
        one.spec.scheduler,
        {role.name: role.template for role in one.spec.roles},
    )
    made = written([record.replica], setting, GangApi.PLAIN)
    return [item for item in made if item["kind"] == "ResourceClaimTemplate"]


H100, A100 = gpu(1, "H100", "80Gi"), gpu(0, "A100", "40Gi")
NEEDS_H100 = [{"cel": {"expression": f'device.attributes["{CLASS}"].productName == "H100"'}}]


def test_equal_devices_are_left_to_the_scheduler() -> None:
    one = pool("a", 1)
    there = inventory([gpu(index, "H100", "80Gi", root=index) for index in range(4)])
    (record,) = placed(there, one)
    assert record.narrowing == {}
    (template,) = templates(record, one)
    assert "selectors" not in template["spec"]["spec"]["devices"]["requests"][0]["exactly"]


def test_whoever_takes_any_device_leaves_the_one_that_another_needs() -> None:
    """First fit would give the GPU that only the second pool can use to the first."""
    needs, takes = pool("needs", 1, device={"selectors": NEEDS_H100}), pool("takes", 1)
    first = {**H100, "name": "gpu-0"}
    second = {**A100, "name": "gpu-1"}
    there = inventory([first, second])
    _, record = placed(there, needs, takes)
    (template,) = templates(record, takes)
    results = allocate(there, "n1", template["spec"]["spec"]["devices"])
    assert results is not None
    assert [one.device.id.device for one in results] == ["gpu-1"]


def test_it_matters_only_if_anybody_asks() -> None:
    (record,) = placed(inventory([H100, A100]), pool("takes", 1))
    assert record.narrowing == {}


def test_partitions_are_always_told_apart() -> None:
    halves = []
    for name in ("gpu-0-half-0", "gpu-0-half-1"):
        half = gpu(0, "half", "40Gi")
        half["name"] = name
        half["consumesCounters"] = [
            {"counterSet": "c", "counters": {"slices": {"value": "1"}}},
        ]
        halves.append(half)
    whole = gpu(0, "whole", "80Gi")
    whole["consumesCounters"] = [{"counterSet": "c", "counters": {"slices": {"value": "2"}}}]
    there = inventory([whole, *halves])
    there.upsert_slice(
        {
            "metadata": {"name": "counters"},
            "spec": {
                "driver": CLASS,
                "nodeName": "n1",
                "pool": {"name": "n1", "generation": 1, "resourceSliceCount": 2},
                "sharedCounters": [{"name": "c", "counters": {"slices": {"value": "2"}}}],
            },
        }
    )
    both = device_slice("n1", [whole, *halves])
    both["spec"]["pool"]["resourceSliceCount"] = 2
    there.upsert_slice(both)
    one = pool("a", 2)
    (record,) = placed(there, one)
    (template,) = templates(record, one)
    results = allocate(there, "n1", template["spec"]["spec"]["devices"])
    assert results is not None
    assert {result.device.id.device for result in results} == {"gpu-0-half-0", "gpu-0-half-1"}
