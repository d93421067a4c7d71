"""llm-d's scorers by their formulas, and the profile that joins them."""

from collections import Counter

import pytest

from routing import scorers
from routing.endpoint import EndpointState
from routing.fleet import Load
from routing.policies.scored import Scored, Weighted
from routing.prefix.match import Match
from routing.scorers import NoHit, Scorer
from tests.support.slates import chain_of, endpoints, pick, request_of

REQUEST = request_of(chain_of("prompt", 10))
NONE = Match({})


def loaded(*loads: Load) -> list[EndpointState]:
    states = endpoints(len(loads))
    for state, load in zip(states, loads, strict=True):
        state.load = load
    return states


def scores(scorer: Scorer, states: list[EndpointState], held: Match = NONE) -> list[float]:
    return list(scorer(REQUEST, states, held))


def test_queues_from_the_shortest_to_the_longest() -> None:
    states = loaded(Load(0.0, waiting=3), Load(0.0, waiting=0), Load(0.0, waiting=10))
    assert scores(scorers.queue, states) == [0.7, 1.0, 0.0]
    assert scores(scorers.queue, loaded(Load(0.0, waiting=4), Load(0.0, waiting=4))) == [1.0, 1.0]


def test_what_is_not_reported_counts_as_nothing() -> None:
    states = [*loaded(Load(0.0, waiting=3)), *endpoints(1)]
    assert scores(scorers.queue, states) == [0.0, 1.0]
    assert scores(scorers.kv_cache, states) == [1.0, 1.0]


def test_running_requests_and_kv_cache() -> None:
    states = loaded(
        Load(0.0, running=2, kv_usage=0.2),
        Load(0.0, running=4, kv_usage=0.1),
        Load(0.0, running=6, kv_usage=1.0),
    )
    assert scores(scorers.running, states) == [1.0, 0.5, 0.0]
    assert scores(scorers.kv_cache, states) == [0.8, 0.9, 0.0]


def test_prefixes_as_a_share_of_the_prompt() -> None:
    states = endpoints(3)
    shares = scores(scorers.prefix, states, Match({"e0": 10.0, "e2": 3.0}))
    assert shares == pytest.approx([1.0, 0.0, 0.3])


def test_adapters() -> None:
    states = loaded(
        Load(0.0, adapters_running=frozenset({"m"}), max_adapters=1),
        Load(0.0, adapters_running=frozenset({"a"}), max_adapters=2),
        Load(
            0.0,
            adapters_running=frozenset({"a"}),
            adapters_waiting=frozenset({"m"}),
            max_adapters=2,
        ),
        Load(0.0, adapters_running=frozenset({"a", "b"}), max_adapters=2),
        Load(0.0),
    )
    assert scores(scorers.lora, states) == [1.0, 0.8, 0.6, 0.0, 0.0]


def test_load_up_to_a_threshold() -> None:
    states = loaded(Load(0.0, waiting=0), Load(0.0, waiting=64), Load(0.0, waiting=1_000))
    assert scores(scorers.load_aware(), states) == [0.5, 0.25, 0.0]


def test_requests_and_tokens_in_flight() -> None:
    states = endpoints(3)
    for number, state in enumerate(states):
        for request in range(2 * number):
            state.ledger.reserve(request, 100, 100, 0.0, prompt_tokens=400)
    assert scores(scorers.active(), states) == [1.0, 0.5, 0.0]
    assert scores(scorers.active(idle=2.0, busiest=0.5), states) == [1.0, 1.0, 0.0]
    assert scores(scorers.tokens(4_000), states) == [1.0, 0.75, 0.5]


def test_cold_prompts_go_where_none_went_for_longest() -> None:
    states, no_hit = endpoints(3), NoHit()
    policy = Scored([Weighted("cold", no_hit, 1.0)])
    order = [pick(policy, states, REQUEST)[0].endpoint.name for _ in range(6)]
    assert sorted(order[:3]) == ["e0", "e1", "e2"]
    assert order[3:] == order[:3]
    assert scores(no_hit, states, Match({"e1": 1.0})) == [0.5, 0.5, 0.5]
    assert scores(no_hit, states[:1]) == [0.5]


def test_the_memory_of_cold_prompts_is_bounded() -> None:
    no_hit = NoHit(2)
    for name in ("e0", "e1", "e2"):
        no_hit.chosen(name, cold=True)
    assert scores(no_hit, endpoints(3)) == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    "make", [lambda: scorers.load_aware(0), lambda: scorers.active(-1), lambda: NoHit(0)]
)
def test_parameters_that_can_not_be(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match="must be a finite number"):
        make()


# --- the profile --------------------------------------------------------------------------------


def test_scores_are_weighed_and_cut_and_added() -> None:
    states = endpoints(2)
    policy = Scored(
        [
            Weighted("a", lambda *_: [7.0, 0.5], 3.0),
            Weighted("b", lambda *_: [-1.0, 1.0], 2.0),
        ]
    )
    first, second = pick(policy, states, REQUEST)
    assert (first.endpoint.name, first.score) == ("e1", -3.5)
    assert (second.endpoint.name, second.score) == ("e0", -3.0)
    assert first.reason == "3.500: a 0.50, b 1.00"


def test_equal_totals_are_shuffled() -> None:
    policy = Scored([Weighted("queue", scorers.queue, 1.0)])
    states = endpoints(4)
    firsts = Counter(pick(policy, states, REQUEST)[0].endpoint.name for _ in range(400))
    assert set(firsts) == {"e0", "e1", "e2", "e3"}


def test_the_random_picker_does_not_look() -> None:
    policy = Scored([Weighted("a", lambda *_: [1.0, 0.0], 1.0)], "random")
    firsts = Counter(pick(policy, endpoints(2), REQUEST)[0].endpoint.name for _ in range(400))
    assert min(firsts.values()) > 120  # eight standard deviations below the mean


def test_the_weighted_picker_draws_in_proportion() -> None:
    policy = Scored([Weighted("a", lambda *_: [0.9, 0.3, 0.0], 1.0)], "weighted")
    states = endpoints(3)
    firsts = Counter(pick(policy, states, REQUEST)[0].endpoint.name for _ in range(1_000))
    assert firsts["e2"] == 0
    assert 650 < firsts["e0"] < 850  # around 750, seven standard deviations
    nothing = Scored([Weighted("a", lambda *_: [0.0, 0.0], 1.0)], "weighted")
    assert len(pick(nothing, states[:2], REQUEST)) == 2


def test_without_scorers_any_order_is_right() -> None:
    assert len(pick(Scored([]), endpoints(3), REQUEST)) == 3
