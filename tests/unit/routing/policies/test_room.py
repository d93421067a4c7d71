"""The room that an arrival takes in the caches, and what predicted_time pays for it."""

import pytest

from routing.endpoint import EndpointState
from routing.fleet import Endpoint, Fleet, Load
from routing.loads import Group
from routing.policies.policy import Choice, Slate
from routing.policies.predicted_time import PredictedTime
from routing.prefix.match import Match
from routing.request import Request

REQUEST = Request("r", "m")
PROMPT = 4_000.0
HELD = 3_000.0


def fleet_of(*usages: float | None) -> Fleet:
    """Endpoints e0, e1, ... whose KV memory is in use to these shares."""
    fleet = Fleet()
    for number, usage in enumerate(usages):
        fleet.upsert(Endpoint(f"e{number}", f"http://e{number}", models=("m",)), 0.0)
        fleet.observe_health(f"e{number}", True, 0.0, "ok")
        fleet.observe_load(f"e{number}", Load(0.0, kv_usage=usage))
    return fleet


def pick(policy: PredictedTime, fleet: Fleet, cached: dict[str, float]) -> list[Choice]:
    """The choices; ``cached`` in tokens, as if a block were one token."""
    group = Group(list(fleet), fleet.table)
    return policy.pick(REQUEST, Slate(group, Match(cached), 1.0, PROMPT, 256), 0.0, 8)


def score(choices: list[Choice], name: str) -> float:
    return next(choice.score for choice in choices if choice.endpoint.name == name)


def reusing() -> PredictedTime:
    """A policy that has seen three of four tokens found again."""
    policy = PredictedTime()
    for _ in range(2_000):
        policy.reuse.observe(3.0, 4.0)
    return policy


def wait(state: EndpointState, tokens: int) -> None:
    state.ledger.reserve((state.name, tokens), tokens, 100, 0.0)


def test_what_is_not_cached_pays_for_its_room_where_memory_is_scarce() -> None:
    policy, free = reusing(), fleet_of(0.0)
    times = policy.reuse.times
    slope = next(iter(free)).timing.prefill.slope
    for usage in (0.5, 0.9, 1.0):
        lost = 2.0 * times * usage**3 * (PROMPT + 256) * slope
        scores = [
            score(pick(reusing(), fleet, {}), "e0") for fleet in (fleet_of(usage), fleet_of(0.0))
        ]
        assert scores[0] - scores[1] == pytest.approx(lost)
    assert times == pytest.approx(3.0, rel=0.01)


def test_room_costs_nothing_where_nothing_is_found_again_or_the_usage_is_unknown() -> None:
    assert score(pick(PredictedTime(), fleet_of(1.0), {}), "e0") == pytest.approx(
        score(pick(PredictedTime(), fleet_of(0.0), {}), "e0")
    )
    assert score(pick(reusing(), fleet_of(None), {}), "e0") == pytest.approx(
        score(pick(reusing(), fleet_of(0.0), {}), "e0")
    )


@pytest.mark.parametrize(("usage", "chosen"), [(0.2, "e1"), (0.8, "e0")])
def test_a_busy_home_keeps_its_prefix_when_memory_is_scarce(usage: float, chosen: str) -> None:
    fleet = fleet_of(usage, usage)
    home = fleet.get("e0")
    assert home is not None
    wait(home, 6_000)
    assert pick(reusing(), fleet, {"e0": HELD})[0].endpoint.name == chosen


def test_what_nobody_holds_goes_where_there_is_room() -> None:
    assert pick(reusing(), fleet_of(0.9, 0.7, 0.8), {})[0].endpoint.name == "e1"


def test_it_learns_reuse_from_its_own_choices() -> None:
    policy, fleet = PredictedTime(), fleet_of(0.5, 0.5)
    for _ in range(200):
        pick(policy, fleet, {"e0": HELD})
    assert policy.reuse.share == pytest.approx(HELD / PROMPT, rel=0.25)
