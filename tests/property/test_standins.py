"""Claims on nodes of equal devices get any of them: still everything that was planned fits."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bench.placement.objects import GPU, claim, gpu_node, inventory, used
from endpoints.allocation.holdings import POOL_LABEL, REPLICA_LABEL
from endpoints.allocation.needs import DeviceOption, DeviceRequest, Gang, RoleNeed
from endpoints.allocation.plan import DeviceId, Plan
from endpoints.allocation.planner import Planner

_NODES = {"a": 4, "b": 3, "c": 2}


class Machine(RuleBasedStateMachine):
    """Replicas are planned, their pods scheduled one by one in any order, and removed."""

    def __init__(self) -> None:
        super().__init__()
        items = [item for name, count in _NODES.items() for item in gpu_node(name, count)]
        self.inventory = inventory(*items)
        self.planner = Planner(self.inventory)
        self.plans: dict[str, Plan] = {}
        self.waiting: list[tuple[str, int]] = []
        self.made = 0

    @rule(pods=st.integers(1, 3), devices=st.integers(1, 2))
    def plan(self, pods: int, devices: int) -> None:
        """One more replica, where there is room."""
        request = DeviceRequest("gpu", (DeviceOption(GPU, count=devices),))
        plan = self.planner.plan(Gang("p", (RoleNeed("w", pods, (request,)),)), 0.0)
        if isinstance(plan, Plan):
            name = f"p-{self.made}"
            self.made += 1
            self.planner.ledger.reserve(f"default/{name}", plan, 0.0)
            self.plans[name] = plan
            self.waiting += [(name, place) for place in range(pods)]

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def schedule(self, data: st.DataObject) -> None:
        """Any pod that waits gets any free devices of its node, as its claim names none."""
        name, place = data.draw(st.sampled_from(self.waiting), "pod")
        pod = self.plans[name].pods[place]
        asked = len(pod.grants[0].devices)
        free = self.free(pod.node)
        assert len(free) >= asked, f"{name}: {asked} devices were planned on {pod.node}"
        chosen = data.draw(st.permutations(free), "devices")[:asked]
        item = claim(
            f"{name}-{place}",
            *(used(one.device, one.pool) for one in chosen),
            labels={POOL_LABEL: "p", REPLICA_LABEL: name},
        )
        self.inventory.upsert_claim(item)
        self.waiting.remove((name, place))
        if not any(other == name for other, _ in self.waiting):
            self.planner.ledger.release(f"default/{name}")

    @precondition(lambda self: self.plans)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """A replica goes, wherever it has come to."""
        name = data.draw(st.sampled_from(sorted(self.plans)), "replica")
        for place in range(len(self.plans.pop(name).pods)):
            self.inventory.remove_claim(f"default/{name}-{place}")
        self.waiting = [one for one in self.waiting if one[0] != name]
        self.planner.ledger.release(f"default/{name}")

    @invariant()
    def whoever_waits_has_room(self) -> None:
        """On each node as many devices are free as the pods that wait for it were promised."""
        for node in _NODES:
            promised = sum(
                len(self.plans[name].pods[place].grants[0].devices)
                for name, place in self.waiting
                if self.plans[name].pods[place].node == node
            )
            assert promised <= len(self.free(node))

    def free(self, node: str) -> list[DeviceId]:
        """The devices of a node that no claim holds."""
        return [
            one.id for one in self.inventory.devices_of(node) if not self.inventory.uses_of(one.id)
        ]


TestStandIns = Machine.TestCase
TestStandIns.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(foreign=st.integers(0, 3), taken=st.permutations(range(4)))
def test_somebody_elses_claim_costs_only_what_it_holds(foreign: int, taken: list[int]) -> None:
    """Two of four devices are planned; others take some: the rest is still what can be had."""
    held = inventory(*gpu_node("a", 4))
    planner = Planner(held)
    request = DeviceRequest("gpu", (DeviceOption(GPU, count=2),))
    pair = Gang("p", (RoleNeed("w", 1, (request,)),))
    one = Gang("q", (RoleNeed("w", 1, (DeviceRequest("gpu", (DeviceOption(GPU),)),)),))
    plan = planner.plan(pair, 0.0)
    assert isinstance(plan, Plan)
    planner.ledger.reserve("default/p-0", plan, 0.0)
    for number in taken[:foreign]:
        held.upsert_claim(claim(f"other-{number}", used(f"gpu-{number}", "a")))
    assert planner.feasible(one, 0.0).now == max(4 - 2 - foreign, 0)
