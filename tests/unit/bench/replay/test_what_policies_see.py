"""Policies in the replayer decide on what a router in production knows, and on nothing else."""

import gc
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import ClassVar

import pytest

from bench.replay.clairvoyant import Clairvoyant
from bench.replay.engine import Engine
from bench.replay.flight import Flight
from bench.replay.job import Job
from bench.replay.settings import ReplaySettings
from bench.replay.simulation import replay
from bench.replay.timeline import Timeline
from bench.replay.workload import Arrival, Workload
from routing.policies import POLICIES, Choice, Policy, Slate, make_policy
from routing.request import Request

SIMULATED = (Engine, Job, Flight, Arrival, Timeline, Workload)
"""What only the simulation knows: true queues and caches, the lengths of answers, the future."""

WORKLOAD = Workload(
    "few",
    tuple(Arrival(0.2 * n, 3_000, 40, (n % 3, 10 + n % 3, 20 + n)) for n in range(12)),
    1_024,
)


def reachable(*roots: object) -> list[object]:
    """Every object that can be got at from these by attributes, items and closures of data."""
    seen: dict[int, object] = {}
    waiting = list(roots)
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(
            one, type | ModuleType | FunctionType | BuiltinFunctionType
        ):
            continue
        seen[id(one)] = one
        waiting += gc.get_referents(one)
    return list(seen.values())


class Watched:
    """Another policy, and what it could have looked at."""

    name: ClassVar[str] = "watched"

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.picks = 0
        self.leaks: set[str] = set()

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        self.picks += 1
        assert request.max_output_tokens is None
        for one in reachable(request, slate, self.policy):
            if isinstance(one, SIMULATED):
                self.leaks.add(type(one).__name__)
        return self.policy.pick(request, slate, now, count)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("events", [True, False])
def test_nothing_of_the_simulation_can_be_reached(name: str, events: bool) -> None:
    watched = Watched(make_policy(name))
    played = replay(WORKLOAD, lambda: watched, ReplaySettings(endpoints=3, events=events))
    assert watched.picks == len(played.requests) == 12
    assert watched.leaks == set()


def test_the_clairvoyant_one_is_caught() -> None:
    """The check can fail: it finds the engines of the policy that is meant to have them."""
    leaks: set[str] = set()

    def looked(one: object) -> None:
        leaks.update(type(each).__name__ for each in reachable(one) if isinstance(each, SIMULATED))

    original = Clairvoyant.pick

    def pick(
        self: Clairvoyant, request: Request, slate: Slate, now: float, count: int
    ) -> list[Choice]:
        looked(self)
        return original(self, request, slate, now, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Clairvoyant, "pick", pick)
        replay(WORKLOAD, "clairvoyant", ReplaySettings(endpoints=2))
    assert "Engine" in leaks
