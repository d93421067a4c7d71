"""Policies that match against what they sent themselves: SGLang's, AIBrix's and Preble's."""

import pytest

from routing.policies.aibrix_prefix import AibrixPrefix
from routing.policies.preble import Preble
from routing.policies.sglang_cache_aware import SglangCacheAware
from tests.support.slates import busy, chain_of, endpoints, names, pick, request_of

HOT = chain_of("hot", 20)


# -- SGLang -----------------------------------------------------------------------------------


def test_sglang_takes_the_shortest_queue_until_it_has_sent_the_prefix() -> None:
    states, policy = endpoints(4), SglangCacheAware()
    busy(states[0], 2)
    busy(states[1], 1)
    choices = pick(policy, states, request_of(HOT), held={"e3": 20.0})
    assert names(choices) == ["e2", "e3", "e1", "e0"]
    assert choices[0].reason.startswith("shortest queue: no long match; 0 in flight")
    busy(states[2], 20)
    again = pick(policy, states, request_of(chain_of(1, 20, after=HOT)))
    assert names(again) == ["e2", "e3", "e1", "e0"]
    assert again[0].reason == "longest match; 20 in flight, 50% of the prompt matched"


def test_sglang_needs_more_than_the_threshold() -> None:
    states, policy = endpoints(2), SglangCacheAware(cache_threshold=0.5)
    pick(policy, states, request_of(HOT))  # to e0
    busy(states[0], 1)
    exactly = request_of(chain_of(1, 20, after=HOT))
    more = request_of(chain_of(2, 19, after=HOT))
    assert names(pick(policy, states, more))[0] == "e0"
    assert names(pick(policy, states, exactly))[0] == "e1"


@pytest.mark.parametrize(
    ("loads", "chosen"),
    [
        ((64, 0), "e0"),  # not more than 64 apart
        ((65, 0), "e1"),
        ((165, 100), "e1"),
        ((300, 200), "e0"),  # not more than 1.5 times
        ((301, 200), "e1"),
    ],
)
def test_sglang_leaves_the_prefix_when_loads_are_imbalanced(
    loads: tuple[int, int], chosen: str
) -> None:
    states, policy = endpoints(2), SglangCacheAware()
    pick(policy, states, request_of(HOT))  # to e0
    for state, load in zip(states, loads, strict=True):
        busy(state, load)
    assert names(pick(policy, states, request_of(HOT)))[0] == chosen


def test_sglang_remembers_what_imbalance_moved() -> None:
    states, policy = endpoints(2), SglangCacheAware()
    pick(policy, states, request_of(HOT))
    busy(states[0], 65)
    longer = request_of(chain_of(1, 10, after=HOT))
    pick(policy, states, longer)  # to e1
    busy(states[1], 50)
    assert names(pick(policy, states, longer))[0] == "e1"  # holds all of it, e0 two thirds


def test_sglang_forgets_beyond_its_tree_size() -> None:
    states, policy = endpoints(1), SglangCacheAware(max_tree_tokens=40 * 64)
    pick(policy, states, request_of(HOT))
    for number in range(5):
        pick(policy, states, request_of(chain_of(number, 20)))
    assert "0% of the prompt" in pick(policy, states, request_of(HOT))[0].reason


# -- AIBrix -----------------------------------------------------------------------------------


def test_aibrix_takes_the_longest_match_within_the_usual_load() -> None:
    states, policy = endpoints(4), AibrixPrefix()
    for state in states[1:]:
        busy(state, 1)
    pick(policy, states, request_of(HOT))  # to e0
    busy(states[0], 2)  # 2, 1, 1, 1: mean 1.25, deviation 0.43
    choices = pick(policy, states, request_of(HOT))
    assert choices[0].endpoint.name != "e0"
    assert choices[0].reason.startswith("fewest requests")
    tolerant = AibrixPrefix(deviation_factor=2.0)
    pick(tolerant, states[:1], request_of(HOT))
    choices = pick(tolerant, states, request_of(HOT))
    assert choices[0].endpoint.name == "e0"
    assert choices[0].reason == (
        "longest match within the usual load: 2 in flight, at most 2.1 usual, 100% matched"
    )


def test_aibrix_prefers_the_less_busy_of_equal_matches() -> None:
    states, policy = endpoints(3), AibrixPrefix()
    for state in states[:2]:
        pick(policy, [state], request_of(HOT))
    busy(states[0], 1)
    assert names(pick(policy, states, request_of(HOT)))[0] == "e1"
    longer = request_of(chain_of(1, 10, after=HOT))
    pick(policy, states[:1], longer)
    busy(states[1], 1)
    assert names(pick(policy, states, longer))[0] == "e0"  # the longer match goes first


@pytest.mark.parametrize(("gap", "chosen"), [(8, "e0"), (9, "e1")])
def test_aibrix_gates_matches_when_loads_are_imbalanced(gap: int, chosen: str) -> None:
    states = endpoints(2)
    policy = AibrixPrefix(deviation_factor=10.0)
    pick(policy, states[:1], request_of(HOT))
    busy(states[0], 10 + gap)
    busy(states[1], 10)
    assert names(pick(policy, states, request_of(HOT)))[0] == chosen


def test_aibrix_of_the_main_branch_asks_for_a_factor_too() -> None:
    states = endpoints(3)
    policy = AibrixPrefix(imbalance_gap=7.0, imbalance_factor=2.0, deviation_factor=10.0)
    pick(policy, states[:1], request_of(HOT))
    for state, load in zip(states, (30, 10, 10), strict=True):
        busy(state, load)
    assert names(pick(policy, states, request_of(HOT)))[0] == "e0"  # 30 <= 2 x (16.7 + 1)
    busy(states[0], 40)
    assert names(pick(policy, states, request_of(HOT)))[0] != "e0"  # 70 > 2 x (30 + 1)


def test_aibrix_chooses_at_random_among_idle_endpoints_and_repeats_with_its_seed() -> None:
    states = endpoints(6)
    runs = []
    for seed in (1, 1, 2):
        policy = AibrixPrefix(seed=seed)
        runs.append([names(pick(policy, states, request_of(chain_of(n, 4)))) for n in range(60)])
    assert runs[0] == runs[1] != runs[2]
    assert len({ranked[0] for ranked in runs[0]}) == 6


# -- Preble -----------------------------------------------------------------------------------


def test_preble_explores_by_load_and_exploits_a_long_match() -> None:
    states, policy = endpoints(3), Preble()
    placed = [names(pick(policy, states, request_of(chain_of(n, 20))))[0] for n in range(3)]
    assert placed == ["e0", "e1", "e2"]  # whoever was assigned least
    for number in range(3):
        choices = pick(policy, states, request_of(chain_of(9, 5, after=chain_of(number, 20))))
        assert choices[0].endpoint.name == placed[number]
        assert choices[0].reason.startswith("exploited")


def test_preble_explores_when_more_is_to_compute_than_matched() -> None:
    states, policy = endpoints(2), Preble()
    pick(policy, states, request_of(HOT))  # to e0
    choices = pick(policy, states, request_of(chain_of(1, 20, after=HOT)))
    assert choices[0].endpoint.name == "e1"
    assert choices[0].reason.startswith("explored")
    assert "1280 tokens matched" in choices[1].reason


def test_preble_counts_seconds_of_what_was_assigned_within_the_window() -> None:
    states, policy = endpoints(1), Preble()
    prompt = request_of(chain_of(0, 20))
    timing = states[0].timing
    own = 1_280 * timing.prefill.slope
    assert pick(policy, states, prompt, now=0.0)[0].score == pytest.approx(own)
    load = own + 256 * timing.inter_token_seconds(1)
    other = request_of(chain_of(1, 20))
    assert pick(policy, states, other, now=179.0)[0].score == pytest.approx(load + own)
    third = request_of(chain_of(2, 20))
    assert pick(policy, states, third, now=182.0)[0].score == pytest.approx(load + own)


def test_preble_prices_what_it_would_evict_by_its_use() -> None:
    states, policy = endpoints(1), Preble(default_cache_tokens=50 * 64.0)
    slope = states[0].timing.prefill.slope
    for number in (0, 1, 1, 0):
        pick(policy, states, request_of(chain_of(number, 20)))
    # A full match computes one token all the same.
    load = (2 * 1_280 + 2) * slope + 4 * 256 * states[0].timing.inter_token_seconds(1)
    # For 20 blocks more than the 40 of 50 held, chain 1 has to go, which was used twice.
    choice = pick(policy, states, request_of(chain_of(2, 20)))[0]
    assert choice.score == pytest.approx(load + 1_280 * slope + 2 * 1_280 * slope, rel=1e-9)
    assert "exploited" in pick(policy, states, request_of(chain_of(0, 20)))[0].reason
    assert "explored" in pick(policy, states, request_of(chain_of(1, 20)))[0].reason


def test_preble_moves_exploiting_requests_off_the_heaviest() -> None:
    states = endpoints(2)
    policy = Preble(rebalance_ratio=3.0, rebalance_after=10)
    pick(policy, states, request_of(HOT))
    pick(policy, states, request_of(chain_of(1, 20)))
    chosen = [pick(policy, states, request_of(HOT))[0] for _ in range(30)]
    reasons = [choice.reason.split(":")[0] for choice in chosen]
    assert reasons[:6] == ["exploited"] * 6
    assert "rebalanced" in reasons
    both = {choice.endpoint.name for choice in chosen}
    assert both == {"e0", "e1"}


def test_preble_forgets_an_endpoint_that_came_back_as_another() -> None:
    policy = Preble()
    old = endpoints(1)
    pick(policy, old, request_of(HOT))
    assert "exploited" in pick(policy, old, request_of(HOT))[0].reason
    new = pick(policy, endpoints(1), request_of(HOT))[0]
    assert new.reason.startswith("explored: 0.160 s, of which 0.000 s load; 0 tokens matched")


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (SglangCacheAware, "cache_threshold"),
        (SglangCacheAware, "balance_rel_threshold"),
        (AibrixPrefix, "imbalance_gap"),
        (AibrixPrefix, "deviation_factor"),
        (Preble, "window"),
        (Preble, "rebalance_ratio"),
    ],
)
def test_a_bad_parameter_is_named(policy: type, field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be"):
        policy(**{field: -1.0})
