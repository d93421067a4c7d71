"""The planner against an exhaustive search, and against itself with nothing remembered."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.placement.objects import Item, add
from bench.placement.oracle import broken_rules, possible, spoiled
from bench.placement.scenario import cluster, gang_of, random_scenario
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.levels import PRESETS
from endpoints.allocation.plan import NoPlan, Plan, PodPlan
from endpoints.allocation.planner import Planner
from endpoints.allocation.quantity import NANO

SEEDS = st.integers(0, 2**32)


def planner_of(items: list[Item]) -> Planner:
    held = Inventory()
    for item in items:
        add(held, item)
    return Planner(held, scheme=PRESETS["topograph"])


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_every_plan_keeps_every_rule_and_none_is_claimed_that_there_is_not(seed: int) -> None:
    scenario = random_scenario(Random(seed))
    found = planner_of(list(cluster(scenario))).plan(gang_of(scenario), 0.0, explain=True)
    if isinstance(found, Plan):
        assert broken_rules(scenario, found) == []
        assert possible(scenario)
        for order in range(3):
            assert set(spoiled(scenario, found, Random(order))) <= set(found.fragile)
    else:
        assert found.reason
        assert found.refusals


def test_what_an_exhaustive_search_finds_is_found() -> None:
    there = missed = 0
    for seed in range(400):
        scenario = random_scenario(Random(seed))
        if possible(scenario):
            there += 1
            found = planner_of(list(cluster(scenario))).plan(gang_of(scenario), 0.0)
            missed += isinstance(found, NoPlan)
    assert there > 100
    assert missed <= there * 0.01


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_replicas_that_are_placed_one_after_the_other_keep_every_rule_together(seed: int) -> None:
    scenario = random_scenario(Random(seed))
    planner = planner_of(list(cluster(scenario)))
    gang = gang_of(scenario)
    feasible = planner.feasible(gang, 0.0, most=8)
    pods: list[PodPlan] = []
    for number in range(feasible.now):
        found = planner.plan(gang, 0.0)
        assert isinstance(found, Plan)
        planner.ledger.reserve(f"p/{number}", found, 0.0)
        assert broken_rules(scenario, found) == []
        pods += found.pods
    together = [
        device
        for pod in pods
        for grant in pod.grants
        for device, consumed in grant.uses()
        if consumed is None
    ]
    assert len(set(together)) == len(together)
    for machine in scenario.machines:
        held = {one.device for one in together if one.pool == machine.name}
        for name, total in machine.counters:
            amounts = [
                one.counter[1]
                for one in machine.things
                if one.counter is not None
                and one.counter[0] == name
                and (one.used or one.name in held)
            ]
            assert sum(amounts) <= total
        for thing in machine.things:
            if thing.shared is not None:
                given = [
                    amount
                    for pod in pods
                    for grant in pod.grants
                    for device, amounts in grant.uses()
                    if (device.pool, device.device) == (thing.pool, thing.name)
                    for _, amount in amounts or ()
                ]
                assert thing.shared + sum(given) // (NANO << 30) <= thing.memory
    if feasible.now < 8:
        assert isinstance(planner.plan(gang, 0.0), NoPlan)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_what_is_remembered_is_never_out_of_date(seed: int) -> None:
    """Objects come, change and go; a planner that saw it all answers as a new one does."""
    random = Random(seed)
    scenarios = [random_scenario(random) for _ in range(3)]
    gang = gang_of(scenarios[0])
    held: dict[tuple[str, str], Item] = {}
    old = planner_of([])
    everything = [item for one in scenarios for item in cluster(one)]
    for _ in range(6):
        for _ in range(random.randint(1, 12)):
            item = random.choice(everything)
            key = (item["kind"], item["metadata"]["name"])
            if random.random() < 0.25 and key in held:
                _remove(old.inventory, held.pop(key))
            else:
                held[key] = item
                add(old.inventory, item)
        seen, fresh = old.plan(gang, 0.0), planner_of(list(held.values())).plan(gang, 0.0)
        assert type(seen) is type(fresh)
        if isinstance(seen, Plan) and isinstance(fresh, Plan):
            assert [one.value for one in seen.score] == [one.value for one in fresh.score]
            assert seen.pods == fresh.pods
        if isinstance(seen, NoPlan) and isinstance(fresh, NoPlan):
            assert seen.refusals == fresh.refusals


def _remove(held: Inventory, item: Item) -> None:
    name = item["metadata"]["name"]
    match item["kind"]:
        case "Node":
            held.remove_node(name)
        case "ResourceSlice":
            held.remove_slice(name)
        case "DeviceClass":
            held.remove_class(name)
        case "ResourceClaim":
            held.remove_claim(f"default/{name}")
