"""Gangs: whole or not at all, near where it goes, beside reservations, instead of idle ones."""

from collections.abc import Iterable

import pytest

from bench.placement.objects import GPU, Item, add, claim, gpu_node, inventory, node, slice_, used
from endpoints.allocation.holdings import POOL_LABEL, REPLICA_LABEL, Holding
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.ledger import Ledger
from endpoints.allocation.needs import (
    DeviceConstraint,
    DeviceOption,
    DeviceRequest,
    Gang,
    Reach,
    RoleNeed,
    Toleration,
)
from endpoints.allocation.plan import Feasible, NoPlan, Plan
from endpoints.allocation.planner import Planner

LEAF, SPINE = "fabric.topograph.run/tier-0", "fabric.topograph.run/tier-1"


def role(name: str, pods: int, devices: int = 1, **more: object) -> RoleNeed:
    request = DeviceRequest("gpu", (DeviceOption(GPU, count=devices),))
    return RoleNeed(name, pods, (request,), **more)  # type: ignore[arg-type]


def cluster(*leaves: Iterable[int], spines: int = 1) -> list[Item]:
    """For each leaf the GPUs of its nodes: nodes a0, a1, ... of leaf a."""
    made = []
    for at, counts in enumerate(leaves):
        leaf = "abcdefgh"[at]
        for number, count in enumerate(counts):
            labels = {LEAF: leaf, SPINE: f"s{at % spines}"}
            made += gpu_node(f"{leaf}{number}", count, labels)
    return made


def planned(held: Inventory, gang: Gang, **more: object) -> Plan:
    found = Planner(held).plan(gang, 0.0, **more)  # type: ignore[arg-type]
    assert isinstance(found, Plan), found.reason
    return found


def nodes(plan: Plan) -> list[str]:
    return [pod.node for pod in plan.pods]


def holding(pool: str, replica: str, name: str, **more: object) -> Holding:
    return Holding(pool, replica, more.pop("priority", 0), (f"default/{name}",), **more)  # type: ignore[arg-type]


def held_by(pool: str, replica: str, name: str, *devices: tuple[str, str]) -> Item:
    labels = {POOL_LABEL: pool, REPLICA_LABEL: replica}
    return claim(name, *(used(device, at) for at, device in devices), labels=labels)


def test_two_roles_are_placed_together_or_not_at_all() -> None:
    held = inventory(*cluster([4], [2]))
    both = Gang("p", (role("prefill", 1, 2), role("decode", 2)), reach=Reach("leaf"))
    assert set(nodes(planned(held, both))) == {"a0"}
    held.upsert_claim(claim("c", used("gpu-0", "a0")))
    found = Planner(held).plan(both, 0.0)
    assert isinstance(found, NoPlan)
    assert [(str(one.domain), one.code) for one in found.refusals] == [
        ("leaf a", "not-together"),
        ("leaf b", "not-together"),
    ]


def test_the_required_level_keeps_and_the_preferred_one_is_tried() -> None:
    held = inventory(*cluster([2, 2], [2, 2]))
    four = Gang("p", (role("w", 4),), reach=Reach("leaf", "host"))
    plan = planned(held, four)
    assert plan.domain is not None
    assert plan.domain.value == "a"
    assert len(set(nodes(plan))) == 2
    two = Gang("p", (role("w", 2),), reach=Reach("leaf", "host"))
    assert len(set(nodes(planned(held, two)))) == 1
    five = Gang("p", (role("w", 5),), reach=Reach("leaf"))
    assert isinstance(Planner(held).plan(five, 0.0), NoPlan)
    anywhere = Gang("p", (role("w", 5),), reach=Reach(None, "leaf"))
    plan = planned(held, anywhere)
    assert plan.domain is None
    assert {name[0] for name in nodes(plan)} == {"a", "b"}


def test_a_role_may_need_to_be_nearer_than_the_gang() -> None:
    held = inventory(*cluster([2, 2], [2, 2], spines=1))
    gang = Gang(
        "p",
        (role("prefill", 4, reach=Reach("leaf")), role("decode", 2, reach=Reach("host"))),
        reach=Reach("spine"),
    )
    plan = planned(held, gang)
    assert len({pod.node[0] for pod in plan.pods_of("prefill")}) == 1
    assert len({pod.node for pod in plan.pods_of("decode")}) == 1
    assert {name for name, _ in plan.role_domains} == {"prefill", "decode"}
    held.upsert_claim(claim("c", used("gpu-0", "a0"), used("gpu-0", "b0")))
    found = Planner(held).plan(gang, 0.0)
    assert isinstance(found, NoPlan)
    assert found.refusals[0].code == "no-corner"


def test_a_node_without_the_domains_label_is_not_in_any() -> None:
    held = inventory(*gpu_node("lost", 8), *cluster([1]))
    found = Planner(held).plan(Gang("p", (role("w", 2),), reach=Reach("leaf")), 0.0)
    assert isinstance(found, NoPlan)
    assert found.refusals[-1].code == "no-label"
    assert "1 node without the label" in found.refusals[-1].reason
    assert "lost" in nodes(planned(held, Gang("p", (role("w", 2),))))


def test_a_level_that_there_is_not() -> None:
    found = Planner(inventory(*cluster([1]))).plan(
        Gang("p", (role("w", 1),), reach=Reach("rack")), 0.0
    )
    assert isinstance(found, NoPlan)
    assert "no level 'rack'; there are" in found.reason


def test_whole_nodes_and_domains_are_kept_for_big_gangs() -> None:
    held = inventory(*cluster([4, 4], [4, 4]), claim("c", used("gpu-0", "b1")))
    small = Gang("p", (role("w", 1),))
    assert nodes(planned(held, small)) == ["b1"]
    plan = planned(held, Gang("p", (role("w", 3),), reach=Reach("leaf")))
    assert nodes(plan) == ["b1"] * 3
    four = planned(held, Gang("p", (role("w", 1, 4),), reach=Reach("leaf")))
    assert nodes(four) == ["b0"]  # breaks into neither a whole node nor a whole leaf
    assert {term.name: term.value for term in four.score}["broken nodes"] == 0


def test_prefill_goes_next_to_decode() -> None:
    held = inventory(*cluster([1, 3], [4]), claim("c", used("gpu-3", "b0")))
    gang = Gang("p", (role("prefill", 1, 2), role("decode", 1)), near="host")
    assert len(set(nodes(planned(held, gang)))) == 1


def test_replicas_are_spread_when_asked() -> None:
    held = inventory(
        *cluster([4], [4], [4]),
        held_by("p", "0", "c0", ("a0", "gpu-0")),
        held_by("other", "0", "c1", ("b0", "gpu-0")),
    )
    one = Gang("p", (role("w", 1),), reach=Reach("leaf"))
    assert nodes(planned(held, one)) == ["a0"]  # least left over
    spread = Gang("p", (role("w", 1),), reach=Reach("leaf"), spread="leaf")
    planner = Planner(held)
    seen = []
    for number in range(3):
        plan = planner.plan(spread, 0.0)
        assert isinstance(plan, Plan)
        planner.ledger.reserve(f"p/{number + 1}", plan, 0.0)
        seen.append(plan.pods[0].node)
    assert seen[:2] == ["b0", "c0"]


@pytest.mark.parametrize("required", [None, "spine"])
def test_replicas_are_spread_inside_of_what_holds_each_whole(required: str | None) -> None:
    held = inventory(*cluster([2, 2], [4], [1]))
    planner = Planner(held)
    gang = Gang("p", (role("w", 2),), reach=Reach(required), spread="leaf")
    found = []
    for replica in range(4):
        plan = planner.plan(gang, 0.0)
        assert isinstance(plan, Plan)
        planner.ledger.reserve(f"p/{replica}", plan, 0.0)
        found.append({node[0] for node in nodes(plan)})
    assert [len(leaves) for leaves in found] == [1, 1, 1, 1]
    assert found[0] | found[1] == {"a", "b"}
    assert found[2] | found[3] == {"a", "b"}
    big = Gang("p", (role("w", 5),), spread="leaf")
    assert isinstance(Planner(held).plan(big, 0.0), Plan), "too big for one of them: across"


def test_two_gangs_racing_do_not_plan_the_same_devices() -> None:
    held = inventory(*cluster([4]))
    planner = Planner(held)
    two = Gang("p", (role("w", 2),))
    first, late = planner.plan(two, 0.0), planner.plan(two, 0.0)
    assert isinstance(first, Plan)
    assert isinstance(late, Plan)
    planner.ledger.reserve("p/0", first, 0.0)
    with pytest.raises(ValueError, match="is reserved by p/0; plan again"):
        planner.ledger.reserve("q/0", late, 0.0)
    again = planner.plan(two, 0.0)
    assert isinstance(again, Plan)
    assert not set(again.devices()) & set(first.devices())
    planner.ledger.reserve("q/0", again, 0.0)
    assert isinstance(planner.plan(two, 0.0), NoPlan)


def test_a_reservation_ends_when_its_time_is_over_or_claims_show_it() -> None:
    held = inventory(*cluster([2]))
    planner = Planner(held)
    two = Gang("p", (role("w", 2),))
    plan = planner.plan(two, 0.0)
    assert isinstance(plan, Plan)
    planner.ledger.reserve("p/0", plan, 0.0, ttl=60.0)
    assert planner.ledger.holder(plan.devices()[0], 59.0) == "p/0"
    assert isinstance(planner.plan(two, 59.0), NoPlan)
    assert isinstance(planner.plan(two, 60.0), Plan)
    assert [one.key for one in planner.ledger.expire(60.0)] == ["p/0"]
    planner.ledger.reserve("p/0", plan, 100.0)
    held.upsert_claim(held_by("p", "0", "c", ("a0", "gpu-0"), ("a0", "gpu-1")))
    planner.ledger.settle(["p/0"])
    assert len(planner.ledger) == 0
    assert isinstance(planner.plan(two, 100.0), NoPlan)
    planner.ledger.release("p/0")  # again: nothing


def test_when_a_part_fails_the_whole_is_planned_anew() -> None:
    held = inventory(*cluster([2, 2], [2, 2]))
    planner = Planner(held, Ledger())
    gang = Gang("p", (role("w", 4),), reach=Reach("leaf"))
    plan = planner.plan(gang, 0.0)
    assert isinstance(plan, Plan)
    planner.ledger.reserve("p/0", plan, 0.0)
    lost = plan.pods[0].node
    held.upsert_node(node(lost, held.nodes[lost].labels, ready=False))
    planner.ledger.release("p/0")
    again = planner.plan(gang, 1.0)
    assert isinstance(again, Plan)
    assert again.domain != plan.domain
    held.upsert_slice(slice_(again.pods[0].node, [], count=2))  # its driver starts over
    planner.ledger.release("p/0")
    assert isinstance(planner.plan(gang, 2.0), NoPlan)


def test_idle_replicas_of_lower_priority_make_way_as_few_as_possible() -> None:
    held = inventory(
        *cluster([2, 2, 2]),
        *(held_by("low", str(at), f"c{at}", (f"a{at}", "gpu-0")) for at in range(3)),
    )
    running = [
        holding("low", "0", "c0", idle=True, priority=5),
        holding("low", "1", "c1", idle=True, priority=1),
        holding("low", "2", "c2", idle=False),
    ]
    two = (role("w", 1, 2),)
    assert isinstance(Planner(held).plan(Gang("p", two, priority=9), 0.0, running), NoPlan)
    urgent = Gang("p", two, priority=9, preempts=True)
    plan = planned(held, urgent, holdings=running)
    assert [(one.pool, one.replica) for one in plan.evictions] == [("low", "1")]
    assert nodes(plan) == ["a1"]
    feasible = Planner(held).feasible(urgent, 0.0, running)
    assert (feasible.now, feasible.after_preemption) == (0, 2)
    modest = Gang("p", two, priority=1, preempts=True)
    assert isinstance(Planner(held).plan(modest, 0.0, running), NoPlan)
    easy = planned(held, Gang("p", (role("w", 1),), priority=9, preempts=True), holdings=running)
    assert easy.evictions == ()


def test_equals_make_way_as_far_as_they_yield_and_who_is_going_goes() -> None:
    held = inventory(
        *cluster([2]),
        *(held_by("small", str(at), f"s{at}", ("a0", f"gpu-{at}")) for at in range(2)),
    )
    planner = Planner(held)
    big = Gang("big", (role("server", 1, 2),), preempts=True, shares=True)

    def ask(yields: int, **facts: bool) -> Plan | NoPlan:
        facts.setdefault("idle", True)
        holdings = [
            holding("small", str(number), f"s{number}", yields=yields, **facts)
            for number in range(2)
        ]
        assert planner.feasible(big, 0.0, holdings).now == 0
        found = planner.plan(big, 0.0, holdings)
        after = planner.feasible(big, 0.0, holdings).after_preemption
        assert after == isinstance(found, Plan)
        return found

    assert isinstance(ask(0), NoPlan)
    assert isinstance(ask(1), NoPlan), "both would have to go"
    assert len(planned_of(ask(2)).evictions) == 2
    assert isinstance(ask(2, idle=False), NoPlan)
    assert len(planned_of(ask(0, idle=False, going=True)).evictions) == 2
    alone = Gang("big", big.roles, preempts=True)
    assert isinstance(
        planner.plan(alone, 0.0, [holding("small", "0", "s0", idle=True, yields=9)]), NoPlan
    )


def planned_of(found: Plan | NoPlan) -> Plan:
    assert isinstance(found, Plan), found
    return found


def test_advice_moves_one_replica_to_make_room() -> None:
    held = inventory(
        *cluster([2, 2], [2]),
        held_by("p", "0", "c0", ("a0", "gpu-0")),
        held_by("q", "0", "c1", ("a1", "gpu-0")),
        claim("c2", used("gpu-0", "b0")),
    )
    whole = Gang("big", (role("w", 1, 2),))
    small = Gang("p", (role("w", 1),))
    running = [
        holding("p", "0", "c0", gang=small),
        holding("q", "0", "c1", movable=False, gang=small),
    ]
    advice = Planner(held).advise(whole, 0.0, running)
    assert advice is not None
    assert (advice.holding.pool, nodes(advice.plan)) == ("p", ["a0"])
    assert nodes(advice.moved)[0] in {"a1", "b0"}
    assert Planner(held).advise(Gang("big", (role("w", 2, 2),)), 0.0, running) is None


def test_feasible_counts_replicas_that_can_all_be_had() -> None:
    held = inventory(*cluster([4, 3], [2]))
    pair = Gang("p", (role("prefill", 1, 2), role("decode", 1)), reach=Reach("leaf"))
    found = Planner(held).feasible(pair, 0.0)
    assert found.now == 2
    assert not found.capped
    assert "none of 2 domains of leaf" in found.reason
    capped = Planner(held).feasible(Gang("p", (role("w", 1),)), 0.0, most=5)
    assert capped == Feasible(5, 5, "counted up to 5", capped=True)


def test_a_gang_may_be_asked_for_in_other_sizes() -> None:
    held = inventory(*cluster([4]))
    gang = Gang("p", (role("prefill", 4), role("decode", 4)))
    assert isinstance(Planner(held).plan(gang, 0.0), NoPlan)
    assert len(planned(held, gang.sized({"prefill": 1, "decode": 3})).pods) == 4
    assert [one.name for one in gang.sized({"prefill": 0}).roles] == ["decode"]
    with pytest.raises(KeyError, match="no role x"):
        gang.sized({"x": 1})
    with pytest.raises(ValueError, match="without pods"):
        gang.sized({"prefill": 0, "decode": 0})


def test_nodes_that_take_no_pods() -> None:
    tainted = {"key": "dedicated", "value": "x", "effect": "NoSchedule"}
    held = inventory(
        node("ready", {"pool": "gpu"}),
        node("down", ready=False),
        node("cordoned", unschedulable=True),
        node("tainted", taints=[tainted]),
        *(slice_(name, [{"name": "g"}]) for name in ("ready", "down", "cordoned", "tainted")),
    )
    one = Gang("p", (role("w", 2),))
    found = Planner(held).plan(one, 0.0, explain=True)
    assert isinstance(found, NoPlan)
    reason = found.refusals[0].reason
    for said in ("1 of 2 pods fit", "1 node: not ready", "1 node: cordoned", "taint dedicated=x"):
        assert said in reason
    tolerating = (Toleration("dedicated", "Equal", "x"),)
    assert nodes(planned(held, Gang("p", (role("w", 2, tolerations=tolerating),)))) == [
        "ready",
        "tainted",
    ]
    here = role("w", 1, node_selector=(("pool", "gpu"),))
    assert nodes(planned(held, Gang("p", (here,)))) == ["ready"]


def test_what_the_scheduler_could_spoil_is_said() -> None:
    root = "resource.kubernetes.io/pcieRoot"
    shown = [
        {"name": f"g{at}", "attributes": {root: {"string": where}}}
        for at, where in enumerate(("p0", "p1", "p1"))
    ]
    held = inventory(node("a"), slice_("a", shown))

    pair = role("pair", 1, 2, constraints=(DeviceConstraint(root),))
    plan = planned(held, Gang("p", (pair, role("one", 1))))
    assert plan.fragile == ("a",)  # the single one may be given g1 or g2
    assert planned(held, Gang("p", (role("one", 3),))).fragile == ()


def test_the_t_systems_case_claims_are_counted_not_node_resources() -> None:
    """A planner that looks at ``nvidia.com/gpu`` of nodes sees nothing where devices are claimed.

    There it wants replicas that can't be had, and its pods stay Pending. What counts is claims:
    each allocated device once, however many pods share the claim; none for a monitor's look, and
    none for a claim that waits.
    """
    held = inventory(*cluster([8, 8]))
    for name in ("a0", "a1"):
        shown = node(name, {LEAF: "a", SPINE: "s0"})
        shown["status"]["allocatable"] = {"cpu": "96", "nvidia.com/gpu": "0"}
        held.upsert_node(shown)
    gang = Gang("chat", (role("w", 1, 2),))
    assert Planner(held).feasible(gang, 0.0).now == 8

    shared = claim("shared", used("gpu-0", "a0"), used("gpu-1", "a0"))
    shared["status"]["reservedFor"] = [
        {"resource": "pods", "name": f"pod-{at}", "uid": str(at)} for at in range(5)
    ]
    for item in (
        shared,
        held_by("chat", "0", "mine", ("a0", "gpu-2"), ("a0", "gpu-3")),
        claim("dcgm", *(used(f"gpu-{at}", "a1", adminAccess=True) for at in range(8))),
        claim("waiting"),
    ):
        add(held, item)
    planner = Planner(held)
    ceiling = planner.feasible(gang, 0.0)
    assert ceiling.now == 6
    assert "in use or reserved" in ceiling.reason
    # What the ceiling promises can all be placed, beside each other, and not one more.
    for number in range(ceiling.now):
        plan = planner.plan(gang, 0.0)
        assert isinstance(plan, Plan)
        planner.ledger.reserve(f"chat/{number + 1}", plan, 0.0)
    assert isinstance(planner.plan(gang, 0.0), NoPlan)
    # Scaling down frees what the replica's claims held, once they are gone, and nothing before.
    assert Planner(held).feasible(gang, 0.0).now == 6
    held.remove_claim("default/mine")
    assert Planner(held).feasible(gang, 0.0).now == 7
