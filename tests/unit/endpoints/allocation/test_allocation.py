"""What one node holds: counts, alternatives, all, partitions, shared capacity, taints, admin."""

from collections.abc import Iterable

from bench.placement.objects import (
    GPU,
    NIC,
    Item,
    attributes,
    claim,
    device_class,
    gpu,
    inventory,
    node,
    slice_,
    used,
)
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.needs import (
    DeviceConstraint,
    DeviceOption,
    DeviceRequest,
    Gang,
    RoleNeed,
    Toleration,
)
from endpoints.allocation.plan import Grant, NoPlan, Plan
from endpoints.allocation.planner import Planner, PlannerSettings
from endpoints.allocation.quantity import parse_quantity

ROOT = "resource.kubernetes.io/pcieRoot"


def gang(*requests: DeviceRequest, pods: int = 1, bonds: Iterable[DeviceConstraint] = ()) -> Gang:
    return Gang("pool", (RoleNeed("w", pods, requests, tuple(bonds)),))


def ask(name: str = "gpu", *options: DeviceOption, admin: bool = False) -> DeviceRequest:
    return DeviceRequest(name, options or (DeviceOption(GPU),), admin)


def grants(held: Inventory, wanted: Gang) -> list[Grant] | None:
    found = Planner(held).plan(wanted, 0.0)
    if isinstance(found, NoPlan):
        return None
    return [grant for pod in found.pods for grant in pod.grants]


def names(held: Inventory, wanted: Gang) -> list[list[str]] | None:
    found = grants(held, wanted)
    return None if found is None else [[one.device for one in grant.devices] for grant in found]


def why(held: Inventory, wanted: Gang) -> str:
    found = Planner(held).plan(wanted, 0.0)
    assert isinstance(found, NoPlan)
    return " ".join([found.reason, *(one.reason for one in found.refusals)])


def rooted(name: str, root: str | None) -> Item:
    return gpu(name, attributes={ROOT: {"string": root}} if root else {})


def test_several_devices_on_one_root() -> None:
    held = inventory(
        node("a"),
        slice_(
            "a", [rooted("g0", "p1"), rooted("g1", "p2"), rooted("g2", None), rooted("g3", "p2")]
        ),
    )
    two = ask("gpu", DeviceOption(GPU, count=2))
    assert names(held, gang(two, bonds=[DeviceConstraint(ROOT)])) == [["g1", "g3"]]
    three = ask("gpu", DeviceOption(GPU, count=3))
    assert names(held, gang(three, bonds=[DeviceConstraint(ROOT)])) is None
    assert names(held, gang(three)) is not None


def test_gpu_and_nic_on_one_root() -> None:
    nics = [{"name": f"n{at}", "attributes": {ROOT: {"string": f"p{at}"}}} for at in (3, 2)]
    held = inventory(
        node("a"),
        slice_("a", [rooted("g1", "p1"), rooted("g2", "p2")]),
        slice_("a", nics, driver=NIC),
    )
    pair = (ask(), ask("nic", DeviceOption(NIC)))
    bond = DeviceConstraint(ROOT, ("gpu", "nic"))
    assert names(held, gang(*pair, bonds=[bond])) == [["g2"], ["n2"]]
    # A constraint of the GPUs alone says nothing of the NIC.
    assert names(held, gang(*pair, pods=2, bonds=[DeviceConstraint(ROOT, ("gpu",))])) is not None
    assert names(held, gang(*pair, pods=2, bonds=[bond])) is None


def test_different_values_and_lists_in_common() -> None:
    held = inventory(node("a"), slice_("a", [rooted("g0", "p1"), rooted("g1", "p1")]))
    two = ask("gpu", DeviceOption(GPU, count=2))
    assert names(held, gang(two, bonds=[DeviceConstraint(ROOT, distinct=True)])) is None
    held.upsert_slice(slice_("a", [rooted("g0", "p1"), rooted("g1", "p1"), rooted("g2", "p2")]))
    found = names(held, gang(two, bonds=[DeviceConstraint(ROOT, distinct=True)]))
    assert found is not None
    assert "g2" in found[0]
    lists = [
        gpu(f"g{at}", attributes={"links": {"strings": links}})
        for at, links in enumerate((["a", "b"], ["b", "c"], ["c", "d"]))
    ]
    held.upsert_slice(slice_("a", lists))
    bond = DeviceConstraint(f"{GPU}/links")
    assert names(held, gang(two, bonds=[bond])) == [["g0", "g1"]]
    assert names(held, gang(ask("gpu", DeviceOption(GPU, count=3)), bonds=[bond])) is None


def test_a_version_is_not_the_text_that_looks_like_it() -> None:
    odd = [
        gpu("g0", attributes={"v": {"version": "1.0.0"}}),
        gpu("g1", attributes={"v": {"string": "1.0.0"}}),
    ]
    held = inventory(node("a"), slice_("a", odd))
    two = ask("gpu", DeviceOption(GPU, count=2))
    assert names(held, gang(two, bonds=[DeviceConstraint(f"{GPU}/v")])) is None


H100 = DeviceOption(GPU, "h100", 1, (f'device.attributes["{GPU}"].model == "H100"',))
A100 = DeviceOption(GPU, "a100", 2, (f'device.attributes["{GPU}"].model == "A100"',))


def a100(name: str) -> Item:
    return gpu(name, attributes=attributes(model="A100"))


def test_the_first_alternative_that_there_is_for_all_pods_alike() -> None:
    either = ask("gpu", H100, A100)
    held = inventory(node("a"), slice_("a", [gpu("h0"), a100("a0"), a100("a1")]))
    assert names(held, gang(either)) == [["h0"]]
    held.upsert_claim(claim("c", used("h0", "a")))
    found = Planner(held).plan(gang(either), 0.0)
    assert isinstance(found, Plan)
    assert found.options == ((("w", "gpu"), "a100"),)
    assert [one.option for pod in found.pods for one in pod.grants] == ["a100"]
    # One pod with an H100 and one with two A100 would fit, but not two pods alike.
    held.remove_claim("default/c")
    assert names(held, gang(either, pods=2)) is None


def test_alternatives_by_cost_when_asked() -> None:

    held = inventory(
        device_class("cheap", 'device.driver == "cheap"'),
        node("a"),
        slice_("a", [gpu("h0")]),
        slice_("a", [{"name": "c0"}], driver="cheap"),
    )
    wanted = gang(ask("gpu", DeviceOption(GPU, "dear"), DeviceOption("cheap", "cheap")))
    for cheapest, expected in ((False, "dear"), (True, "cheap")):
        settings = PlannerSettings({GPU: 4.0, "cheap": 1.5}, cheapest=cheapest)
        found = Planner(held, settings=settings).plan(wanted, 0.0)
        assert isinstance(found, Plan)
        assert found.options == ((("w", "gpu"), expected),)


def test_all_devices_that_match_or_none() -> None:
    every = ask("gpu", DeviceOption(GPU, count=None, selectors=H100.selectors))
    held = inventory(node("a"), slice_("a", [gpu("h0"), gpu("h1"), a100("a0")]))
    assert names(held, gang(every)) == [["h0", "h1"]]
    assert names(held, gang(every, pods=2)) is None
    held.upsert_claim(claim("c", used("h1", "a")))
    assert names(held, gang(every)) is None
    held.remove_claim("default/c")
    held.upsert_slice(slice_("a", [{"name": "n"}], driver=NIC, count=2))
    assert "1 of 2 slices" in why(held, gang(every))  # of any pool that the node sees
    nothing = ask("gpu", DeviceOption(NIC, count=None))
    assert names(inventory(node("a"), slice_("a", [gpu("h0")])), gang(nothing)) is None


def mig(card: int, name: str, size: int) -> Item:
    units = {"units": {"value": str(size)}}
    return gpu(
        name,
        f"{size * 10}Gi",
        consumesCounters=[{"counterSet": f"set-{card}", "counters": units}],
        attributes=attributes(type="mig" if size < 7 else "gpu"),
    )


def partitioned() -> Inventory:
    sets = [{"name": f"set-{at}", "counters": {"units": {"value": "7"}}} for at in range(2)]
    parts = [
        mig(card, f"{card}-{kind}", size)
        for card in range(2)
        for kind, size in (("full", 7), ("half-a", 3), ("half-b", 3), ("one", 1))
    ]
    return inventory(node("a"), slice_("a", parts, sharedCounters=sets))


def selecting(kind: str, count: int = 1) -> DeviceRequest:
    selector = f'device.attributes["{GPU}"].type == "{kind}"'
    return ask(kind, DeviceOption(GPU, count=count, selectors=(selector,)))


def test_a_whole_gpu_and_its_partitions_exclude_each_other() -> None:
    held = partitioned()
    assert names(held, gang(selecting("gpu", 2))) == [["0-full", "1-full"]]
    assert names(held, gang(selecting("gpu"), selecting("mig", 4))) is None
    found = names(held, gang(selecting("gpu"), selecting("mig", 3)))
    assert found is not None
    assert {one[0] for one in found[1]} != {found[0][0][0]}
    held.upsert_claim(claim("c", used("0-one", "a")))
    assert names(held, gang(selecting("gpu", 2))) is None
    assert names(held, gang(selecting("gpu"))) == [["1-full"]]
    held.upsert_claim(claim("d", used("1-full", "a")))
    assert names(held, gang(selecting("mig", 3))) is None
    assert names(held, gang(selecting("mig", 2))) == [["0-half-a", "0-half-b"]]


def shared(**policy: object) -> Item:
    memory: Item = {"value": "80Gi"}
    if policy:
        memory["requestPolicy"] = policy
    return {"name": "g0", "allowMultipleAllocations": True, "capacity": {"memory": memory}}


def taking(amount: str | None = None) -> DeviceRequest:
    capacity = (("memory", parse_quantity(amount)),) if amount else ()
    return ask("gpu", DeviceOption(GPU, capacity=capacity))


def most_pods(held: Inventory, request: DeviceRequest, at_least: int = 1) -> int:
    return max(
        (pods for pods in range(at_least, 20) if names(held, gang(request, pods=pods))), default=0
    )


def test_shared_capacity_is_rounded_by_range() -> None:
    held = inventory(
        node("a"),
        slice_(
            "a",
            [shared(default="10Gi", validRange={"min": "10Gi", "step": "5Gi", "max": "40Gi"})],
        ),
    )
    found = grants(held, gang(taking("11Gi")))
    assert found is not None
    assert found[0].consumed == (((f"{GPU}/memory", parse_quantity("15Gi")),),)
    assert most_pods(held, taking("11Gi")) == 5
    assert most_pods(held, taking("1Gi")) == 8
    assert most_pods(held, taking()) == 8  # the default
    assert most_pods(held, taking("41Gi")) == 0  # beyond the range
    held.upsert_claim(claim("c", used("g0", "a", consumedCapacity={"memory": "45Gi"}, shareID="x")))
    assert most_pods(held, taking("15Gi")) == 2


def test_shared_capacity_is_rounded_to_valid_values() -> None:
    held = inventory(node("a"), slice_("a", [shared(default="20Gi", validValues=["20Gi", "40Gi"])]))
    assert most_pods(held, taking("21Gi")) == 2
    assert most_pods(held, taking("20Gi")) == 4
    assert most_pods(held, taking("50Gi")) == 0


def test_shared_capacity_without_policy() -> None:
    held = inventory(node("a"), slice_("a", [shared()]))
    assert most_pods(held, taking("30Gi")) == 2
    assert most_pods(held, taking()) == 1  # all of it
    assert names(held, gang(taking("30Gi"), DeviceRequest("b", taking("50Gi").options))) is not None
    bandwidth = ask("gpu", DeviceOption(GPU, capacity=(("bandwidth", 1),)))
    assert names(held, gang(bandwidth)) is None  # it has none


def test_capacity_of_a_device_that_is_not_shared_is_a_minimum() -> None:
    held = inventory(node("a"), slice_("a", [gpu("small", "40Gi"), gpu("large", "80Gi")]))
    assert names(held, gang(taking("60Gi"))) == [["large"]]
    full = ask("gpu", DeviceOption(GPU, capacity=((f"{GPU}/memory", parse_quantity("60Gi")),)))
    assert names(held, gang(full)) == [["large"]]
    assert "2 with too little capacity" in why(held, gang(taking("90Gi")))


def test_admin_access_sees_what_is_in_use_and_uses_nothing() -> None:
    held = inventory(
        node("a"), slice_("a", [gpu("g0"), gpu("g1")]), claim("c", used("g0", "a"), used("g1", "a"))
    )
    looking = ask("gpu", DeviceOption(GPU, count=2), admin=True)
    assert names(held, gang(looking, pods=3)) == [["g0", "g1"]] * 3
    assert names(held, gang(ask("gpu", DeviceOption(GPU, count=3), admin=True))) is None
    found = Planner(held).plan(gang(looking), 0.0)
    assert isinstance(found, Plan)
    assert found.devices() == ()
    every = ask("gpu", DeviceOption(GPU, count=None), admin=True)
    assert names(held, gang(every)) == [["g0", "g1"]]
    held.remove_claim("default/c")
    both = gang(
        DeviceRequest("look", looking.options, True), ask("gpu", DeviceOption(GPU, count=2))
    )
    assert names(held, both) == [["g0", "g1"], ["g0", "g1"]]


def test_tainted_devices_need_a_toleration() -> None:
    bad = gpu("g0", taints=[{"key": "gpu.nvidia.com/xid", "value": "79", "effect": "NoSchedule"}])
    held = inventory(node("a"), slice_("a", [bad]))

    def tolerating(*tolerations: Toleration) -> Gang:
        return gang(ask("gpu", DeviceOption(GPU, tolerations=tolerations)))

    xid = "gpu.nvidia.com/xid"
    assert "1 tainted" in why(held, tolerating())
    assert names(held, tolerating(Toleration(operator="Exists"))) == [["g0"]]  # empty key: any
    assert names(held, tolerating(Toleration(xid, "Exists"))) == [["g0"]]
    assert names(held, tolerating(Toleration(xid, "Equal", "79"))) == [["g0"]]
    assert names(held, tolerating(Toleration(xid, "Equal", "79", "NoSchedule"))) == [["g0"]]
    assert names(held, tolerating(Toleration(xid, "Equal", "43"))) is None
    assert names(held, tolerating(Toleration(xid, "Exists", effect="NoExecute"))) is None
    assert names(held, tolerating(Toleration("other", "Exists"))) is None


def test_an_error_in_a_selector_stands_in_the_way_of_the_node() -> None:
    held = inventory(
        node("a"), slice_("a", [gpu("g0", attributes=attributes(fast=True)), gpu("g1")])
    )
    careless = gang(ask("gpu", DeviceOption(GPU, selectors=(f'device.attributes["{GPU}"].fast',))))
    assert "no such key: fast" in why(held, careless)
    held.upsert_claim(claim("c", used("g1", "a")))  # the scheduler does not look at used devices
    assert names(held, careless) == [["g0"]]
    guarded = f'has(device.attributes["{GPU}"].fast) && device.attributes["{GPU}"].fast'
    held.remove_claim("default/c")
    assert names(held, gang(ask("gpu", DeviceOption(GPU, selectors=(guarded,))))) == [["g0"]]


def test_what_cannot_be_decided_is_said_and_not_guessed() -> None:
    held = inventory(node("a"), slice_("a", [gpu("g0")]))
    unknown = gang(ask("gpu", DeviceOption(GPU, selectors=('ip("10.0.0.1").family() == 4',))))
    found = Planner(held).plan(unknown, 0.0)
    assert isinstance(found, NoPlan)
    assert found.refusals[0].code == "undecidable"
    assert "can't be decided here" in found.reason
    assert Planner(held).feasible(unknown, 0.0).now == 0


def test_a_class_that_is_not_there() -> None:
    found = Planner(inventory(node("a"))).plan(gang(ask("gpu", DeviceOption("none"))), 0.0)
    assert isinstance(found, NoPlan)
    assert found.refusals[0].code == "no-class"
    assert "there is no DeviceClass 'none'" in found.reason


def test_devices_that_have_to_be_bound_first_come_last() -> None:
    slow = gpu("g0", bindingConditions=["attached"], bindingFailureConditions=["lost"])
    held = inventory(node("a"), slice_("a", [slow, gpu("g1")]))
    assert names(held, gang(ask())) == [["g1"]]
    assert names(held, gang(ask(), pods=2)) == [["g1"], ["g0"]]


def test_a_selector_on_what_tells_equal_devices_apart() -> None:
    held = Inventory()
    held.upsert_class(device_class(GPU))
    for index in range(40):
        held.upsert_node(node(f"n{index}"))
        shown = [gpu(f"g{at}", attributes=attributes(uuid=f"{index}-{at}")) for at in range(8)]
        held.upsert_slice(slice_(f"n{index}", shown))
    wanted = ask(
        "gpu", DeviceOption(GPU, selectors=(f'device.attributes["{GPU}"].uuid == "33-5"',))
    )
    found = Planner(held).plan(gang(wanted), 0.0)
    assert isinstance(found, Plan)
    assert [(pod.node, pod.grants[0].devices[0].device) for pod in found.pods] == [("n33", "g5")]
    assert isinstance(Planner(held).plan(gang(wanted, pods=2), 0.0), NoPlan)


def test_devices_that_several_nodes_see_are_given_once() -> None:
    far = [{"name": f"f{at}"} for at in range(2)]
    held = inventory(
        *(node(name) for name in "abc"),
        *(slice_(name, [gpu("g0")]) for name in "abc"),
        slice_(None, far, driver=NIC, pool="fabric", allNodes=True),
    )
    pair = (ask(), ask("nic", DeviceOption(NIC)))
    found = Planner(held).plan(gang(*pair, pods=2), 0.0)
    assert isinstance(found, Plan)
    assert len(set(found.devices())) == 4
    assert isinstance(Planner(held).plan(gang(*pair, pods=3), 0.0), NoPlan)
    held.upsert_claim(claim("c", used("f0", "fabric", driver=NIC)))
    assert isinstance(Planner(held).plan(gang(*pair, pods=2), 0.0), NoPlan)


def test_a_channel_of_a_compute_domain_is_one_a_node() -> None:
    """Two groups with domains of their own can't share a node, as its only channel is taken."""
    channels = [{"name": "channel-0", "attributes": attributes(type="channel", id=0)}]
    driver = "compute-domain.nvidia.com"
    held = inventory(
        device_class(driver),
        node("a"),
        node("b"),
        *(slice_(name, [gpu("g0"), gpu("g1")]) for name in "ab"),
        *(slice_(name, channels, driver=driver) for name in "ab"),
    )
    pair = (ask(), ask("channel", DeviceOption(driver)))
    found = Planner(held).plan(gang(*pair, pods=2), 0.0)
    assert isinstance(found, Plan)
    assert sorted(pod.node for pod in found.pods) == ["a", "b"]
    assert isinstance(Planner(held).plan(gang(*pair, pods=3), 0.0), NoPlan)
