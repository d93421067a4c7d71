"""`inferway bench placement`: plans against an exhaustive search, and a large cluster."""

import time
from collections.abc import Callable
from random import Random

from msgspec import Struct

from bench.placement.objects import add
from bench.placement.oracle import broken_rules, possible, spoiled
from bench.placement.scale import PODS, Scale
from bench.placement.scenario import Scenario, cluster, gang_of, random_scenario
from bench.results import Check, at_least, at_most
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.levels import PRESETS
from endpoints.allocation.plan import Plan
from endpoints.allocation.planner import Planner

_FOUND_SHARE = 0.99
_ORDERS = 4
_PLAN_P99_MS = 500.0
_SLICE_P99_US = 1_000.0
_MEMORY_MB = 1_024.0


class Comparison(Struct, frozen=True):
    """Of small scenarios: in how many a plan exists, was found, was claimed, broke a rule.

    ``spoiled``: in how many a scheduler that chooses devices itself, in some order of pods, left
    one without, on a node that the plan does not name for it; ``fragile``: how many name one.
    """

    scenarios: int
    possible: int
    found: int
    claimed_wrongly: int
    rules_broken: int
    fragile: int
    spoiled: int
    search_s: float
    planner_s: float

    @property
    def found_share(self) -> float | None:
        """Of those that exist."""
        return self.found / self.possible if self.possible else None


def compare(
    scenarios: int, seed: int, progress: Callable[[str], None] = lambda _: None
) -> tuple[Comparison, list[str]]:
    """The comparison, and a note for each scenario that went wrong."""
    exists = found = wrong = broken = fragile = spoilt = 0
    searching = planning = 0.0
    notes = []
    for number in range(scenarios):
        if number % 100 == 0:
            progress(f"comparing, scenario {number} of {scenarios}")
        scenario = random_scenario(Random(f"{seed}/{number}"))
        begun = time.process_time()
        there = possible(scenario)
        searching += time.process_time() - begun
        begun = time.process_time()
        inventory = Inventory()
        for item in cluster(scenario):
            add(inventory, item)
        plan = Planner(inventory, scheme=PRESETS["topograph"]).plan(gang_of(scenario), 0.0)
        planning += time.process_time() - begun
        exists += there
        if isinstance(plan, Plan):
            found += there
            wrong += not there
            rules = broken_rules(scenario, plan)
            broken += bool(rules)
            notes += [f"scenario {number}: {rule}" for rule in rules]
            fragile += bool(plan.fragile)
            unsaid = _spoiled(scenario, plan, f"{seed}/{number}") - set(plan.fragile)
            spoilt += bool(unsaid)
            notes += [f"scenario {number}: spoiled on {node}" for node in sorted(unsaid)]
            if not there:
                notes.append(f"scenario {number}: planned, but impossible")
        elif there:
            notes.append(f"scenario {number}: possible, but not planned: {plan.reason}")
    counts = (exists, found, wrong, broken, fragile, spoilt)
    return Comparison(scenarios, *counts, searching, planning), notes


def _spoiled(scenario: Scenario, plan: Plan, seed: str) -> set[str]:
    return {
        node
        for order in range(_ORDERS)
        for node in spoiled(scenario, plan, Random(f"{seed}/{order}"))
    }


def checks(comparison: Comparison, scale: Scale) -> list[Check]:
    """Every bar."""
    size = f"{scale.nodes:,} nodes x {scale.devices // scale.nodes} devices"
    return [
        at_least(
            "share of the gangs that can be placed that are placed",
            comparison.found_share,
            _FOUND_SHARE,
            "ratio",
        ),
        at_most("plans that can't be", comparison.claimed_wrongly, 0, "plans"),
        at_most("plans that break a rule", comparison.rules_broken, 0, "plans"),
        at_most(
            "plans that the scheduler's choice could spoil, unsaid", comparison.spoiled, 0, "plans"
        ),
        at_most(f"{size}: p99 of planning {PODS} pods", scale.plan_p99_ms, _PLAN_P99_MS, "ms CPU"),
        at_most(f"{size}: p99 of a slice's update", scale.slice_p99_us, _SLICE_P99_US, "us CPU"),
        at_most(f"{size}: most memory of the process", scale.peak_mb, _MEMORY_MB, "MiB"),
    ]
