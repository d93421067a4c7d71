from collections import Counter

import pytest

from routing.policies.dynamo_cost import DynamoCost
from routing.policies.dynamo_lmetric import DynamoLmetric
from tests.support.slates import BLOCK, busy, chain_of, endpoints, names, pick, request_of


def test_the_cost_is_the_documented_formula() -> None:
    states = endpoints(2)
    ledger = states[0].ledger
    ledger.reserve("decoding", 500, 100, 0.0, prompt_tokens=4_000)
    ledger.prefilled("decoding", 0.5)
    ledger.progressed("decoding", 30)
    ledger.reserve("prefilling", 1_000, 100, 0.6, prompt_tokens=1_500)
    prompt = request_of(chain_of(0, 40))
    choices = {
        choice.endpoint.name: choice
        for choice in pick(DynamoCost(prefill_load_scale=2.0), states, prompt, held={"e0": 10})
    }
    prefill = (1_000 + 40 * BLOCK - 10 * BLOCK) / BLOCK
    decode = (4_000 + 30 + 1_500 + 40 * BLOCK) / BLOCK
    assert choices["e0"].score == pytest.approx(2 * prefill + decode)
    assert choices["e1"].score == pytest.approx(2 * 40 + 40)


def test_the_cheaper_of_cache_and_load_wins() -> None:
    states, prompt = endpoints(2), request_of(chain_of(0, 40))
    held = {"e0": 30.0}
    busy(states[0], 1, tokens=900, prompt=900)
    assert names(pick(DynamoCost(), states, prompt, held=held)) == ["e0", "e1"]
    busy(states[0], 1, tokens=900, prompt=900)
    assert names(pick(DynamoCost(), states, prompt, held=held)) == ["e1", "e0"]


def test_an_unseen_prefill_leaves_the_cost_when_its_time_is_over() -> None:
    states, prompt = endpoints(1), request_of(chain_of(0, 10))
    states[0].ledger.reserve("unseen", 640, 0, 0.0, prefilled_at=1.0)
    assert pick(DynamoCost(), states, prompt, now=0.5)[0].score == pytest.approx(30)
    assert pick(DynamoCost(), states, prompt, now=1.5)[0].score == pytest.approx(20)


def test_temperature_draws_the_cheap_more_often_and_repeats_with_its_seed() -> None:
    states, prompt = endpoints(3), request_of(chain_of(0, 10))
    held = {"e0": 9.0, "e1": 5.0}
    assert {names(pick(DynamoCost(), states, prompt, held=held))[0] for _ in range(20)} == {"e0"}
    runs = []
    for seed in (5, 5, 6):
        policy = DynamoCost(temperature=0.5, seed=seed)
        runs.append([names(pick(policy, states, prompt, held=held))[0] for _ in range(600)])
    assert runs[0] == runs[1] != runs[2]
    counts = Counter(runs[0])
    assert counts["e0"] > counts["e1"] > counts["e2"] > 0


def test_lmetric_is_a_product() -> None:
    states, prompt = endpoints(2), request_of(chain_of(0, 20))
    busy(states[0], 2, tokens=100)
    held = {"e0": 10.0}
    scores = {c.endpoint.name: c.score for c in pick(DynamoLmetric(), states, prompt, held=held)}
    assert scores == pytest.approx({"e0": (200 + 10 * BLOCK) * 3, "e1": 20 * BLOCK})
    own_only = pick(DynamoLmetric(queued=False), states, prompt, held=held)
    assert {c.endpoint.name: c.score for c in own_only} == pytest.approx(
        {"e0": 10 * BLOCK * 3, "e1": 20 * BLOCK}
    )


def test_lmetric_breaks_ties_by_requests_and_then_by_chance() -> None:
    states = endpoints(4)
    busy(states[0], 3)
    empty = request_of()  # nothing to prefill: all products are 0
    runs = [names(pick(DynamoLmetric(seed=1), states, empty)) for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0][-1] == "e0"
    policy = DynamoLmetric()
    assert {names(pick(policy, states, empty))[0] for _ in range(60)} == {"e1", "e2", "e3"}


@pytest.mark.parametrize("field", ["prefill_load_scale", "temperature"])
def test_a_bad_parameter_is_named(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be"):
        DynamoCost(**{field: -0.5})  # type: ignore[arg-type]
