from collections import Counter

import pytest

from routing.policies.chwbl import BoundedLoadHash
from routing.policies.consistent_hash import ConsistentHash
from routing.policies.random_choice import RandomChoice
from tests.support.slates import busy, chain_of, endpoints, names, pick, request_of


def test_random_repeats_with_its_seed_and_spreads_evenly() -> None:
    states = endpoints(5)
    runs = []
    for seed in (1, 1, 2):
        policy = RandomChoice(seed)
        runs.append([names(pick(policy, states, request_of())) for _ in range(500)])
    assert runs[0] == runs[1] != runs[2]
    counts = Counter(ranked[0] for ranked in runs[0])
    assert len(counts) == 5
    assert max(counts.values()) < 2 * min(counts.values())


def test_consistent_hash_keeps_a_conversation_and_ignores_load() -> None:
    states, policy = endpoints(8), ConsistentHash()
    opening = chain_of("opening", 16)
    first = names(pick(policy, states, request_of(opening)))
    busy(states[int(first[0][1])], 50)
    for turn in range(5):
        longer = request_of(chain_of(turn, 3 * turn, after=opening), name=f"r{turn}")
        assert names(pick(policy, states, longer)) == first


def test_consistent_hash_looks_at_so_many_tokens_only() -> None:
    states = endpoints(8)
    opening = chain_of("opening", 16)
    prompts = [request_of(chain_of(number, 4, after=opening)) for number in range(40)]
    assert len({names(pick(ConsistentHash(1_024), states, prompt))[0] for prompt in prompts}) == 1
    assert len({names(pick(ConsistentHash(1_088), states, prompt))[0] for prompt in prompts}) > 4


def test_consistent_hash_moves_only_the_keys_of_who_left() -> None:
    states, policy = endpoints(8), ConsistentHash()
    prompts = [request_of(chain_of(number, 20)) for number in range(400)]
    before = [names(pick(policy, states, prompt)) for prompt in prompts]
    left = [state for state in states if state.name != "e3"]
    after = [names(pick(policy, left, prompt)) for prompt in prompts]
    for old, new in zip(before, after, strict=True):
        assert new[0] == (old[1] if old[0] == "e3" else old[0])
    assert [names(pick(policy, states, prompt)) for prompt in prompts] == before
    counts = Counter(ranked[0] for ranked in before)
    assert len(counts) == 8
    assert max(counts.values()) < 3 * min(counts.values())


def test_prompts_without_a_whole_block_spread_by_their_ids() -> None:
    states = endpoints(6)
    for policy in (ConsistentHash(), BoundedLoadHash()):
        chosen = {names(pick(policy, states, request_of(name=f"r{n}")))[0] for n in range(60)}
        assert len(chosen) == 6


def test_bounded_loads_pass_over_who_is_full_and_return() -> None:
    states, policy = endpoints(4), BoundedLoadHash()
    prompt = request_of(chain_of("hot", 4))
    order = names(pick(policy, states, prompt))
    by_name = {state.name: state for state in states}
    # 1.25 x (8 + 1) / 4 = 2.8: two in flight have no room for a third, one has for a second.
    for name, load in zip(order, (5, 2, 1, 0), strict=True):
        busy(by_name[name], load)
    choices = pick(policy, states, prompt)
    assert names(choices) == [order[2], order[3], order[0], order[1]]
    assert "with room" in choices[0].reason
    assert "although full" in choices[2].reason


def test_with_bounded_loads_the_owner_takes_it_when_nobody_has_room() -> None:
    states, policy = endpoints(4), BoundedLoadHash()
    prompt = request_of(chain_of("hot", 4))
    order = names(pick(policy, states, prompt))
    for state in states:
        busy(state, 1)  # 1.25 x 5 / 4 = 1.6, and each would have 2
    assert names(pick(policy, states, prompt)) == order


def test_bounded_loads_keep_a_hot_key_within_the_bound() -> None:
    states, policy = endpoints(4), BoundedLoadHash(load_factor=1.5)
    prompt = request_of(chain_of("hot", 4))
    for _ in range(400):
        busy(pick(policy, states, prompt)[0].endpoint, 1)
    loads = [state.ledger.requests for state in states]
    assert max(loads) <= 1.5 * sum(loads) / 4 + 1


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: BoundedLoadHash(load_factor=0.9), "load_factor"),
        (lambda: BoundedLoadHash(prefix_tokens=0), "prefix_tokens"),
        (lambda: ConsistentHash(prefix_tokens=float("nan")), "prefix_tokens"),
        (lambda: ConsistentHash(replicas=0), "replicas"),
    ],
)
def test_a_bad_parameter_is_named(make: object, field: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=field):
        make()
