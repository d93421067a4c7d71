from collections import Counter
from collections.abc import Mapping
from random import Random

import pytest

from routing.endpoint import SCRAPE_FRESH_SECONDS
from routing.fleet import Endpoint, EndpointState, Fleet, Load
from routing.loads import Group, LoadTable
from routing.policies import POLICIES, Choice, Policy, Slate, make_policy
from routing.policies.power_of_two import PowerOfTwo
from routing.policies.predicted_time import PredictedTime
from routing.prefix.match import Match
from routing.request import Request

REQUEST = Request("r", "m")


def fleet_of(size: int) -> Fleet:
    fleet = Fleet()
    for number in range(size):
        fleet.upsert(Endpoint(f"e{number}", f"http://e{number}", models=("m",)), 0.0)
        fleet.observe_health(f"e{number}", True, 0.0, "ok")
    return fleet


def states(fleet: Fleet) -> list[EndpointState]:
    return list(fleet)


def pick(
    policy: Policy,
    endpoints: list[EndpointState],
    *,
    cached: Mapping[str, float] | None = None,
    prompt: float = 4_000.0,
    output: int = 256,
    now: float = 0.0,
    count: int = 4,
) -> list[Choice]:
    """The choices; ``cached`` in tokens, as if a block were one token."""
    table = LoadTable()
    for state in endpoints:
        table.add(state)
    slate = Slate(Group(endpoints, table), Match(cached or {}), 1.0, prompt, output)
    return policy.pick(REQUEST, slate, now, count)


def first(policy: Policy, endpoints: list[EndpointState], **what: float) -> str:
    return pick(policy, endpoints, prompt=what.get("prompt", 4_000.0))[0].endpoint.name


def busy(state: EndpointState, requests: int, tokens: int = 0) -> None:
    for number in range(requests):
        state.ledger.reserve((state.name, number), tokens, 100, 0.0)


def decode(state: EndpointState, sequences: int) -> None:
    busy(state, sequences)
    for number in range(sequences):
        state.ledger.prefilled((state.name, number), 0.0)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize(("size", "count"), [(1, 1), (1, 4), (2, 4), (3, 2), (12, 4), (12, 12)])
def test_every_policy_ranks_distinct_candidates(name: str, size: int, count: int) -> None:
    policy, endpoints = make_policy(name), states(fleet_of(size))
    for _ in range(5):
        choices = pick(policy, endpoints, count=count, cached={"e0": 640.0})
        chosen = [choice.endpoint for choice in choices]
        assert len(chosen) == min(size, count)
        assert len(set(chosen)) == len(chosen)
        assert set(chosen) <= set(endpoints)
        assert all(choice.reason for choice in choices)
        for choice in choices:
            assert choice.cached_tokens == (640.0 if choice.endpoint.name == "e0" else 0.0)


UNFAIR = {"consistent_hash", "chwbl", "sglang_cache_aware"}
"""By their own rules the same prompt goes to the same endpoint, or ties to the first one."""


@pytest.mark.parametrize("name", sorted(POLICIES.keys() - UNFAIR))
def test_a_policy_spreads_equal_endpoints_fairly(name: str) -> None:
    policy, endpoints = make_policy(name), states(fleet_of(10))
    counts = Counter(first(policy, endpoints) for _ in range(1_000))
    assert set(counts) == {state.name for state in endpoints}
    assert max(counts.values()) <= 2 * min(counts.values())


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_knows_its_name(name: str) -> None:
    assert make_policy(name).name == name


def test_an_unknown_policy_gets_a_hint() -> None:
    with pytest.raises(ValueError, match=r"'round_robbin': did you mean round_robin\?"):
        make_policy("round_robbin")
    with pytest.raises(ValueError, match="choose predicted_time, round_robin"):
        make_policy("?")


def test_round_robin_takes_turns_and_falls_back_to_the_next() -> None:
    policy, endpoints = make_policy("round_robin"), states(fleet_of(3))
    ranked = [[c.endpoint.name for c in pick(policy, endpoints)] for _ in range(4)]
    assert ranked == [["e0", "e1", "e2"], ["e1", "e2", "e0"], ["e2", "e0", "e1"], ranked[0]]


def test_least_request_ranks_by_the_ledger_and_what_a_scrape_adds() -> None:
    fleet = fleet_of(4)
    endpoints = states(fleet)
    for state, requests in zip(endpoints, (3, 1, 2, 0), strict=True):
        busy(state, requests)
    fleet.observe_load("e3", Load(at=0.0, waiting=2, running=8))
    ranked = pick(make_policy("least_request"), endpoints)
    assert [choice.endpoint.name for choice in ranked] == ["e1", "e2", "e0", "e3"]
    assert [choice.score for choice in ranked] == [1, 2, 3, 10]


def test_power_of_two_never_takes_the_worst_and_repeats_with_its_seed() -> None:
    endpoints = states(fleet_of(8))
    busy(endpoints[5], 3)
    runs = []
    for _ in range(2):
        policy = PowerOfTwo(Random(7))
        runs.append([first(policy, endpoints) for _ in range(200)])
    assert runs[0] == runs[1]
    assert "e5" not in runs[0]
    assert len(set(runs[0])) == 7


def test_predicted_time_is_the_documented_formula() -> None:
    endpoints = states(fleet_of(1))
    state = endpoints[0]
    decode(state, 5)
    state.ledger.reserve("ahead", 2_000, 100, 0.0)
    slope, b = 1 / 8_000, state.timing.decode.slope
    choice = pick(PredictedTime(), endpoints, cached={"e0": 1_000.0}, prompt=4_000.0)[0]
    work = 3_000 * slope + 1e-9 * (4_000**2 - 1_000**2) / 2
    ttft = 0.020 + 2_000 * slope + work
    assert choice.predicted_ttft == pytest.approx(ttft)
    price = 0.35 * 2.0 / 0.050
    a, c = state.timing.decode.fixed, state.timing.decode.tilt
    itl = a + b * 6 + c * (state.ledger.context_tokens + 4_000)
    others = 5 * (work / 256 + b + c * 4_000)
    assert choice.score == pytest.approx(ttft + price * (itl + others))


def test_predicted_time_goes_where_the_prefix_is() -> None:
    endpoints = states(fleet_of(4))
    ranked = pick(PredictedTime(), endpoints, cached={"e2": 3_000.0, "e1": 1_000.0})
    assert [choice.endpoint.name for choice in ranked[:2]] == ["e2", "e1"]


def test_predicted_time_leaves_the_prefix_when_waiting_costs_more() -> None:
    endpoints = states(fleet_of(4))
    cached = {"e2": 3_000.0}
    busy(endpoints[2], 1, tokens=2_500)
    assert pick(PredictedTime(), endpoints, cached=cached)[0].endpoint.name == "e2"
    busy(endpoints[2], 2, tokens=2_500)
    assert pick(PredictedTime(), endpoints, cached=cached)[0].endpoint.name != "e2"


def test_predicted_time_returns_as_the_queue_drains() -> None:
    endpoints = states(fleet_of(2))
    busy(endpoints[0], 1, tokens=8_000)
    cached = {"e0": 3_000.0}
    assert pick(PredictedTime(), endpoints, cached=cached)[0].endpoint.name == "e1"
    assert pick(PredictedTime(), endpoints, cached=cached, now=0.9)[0].endpoint.name == "e0"


def test_predicted_time_prefers_the_faster_and_the_less_decoding_endpoint() -> None:
    endpoints = states(fleet_of(3))
    for _ in range(100):
        for state, seconds in zip(endpoints, (1.0, 0.5, 1.0), strict=True):
            state.timing.observe_prefill(8_000, seconds)
    assert first(PredictedTime(), endpoints) == "e1"
    decode(endpoints[1], 200)
    assert first(PredictedTime(), endpoints) != "e1"


def test_predicted_time_believes_a_fresh_scrape_about_others_and_no_stale_one() -> None:
    fleet = fleet_of(2)
    endpoints = states(fleet)
    busy(endpoints[1], 1, tokens=1_000)
    fleet.observe_load("e0", Load(at=0.0, waiting=10, running=0))
    policy = PredictedTime()
    assert pick(policy, endpoints, now=0.0)[0].endpoint.name == "e1"
    endpoints[1].ledger.release(("e1", 0), 0.0)
    busy(endpoints[1], 1, tokens=100_000)
    assert pick(policy, endpoints, now=SCRAPE_FRESH_SECONDS + 1)[0].endpoint.name == "e0"


def test_near_ties_are_shared_and_go_to_the_larger_cache_first() -> None:
    endpoints = states(fleet_of(3))
    for state in endpoints:
        for _ in range(50):
            state.timing.observe_prefill(4_000, 0.5 * (1 + 0.003 * int(state.name[1])))
    policy = PredictedTime()
    counts = Counter(first(policy, endpoints) for _ in range(300))
    assert min(counts.values()) >= 50
    choices = [pick(policy, endpoints, cached={"e2": 64.0}) for _ in range(6)]
    assert {ranked[0].endpoint.name for ranked in choices} == {"e2"}


def test_a_reason_tells_the_numbers_of_its_time() -> None:
    endpoints = states(fleet_of(2))
    busy(endpoints[1], 3)
    choice = pick(make_policy("least_request"), endpoints)[1]
    busy(endpoints[1], 9)
    assert choice.reason == "3 requests in flight"
    ahead = pick(PredictedTime(), endpoints, cached={"e0": 64.0})[0]
    endpoints[0].ledger.reserve("later", 5_000, 100, 0.0)
    assert ahead.reason == "0.732 s: 0 tokens ahead, 64 cached, first token in 0.520 s"
