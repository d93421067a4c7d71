"""Slices, pools, claims and nodes: what is there, who uses it, and what is not used at all."""

import pytest

from bench.placement.objects import (
    GPU,
    attributes,
    claim,
    gpu,
    inventory,
    node,
    slice_,
    used,
)
from endpoints.allocation.inventory import Inventory, InventoryError
from endpoints.allocation.plan import DeviceId
from endpoints.allocation.pools import PoolKey
from endpoints.allocation.stock import NOTHING, state_of


def devices(held: Inventory, name: str) -> list[str]:
    return [one.id.device for one in held.devices_of(name)]


def test_the_highest_generation_counts() -> None:
    held = inventory(
        node("a"),
        slice_("a", [gpu("old")], name="one", generation=1),
        slice_("a", [gpu("new")], name="two", generation=2),
    )
    assert devices(held, "a") == ["new"]
    held.remove_slice("two")
    assert devices(held, "a") == ["old"]


def test_a_pool_of_several_slices_is_used_when_all_are_there() -> None:
    held = inventory(node("a"), slice_("a", [gpu("gpu-0")], name="one", count=2))
    assert devices(held, "a") == []
    assert list(held.problems_of(held.nodes["a"])) == [
        f"pool {GPU}/a: 1 of 2 slices of generation 1 are there"
    ]
    held.upsert_slice(slice_("a", [gpu("gpu-1")], name="two", count=2))
    assert devices(held, "a") == ["gpu-0", "gpu-1"]
    held.upsert_slice(slice_("a", [gpu("gpu-0")], name="one", count=2, generation=2))
    assert devices(held, "a") == []  # between generations
    held.upsert_slice(slice_("a", [gpu("gpu-1")], name="two", count=2, generation=2))
    assert devices(held, "a") == ["gpu-0", "gpu-1"]


def test_two_devices_of_one_name_make_a_pool_useless() -> None:
    held = inventory(node("a"), slice_("a", [gpu("x"), gpu("x")]))
    assert devices(held, "a") == []


def test_v1beta1_puts_devices_below_basic() -> None:
    for version in ("v1", "v1beta2", "v1beta1"):
        held = inventory(node("a"), slice_("a", [gpu("gpu-0", "40Gi")], version=version))
        (device,) = held.devices_of("a")
        assert device.attribute(f"{GPU}/model") == "H100"
        assert f"{GPU}/memory" in device.shape.capacity


def test_names_without_domain_belong_to_the_driver() -> None:
    plain = gpu("gpu-0", attributes=attributes(serial="s"))
    full = gpu("gpu-1")
    full["attributes"] = {f"{GPU}/serial": {"string": "s"}, "other.io/x": {"int": 3}}
    first, second = inventory(node("a"), slice_("a", [plain, full])).devices_of("a")
    assert first.attribute(f"{GPU}/serial") == second.attribute(f"{GPU}/serial") == "s"
    assert second.attribute("other.io/x") == 3


def test_list_attributes_and_unknown_kinds() -> None:
    odd = gpu("gpu-0")
    odd["attributes"] = {"links": {"strings": ["a", "b"]}, "later": {"duration": "1s"}}
    (device,) = inventory(node("a"), slice_("a", [odd])).devices_of("a")
    assert device.attribute(f"{GPU}/links") == ("a", "b")
    assert device.attribute(f"{GPU}/later") is None


def test_counters_in_a_slice_of_their_own_and_beside_devices() -> None:
    counters = [{"name": "set", "counters": {"units": {"value": "7"}}}]
    part = gpu(
        "p0", consumesCounters=[{"counterSet": "set", "counters": {"units": {"value": "3"}}}]
    )
    apart = inventory(
        slice_("a", name="sets", count=2, sharedCounters=counters),
        slice_("a", [part], name="parts", count=2),
    )
    together = inventory(slice_("a", [part], sharedCounters=counters))
    for held in (apart, together):
        pool = held.pools[PoolKey(GPU, "a")]
        assert pool.problem == ""
        assert list(pool.counters) == [("set", "units")]
    lost = inventory(slice_("a", [part]))
    assert "unknown counter set/units" in lost.pools[PoolKey(GPU, "a")].problem


def test_devices_of_selected_and_of_all_nodes() -> None:
    need = {"key": "rack", "operator": "In", "values": ["r1"]}
    held = inventory(
        node("a", {"rack": "r1"}),
        node("b", {"rack": "r2"}),
        slice_(
            None,
            [gpu("near")],
            pool="rack",
            nodeSelector={"nodeSelectorTerms": [{"matchExpressions": [need]}]},
        ),
        slice_(None, [gpu("any")], pool="all", allNodes=True),
    )
    seen = {
        name: [
            device.id.device
            for pool in held.shared_pools.values()
            for device in pool.devices
            if device.scope.covers(held.nodes[name])
        ]
        for name in ("a", "b")
    }
    assert seen == {"a": ["near", "any"], "b": ["any"]}


def test_each_device_may_say_which_nodes_see_it() -> None:
    own = [{**gpu("x"), "nodeName": "a"}, {**gpu("y"), "nodeName": "b"}]
    held = inventory(node("a"), node("b"), slice_(None, own, pool="p", perDeviceNodeSelection=True))
    assert (devices(held, "a"), devices(held, "b")) == (["x"], ["y"])
    before = held.stamp("a"), held.stamp("b")
    held.upsert_claim(claim("c", used("x", "p")))
    assert held.stamp("a") > before[0]
    assert held.stamp("b") == before[1]
    mixed = [{**gpu("x"), "nodeName": "a"}, {**gpu("y"), "allNodes": True}]
    held = inventory(slice_(None, mixed, pool="p", perDeviceNodeSelection=True))
    assert list(held.shared_pools) == [PoolKey(GPU, "p")]


def test_every_claims_status_counts_and_admin_access_does_not() -> None:
    held = inventory(
        slice_("a", [gpu("gpu-0"), gpu("gpu-1")]),
        claim("pod", used("gpu-0", "a")),
        claim(
            "monitor", used("gpu-0", "a", adminAccess=True), used("gpu-1", "a", adminAccess=True)
        ),
        claim("waiting"),
    )
    taken = {one.id.device: state_of(held, one, NOTHING).taken for one in held.devices_of("a")}
    assert taken == {"gpu-0": True, "gpu-1": False}
    held.upsert_claim(claim("pod"))  # deallocated
    assert not state_of(held, next(iter(held.devices_of("a"))), NOTHING).taken


def test_claims_may_come_before_the_slices_they_use() -> None:
    held = inventory(claim("pod", used("gpu-0", "a")), slice_("a", [gpu("gpu-0")]))
    (device,) = held.devices_of("a")
    assert state_of(held, device, NOTHING).taken
    held.remove_claim("default/pod")
    assert held.uses_of(DeviceId(GPU, "a", "gpu-0")) == ()


def test_an_unknown_effect_of_a_taint_keeps_nobody_off() -> None:
    odd = gpu("gpu-0", taints=[{"key": "k", "effect": "PreferNot"}, {"key": "n", "effect": "None"}])
    bad = gpu("gpu-1", taints=[{"key": "k", "effect": "NoExecute", "value": "79"}])
    first, second = inventory(slice_("a", [odd, bad])).devices_of("a")
    assert first.taints == ()
    assert [str(one) for one in second.taints] == ["k=79:NoExecute"]


def test_taint_rules_cover_what_they_select() -> None:
    held = inventory(slice_("a", [gpu("gpu-0"), gpu("gpu-1")]))
    first, second = held.devices_of("a")

    def rule(selector: object) -> dict[str, object]:
        taint = {"key": "maintenance", "effect": "NoSchedule"}
        spec = {"deviceSelector": selector, "taint": taint}
        return {"kind": "DeviceTaintRule", "metadata": {"name": "r"}, "spec": spec}

    held.upsert_taint_rule(rule({"driver": GPU, "device": "gpu-1"}))
    assert [len(held.taints_of(one)) for one in (first, second)] == [0, 1]
    held.upsert_taint_rule(rule({}))
    assert [len(held.taints_of(one)) for one in (first, second)] == [1, 1]
    held.upsert_taint_rule(rule(None))
    assert [len(held.taints_of(one)) for one in (first, second)] == [0, 0]


def test_a_dead_driver_hides_its_devices_but_not_others() -> None:
    held = inventory(node("a"), slice_("a", [gpu("gpu-0")]), slice_("a", [gpu("n")], driver="nic"))
    held.mark_driver(GPU, "a", alive=False)
    assert devices(held, "a") == ["n"]
    assert list(held.problems_of(held.nodes["a"])) == [f"pool {GPU}/a: its driver is dead"]
    held.mark_driver(GPU, "a", alive=True)
    assert devices(held, "a") == ["gpu-0", "n"]


def test_what_cannot_be_read_names_the_field_and_changes_nothing() -> None:
    held = inventory(slice_("a", [gpu("gpu-0")]))
    for broken, said in (
        (slice_("a", [gpu("gpu-0", "80GiB")]), r"devices\[0\] \(gpu-0\).capacity\[memory\].value"),
        (slice_("a", [{"name": 3}]), r"devices\[0\].name: is no text"),
        (slice_("a", count=0), "resourceSliceCount: is 0"),
        (slice_(None, [gpu("x")], pool="p"), "says of no node"),
    ):
        with pytest.raises(InventoryError, match=said):
            held.upsert_slice(broken)
    assert devices(held, "a") == ["gpu-0"]


def test_removing_the_unknown_does_nothing() -> None:
    held = inventory()
    held.remove_slice("x")
    held.remove_node("x")
    held.remove_class("x")
    held.remove_claim("default/x")
    held.remove_taint_rule("x")


def test_a_slice_that_changes_its_pool_leaves_the_old_one() -> None:
    held = inventory(slice_("a", [gpu("gpu-0")], name="s"))
    held.upsert_slice(slice_("b", [gpu("gpu-0")], name="s"))
    assert (devices(held, "a"), devices(held, "b")) == ([], ["gpu-0"])
    assert list(held.pools) == [PoolKey(GPU, "b")]


def test_attributes_that_differ_on_each_device_do_not_make_shapes_differ() -> None:
    held = inventory()
    for index in range(100):
        shown = [gpu(f"g{at}", attributes=attributes(uuid=f"{index}-{at}")) for at in range(8)]
        held.upsert_slice(slice_(f"n{index}", shown))
    late = [device.shape for index in range(50, 100) for device in held.devices_of(f"n{index}")]
    assert len(set(late)) == 1
    (first, *_) = held.devices_of("n99")
    assert first.attribute(f"{GPU}/uuid") == "99-0"
    assert first.view().attributes[GPU]["uuid"] == "99-0"
