from collections import Counter

import pytest

from routing.policies.llmd_precise import LlmdPrecise
from routing.policies.llmd_weighted import LlmdWeighted
from routing.weighted import ScoreWeights
from tests.support.slates import chain_of, endpoints, names, pick, request_of, scraped


def test_the_precise_score_is_the_weighted_sum() -> None:
    states = endpoints(3)
    scraped(states[0], waiting=4, kv_usage=0.5)
    scraped(states[1], waiting=0, kv_usage=0.25)
    scraped(states[2], waiting=1, kv_usage=1.0)
    choices = pick(LlmdPrecise(), states, request_of(chain_of(0, 8)), held={"e0": 6, "e2": 2})
    totals = {choice.endpoint.name: -choice.score for choice in choices}
    assert totals == pytest.approx(
        {
            "e0": 3 * 6 / 8 + 2 * 0 + 2 * 0.5,
            "e1": 3 * 0 + 2 * 1 + 2 * 0.75,
            "e2": 3 * 2 / 8 + 2 * 0.75 + 2 * 0,
        }
    )
    assert names(choices) == ["e1", "e0", "e2"]
    assert choices[1].reason == "3.250: 75% of the prompt held, 4 waiting, 50% KV used"


def test_equal_queues_count_as_free_and_unknown_metrics_as_zero() -> None:
    states = endpoints(2)
    scraped(states[0], waiting=None, kv_usage=None)
    choices = pick(LlmdPrecise(), states, request_of(chain_of(0, 8)))
    assert [choice.score for choice in choices] == [-4.0, -4.0]


def test_the_weights_decide() -> None:
    states = endpoints(2)
    scraped(states[0], waiting=9)
    scraped(states[1], waiting=0)
    prompt, held = request_of(chain_of(0, 8)), {"e0": 8.0}
    assert names(pick(LlmdPrecise(), states, prompt, held=held))[0] == "e0"
    loads = LlmdPrecise(ScoreWeights(prefix=1, queue=2, kv=2))
    assert names(pick(loads, states, prompt, held=held))[0] == "e1"


def test_equal_totals_are_shuffled_the_same_way_with_the_same_seed() -> None:
    states, prompt = endpoints(4), request_of(chain_of(0, 8))
    runs = []
    for seed in (3, 3, 4):
        policy = LlmdPrecise(seed=seed)
        runs.append([names(pick(policy, states, prompt))[0] for _ in range(200)])
    assert runs[0] == runs[1] != runs[2]
    assert min(Counter(runs[0]).values()) > 25


def test_the_weighted_policy_knows_what_it_sent_and_nothing_else() -> None:
    states, policy = endpoints(4), LlmdWeighted()
    shared = chain_of("shared", 8)
    first = names(pick(policy, states, request_of(shared), held={"e9": 8.0}))[0]
    for turn in range(6):
        longer = request_of(chain_of(turn, 4, after=shared))
        choices = pick(policy, states, longer, held={"e0": 12.0, "e1": 12.0})
        assert choices[0].endpoint.name == first
        assert choices[0].score == pytest.approx(-(3 * 8 / 12 + 2 + 2))


def test_the_weighted_policy_matches_the_beginning_of_a_long_prompt_only() -> None:
    states, policy = endpoints(2), LlmdWeighted(max_prefix_tokens=256.0)
    first = pick(policy, states, request_of(chain_of("a", 100)))[0].endpoint.name
    changed = request_of(chain_of("b", 96, after=chain_of("a", 100)[:4]))
    again = pick(policy, states, changed)[0]
    assert again.endpoint.name == first
    assert again.score == pytest.approx(-7.0)


def test_an_endpoint_that_came_back_as_another_is_sent_nothing_yet() -> None:
    policy, prompt = LlmdWeighted(), request_of(chain_of(0, 8))
    old = endpoints(1)
    pick(policy, old, prompt)
    assert pick(policy, old, prompt)[0].score == pytest.approx(-7.0)
    assert pick(policy, endpoints(1), prompt)[0].score == pytest.approx(-4.0)


@pytest.mark.parametrize("field", ["prefix", "queue", "kv"])
def test_a_bad_weight_is_named(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} weight must be a finite number"):
        ScoreWeights(**{field: -1.0})
