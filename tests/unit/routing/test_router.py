from array import array

import pytest

from routing.breaker import Circuit
from routing.decision import TRANSITIONS, Decision, Phase, Rejection, RejectionKind
from routing.fleet import Endpoint, EndpointState, Fleet, Health, Load, ServedModel
from routing.policies import make_policy
from routing.prefix.chain import BLOCK_TOKENS, text_chain
from routing.prefix.index import PrefixIndex
from routing.request import Request
from routing.retries import RetrySettings
from routing.router import Router, RouterSettings


def router_of(
    size: int,
    *,
    models: tuple[str, ...] | None = ("m",),
    settings: RouterSettings | None = None,
    policy: str = "predicted_time",
) -> Router:
    router = Router(
        Fleet(), PrefixIndex(1 << 24), make_policy(policy), settings or RouterSettings()
    )
    for number in range(size):
        router.upsert_endpoint(Endpoint(f"e{number}", f"http://e{number}", models=models), 0.0)
        router.fleet.observe_health(f"e{number}", True, 0.0, "ok")
    return router


def request_of(text: str, *, model: str | None = "m", streamed: bool = True) -> Request:
    data = text.encode()
    chain = text_chain(b"m", data)
    return Request("r", model, (chain,), len(data) / 4, streamed=streamed)


def prompt(blocks: int, letter: str = "x") -> str:
    return "".join(f"{letter}{number:<255}" for number in range(blocks))


def route(router: Router, request: Request, now: float = 0.0) -> Decision:
    decision = router.route(request, now)
    assert isinstance(decision, Decision)
    return decision


def reject(router: Router, request: Request) -> Rejection:
    rejection = router.route(request, 0.0)
    assert isinstance(rejection, Rejection)
    return rejection


def in_flight(router: Router) -> int:
    return sum(state.ledger.requests for state in router.fleet)


def state_of(router: Router, name: str) -> EndpointState:
    state = router.fleet.get(name)
    assert state is not None
    return state


def test_the_life_of_a_request() -> None:
    router = router_of(2)
    decision = route(router, request_of(prompt(20)), 1.0)
    state = decision.endpoint
    assert (decision.phase, decision.outcome) == (Phase.ROUTED, None)
    assert (state.ledger.prefill_tokens, state.ledger.output_tokens) == (1_280, 256)
    router.sent(decision, 1.1)
    router.first_token(decision, 1.5)
    assert (state.ledger.prefill_tokens, state.ledger.decoding) == (0, 1)
    router.progress(decision, 2.0, 100)
    assert state.ledger.output_tokens == 156
    router.finished(decision, 3.0, prompt_tokens=1_300, cached_tokens=0, completion_tokens=120)
    assert (state.ledger.requests, state.ledger.output_tokens) == (0, 0)
    assert (decision.sent_at, decision.first_token_at, decision.finished_at) == (1.1, 1.5, 3.0)
    assert (decision.phase, decision.outcome) == (Phase.DONE, "done")
    assert decision.reported_prompt_tokens == 1_300
    assert decision.reported_cached_tokens == 0
    assert decision.reported_completion_tokens == 120


def test_a_decision_is_a_receipt() -> None:
    router = router_of(6)
    decision = route(router, request_of(prompt(4)), 5.0)
    assert decision.policy == "predicted_time"
    assert decision.at == 5.0
    assert len(decision.choices) == 4  # one and three fallbacks
    assert decision.endpoint is decision.choices[0].endpoint
    assert decision.choices[0].predicted_ttft == pytest.approx(0.020 + 256 / 8_000, rel=0.01)
    assert list(router.recent) == [decision]


def test_only_the_latest_receipts_are_kept() -> None:
    router = router_of(1, settings=RouterSettings(receipts=3))
    decisions = [route(router, request_of("x")) for _ in range(5)]
    assert list(router.recent) == decisions[-3:]


def test_the_next_request_with_the_prefix_follows_it() -> None:
    router = router_of(5)
    system = prompt(30)
    seen = set()
    for number in range(10):
        decision = route(router, request_of(system + prompt(2, chr(97 + number))), float(number))
        router.sent(decision, float(number))
        router.first_token(decision, number + 0.3)
        router.finished(decision, number + 0.5)
        seen.add(decision.endpoint.name)
        assert decision.predicted_cached_tokens == (30 * BLOCK_TOKENS if number else 0)
    assert len(seen) == 1


def test_at_least_one_token_is_always_left_to_compute() -> None:
    router = router_of(1)
    for expected in (0.0, 4 * BLOCK_TOKENS - 1.0):
        decision = route(router, request_of(prompt(4)))
        assert decision.predicted_cached_tokens == expected
        router.sent(decision, 0.0)


def test_the_chains_of_a_batch_add_up() -> None:
    router = router_of(2)
    text = [prompt(3, "a"), prompt(5, "b")]
    chains = tuple(text_chain(b"m", part.encode()) for part in text)
    batch = Request("r", "m", chains, 8 * BLOCK_TOKENS + 10)
    router.sent(route(router, batch), 0.0)
    again = route(router, batch)
    assert again.predicted_cached_tokens == 8 * BLOCK_TOKENS


def test_an_embedding_expects_no_output() -> None:
    decision = route(router_of(1), Request("r", "m", prompt_tokens=100.0))
    assert decision.endpoint.ledger.prefill_tokens == 100
    assert decision.endpoint.ledger.output_tokens == 0


def test_a_lower_output_limit_is_what_is_expected() -> None:
    chain = array("Q", [1])
    for limit, expected in ((10, 10), (100_000, 256), (None, 256)):
        request = Request("r", "m", (chain,), 64.0, max_output_tokens=limit)
        assert route(router_of(1), request).output_tokens == expected


def test_no_model_means_any_healthy_endpoint() -> None:
    router = router_of(1)
    assert route(router, Request("r", None)).endpoint.name == "e0"
    router.fleet.observe_health("e0", False, 1.0, "down")
    assert reject(router, Request("r", None)).kind is RejectionKind.NO_ENDPOINT


def test_an_unknown_model_is_unknown_only_when_every_endpoint_has_told() -> None:
    router = router_of(1)
    rejection = reject(router, request_of("x", model="other"))
    assert rejection.kind is RejectionKind.UNKNOWN_MODEL
    assert "'other'" in rejection.message
    assert rejection.retry_after is None
    router.upsert_endpoint(Endpoint("late", "http://late"), 0.0)  # its models aren't known yet
    rejection = reject(router, request_of("x", model="other"))
    assert rejection.kind is RejectionKind.NO_ENDPOINT
    assert rejection.retry_after is not None


def test_a_known_model_without_a_healthy_endpoint_is_no_unknown_model() -> None:
    router = router_of(1)
    router.fleet.observe_health("e0", False, 1.0, "down")
    assert reject(router, request_of("x")).kind is RejectionKind.NO_ENDPOINT


def test_an_empty_fleet_has_no_endpoint_for_a_request_without_a_model() -> None:
    assert reject(router_of(0), Request("r", None)).kind is RejectionKind.NO_ENDPOINT


def test_full_endpoints_get_no_more() -> None:
    router = router_of(2, settings=RouterSettings(max_requests_per_endpoint=2))
    decisions = [route(router, request_of("x")) for _ in range(4)]
    assert [state.ledger.requests for state in router.fleet] == [2, 2]
    rejection = reject(router, request_of("x"))
    assert rejection.kind is RejectionKind.OVERLOADED
    assert rejection.retry_after is not None
    router.abandoned(decisions[0], 1.0)
    assert route(router, request_of("x")).endpoint is decisions[0].endpoint


def test_a_failed_attempt_moves_to_the_next_choice_that_is_well() -> None:
    router = router_of(4)
    decision = route(router, request_of(prompt(2)))
    first, second, third, _ = [choice.endpoint for choice in decision.choices]
    router.sent(decision, 1.0)
    router.failed(decision, 1.1, "connection refused", refused=True)
    assert (first.health, first.ledger.requests) == (Health.UNHEALTHY, 0)
    router.remove_endpoint(second.name)
    assert router.retry(decision, 1.2)
    assert (decision.endpoint, decision.attempt, decision.outcome) == (third, 2, None)
    assert (third.ledger.requests, second.ledger.requests) == (1, 0)
    assert decision.sent_at is None
    assert [(a.endpoint, a.reason, a.refused) for a in decision.attempts] == [
        (first.name, "connection refused", True)
    ]
    router.sent(decision, 1.3)
    router.finished(decision, 2.0)
    assert decision.outcome == "done"
    assert in_flight(router) == 0


def test_retries_end_when_no_choice_is_left() -> None:
    router = router_of(3)
    decision = route(router, request_of("x"))
    attempts = 1
    router.failed(decision, 1.0, "reset")
    while router.retry(decision, 1.0):
        attempts += 1
        router.failed(decision, 1.0, "reset")
    assert attempts == len(decision.attempts) == 3
    assert decision.outcome == "failed"
    assert in_flight(router) == 0


def test_only_a_failed_request_is_retried() -> None:
    router = router_of(2)
    decision = route(router, request_of("x"))
    assert not router.retry(decision, 0.0)
    router.finished(decision, 1.0)
    assert not router.retry(decision, 1.0)


def test_a_client_that_goes_away_blames_nobody() -> None:
    router = router_of(1)
    for _ in range(5):
        decision = route(router, request_of("x"))
        router.sent(decision, 0.0)
        router.abandoned(decision, 1.0)
        assert decision.outcome == "abandoned"
    assert decision.endpoint.consecutive_failures == 0
    assert decision.endpoint.health is Health.HEALTHY
    assert in_flight(router) == 0


def test_success_breaks_a_row_of_failures() -> None:
    router = router_of(1)
    for outcome in "ffsffs":
        decision = route(router, request_of("x"))
        if outcome == "f":
            router.failed(decision, 0.0, "reset")
        else:
            router.finished(decision, 0.0)
    assert decision.endpoint.health is Health.HEALTHY


def test_streamed_requests_teach_both_time_models() -> None:
    router = router_of(1)
    for number in range(30):
        now = 10.0 * number
        decision = route(router, request_of(prompt(40, f"{number}")), now)
        router.sent(decision, now)
        router.first_token(decision, now + 2.0)
        router.finished(decision, now + 7.0, completion_tokens=51)
    timing = state_of(router, "e0").timing
    assert timing.prefill_seconds(40 * BLOCK_TOKENS) == pytest.approx(2.0, rel=0.2)
    assert timing.inter_token_seconds(1) == pytest.approx(0.1, rel=0.2)


def test_unstreamed_requests_teach_how_long_the_whole_takes() -> None:
    router = router_of(1)
    for number in range(60):
        now = 10.0 * number
        decision = route(router, request_of(prompt(40, f"{number}"), streamed=False), now)
        router.sent(decision, now)
        router.first_token(decision, now + 7.0)  # the answer comes in one piece
        router.finished(decision, now + 7.0, completion_tokens=51)
    timing = state_of(router, "e0").timing
    whole = timing.prefill_seconds(40 * BLOCK_TOKENS) + 50 * timing.inter_token_seconds(1)
    assert whole == pytest.approx(7.0, rel=0.2)


def test_an_unstreamed_request_counts_as_decoding_once_its_prefill_must_be_over() -> None:
    router = router_of(1)
    decision = route(router, request_of(prompt(40), streamed=False), 0.0)
    router.sent(decision, 0.0)
    ledger = decision.endpoint.ledger
    assert ledger.decoding == 0
    route(router, request_of(prompt(1, "y")), 5.0)
    assert (ledger.decoding, ledger.prefill_tokens) == (1, BLOCK_TOKENS)


def test_reported_prompt_tokens_correct_the_nominal_count_of_that_model_only() -> None:
    router = router_of(1, models=("m", "n"))
    for number in range(40):
        decision = route(router, request_of(prompt(10, f"{number}")))
        router.sent(decision, 0.0)
        router.finished(decision, 0.0, prompt_tokens=1_280)
    again = route(router, request_of(prompt(10, "0") + prompt(10, "new")))
    assert again.prompt_tokens == pytest.approx(2_560, rel=0.02)
    assert again.predicted_cached_tokens == pytest.approx(1_280, rel=0.02)
    assert route(router, request_of(prompt(10), model="n")).prompt_tokens == 640
    exact = Request("r", "m", (array("Q", [1]),), 100.0, exact_tokens=True)
    assert route(router, exact).prompt_tokens == 100.0


def test_the_view_of_a_cache_is_as_large_as_the_cache() -> None:
    router = router_of(1)
    router.sent(route(router, request_of(prompt(40))), 0.0)
    assert router.prefix.blocks("e0") == 40
    load = Load(at=0.0, cache_block_tokens=16, cache_blocks=80)  # 1,280 tokens: 20 blocks
    router.fleet.observe_load("e0", load)
    router.sent(route(router, request_of(prompt(2, "y"))), 0.0)
    assert router.prefix.blocks("e0") <= 20
    default = router_of(1, settings=RouterSettings(default_cache_tokens=640))
    default.sent(route(default, request_of(prompt(40))), 0.0)
    assert default.prefix.blocks("e0") == 10


@pytest.mark.parametrize("loss", ["restarted", "removed", "moved"])
def test_a_lost_cache_is_not_counted_on(loss: str) -> None:
    router = router_of(2)
    endpoints = {state.name: state.endpoint for state in router.fleet}
    warm = route(router, request_of(prompt(20)))
    router.sent(warm, 0.0)
    name = warm.endpoint.name
    match loss:
        case "restarted":
            router.restarted(name)
        case "removed":
            router.remove_endpoint(name)
            router.upsert_endpoint(endpoints[name], 1.0)
        case _:
            router.upsert_endpoint(Endpoint(name, "http://elsewhere", models=("m",)), 1.0)
    router.fleet.observe_health(name, True, 1.0, "ok")
    again = route(router, request_of(prompt(20)), 1.0)
    assert {choice.cached_tokens for choice in again.choices} == {0.0}
    assert len(again.choices) == 2


def test_what_is_in_flight_on_a_removed_endpoint_ends_well() -> None:
    router = router_of(1)
    old = route(router, request_of(prompt(5)))
    router.remove_endpoint("e0")
    new_state = router.upsert_endpoint(Endpoint("e0", "http://e0", models=("m",)), 1.0)
    router.sent(old, 1.0)
    router.first_token(old, 1.1)
    router.failed(old, 1.2, "reset", refused=True)
    assert old.endpoint.ledger.requests == 0
    assert new_state.consecutive_failures == 0
    assert router.prefix.blocks("e0") == 0


def test_memory_of_removed_endpoints_is_given_back_by_later_requests() -> None:
    router = router_of(2)
    for number in range(40):
        router.sent(route(router, request_of(prompt(5, f"{number}"))), 0.0)
    for name in ("e0", "e1"):
        router.remove_endpoint(name)
    assert len(router.prefix) == 200
    for _ in range(10):
        reject(router, request_of("x"))
    assert len(router.prefix) == router.prefix.bytes_used == 0


def test_models_are_learned_by_observation() -> None:
    router = router_of(1, models=None)
    assert reject(router, request_of("x")).kind is RejectionKind.NO_ENDPOINT
    router.fleet.observe_models("e0", [ServedModel("m")], 1.0)
    assert route(router, request_of("x")).endpoint.name == "e0"


def test_every_phase_has_its_row_and_the_ends_are_ends() -> None:
    assert set(TRANSITIONS) == set(Phase)
    assert TRANSITIONS[Phase.DONE] == TRANSITIONS[Phase.ABANDONED] == frozenset()


def break_circuit(router: Router, name: str, now: float) -> None:
    for _ in range(3):
        router.fleet.observe_failure(name, now, "reset", refused=False)


def test_endpoints_whose_requests_fail_are_left_alone_and_then_tried_with_one_request() -> None:
    router = router_of(2)
    break_circuit(router, "e0", 0.0)
    assert {route(router, request_of("x")).endpoint.name for _ in range(6)} == {"e1"}
    tried = [route(router, request_of("x"), 1.0) for _ in range(6)]
    probes = [decision for decision in tried if decision.endpoint.name == "e0"]
    assert len(probes) == 1
    router.sent(probes[0], 1.0)
    router.first_token(probes[0], 1.5)
    assert state_of(router, "e0").breaker.circuit is Circuit.CLOSED
    both = {route(router, request_of(prompt(9, letter)), 1.5).endpoint.name for letter in "abcdef"}
    assert both == {"e0", "e1"}


@pytest.mark.parametrize("end", ["abandoned", "no room", "refused", "failed"])
def test_how_a_probe_ends_decides_what_comes_next(end: str) -> None:
    router = router_of(1)
    breaker = state_of(router, "e0").breaker
    break_circuit(router, "e0", 0.0)
    probe = route(router, request_of("x"), 1.0)
    assert not breaker.admits
    match end:
        case "abandoned":
            router.abandoned(probe, 1.1)
        case "no room":
            router.failed(probe, 1.1, "status_429", blameless=True)
        case "refused":
            router.failed(probe, 1.1, "connection refused", refused=True)
        case _:
            router.failed(probe, 1.1, "reset")
    if end == "failed":
        assert (breaker.circuit, breaker.half_open_at) == (Circuit.OPEN, 1.1 + 2.0)
    else:
        assert (breaker.circuit, breaker.admits) == (Circuit.HALF_OPEN, True)
    assert (state_of(router, "e0").health is Health.UNHEALTHY) == (end == "refused")


def test_without_any_endpoint_left_a_client_hears_when_to_come_again() -> None:
    router = router_of(2)
    break_circuit(router, "e0", 0.0)
    break_circuit(router, "e1", 0.5)
    for model in ("m", None):
        rejection = router.route(request_of("x", model=model), 0.75)
        assert isinstance(rejection, Rejection)
        assert (rejection.kind, rejection.retry_after) == (RejectionKind.NO_ENDPOINT, 0.25)
        assert "failed lately" in rejection.message
    assert route(router, request_of("x"), 1.0).endpoint.name == "e0"


def test_a_retry_passes_over_an_endpoint_whose_breaker_opened_meanwhile() -> None:
    router = router_of(3)
    decision = route(router, request_of("x"))
    second, third = (choice.endpoint for choice in decision.choices[1:])
    break_circuit(router, second.name, 0.0)
    router.failed(decision, 0.1, "reset")
    assert router.retry(decision, 0.1)
    assert decision.endpoint is third


def test_retries_stay_within_their_budget() -> None:
    budget = RetrySettings(share=0.5, minimum_per_second=0.0)
    router = router_of(4, settings=RouterSettings(retries=budget))
    first = route(router, request_of("x"))
    router.failed(first, 0.0, "reset")
    assert not router.retry(first, 0.0)
    assert first.retry_denied == "the retry budget is spent"
    assert (first.outcome, in_flight(router)) == ("failed", 0)
    second = route(router, request_of("x"))  # two requests earn one retry
    router.failed(second, 0.0, "reset")
    assert router.retry(second, 0.0)
    assert second.retry_denied is None
    assert (router.retries.allowed, router.retries.denied) == (1, 1)


def test_a_retry_without_an_endpoint_costs_no_budget() -> None:
    router = router_of(1)
    decision = route(router, request_of("x"))
    router.failed(decision, 0.0, "reset")
    assert not router.retry(decision, 0.0)
    assert (router.retries.allowed, router.retries.denied, decision.retry_denied) == (0, 0, None)


def test_a_first_token_that_may_have_waited_for_room_teaches_no_prefill() -> None:
    for usage, learns in ((0.5, True), (0.99, False), (None, True)):
        router = router_of(1)
        load = Load(0.0, kv_usage=usage, cache_block_tokens=16, cache_blocks=1_000)
        router.fleet.observe_load("e0", load)
        decision = route(router, request_of(prompt(20)), 0.0)
        router.sent(decision, 0.0)
        router.first_token(decision, 3.0)
        assert state_of(router, "e0").timing.prefill.seen == learns


def test_answers_take_room_from_the_prompts_that_are_believed_to_be_held() -> None:
    router = router_of(1)
    router.fleet.observe_load("e0", Load(0.0, cache_block_tokens=16, cache_blocks=500))
    state = state_of(router, "e0")
    decision = route(router, request_of(prompt(60, "a")), 0.0)
    router.sent(decision, 0.0)
    router.first_token(decision, 1.0)
    assert state.answer_tokens == 8
    assert router.prefix.blocks("e0") == 60
    router.progress(decision, 2.0, 5_000)
    assert state.answer_tokens == 5_008
    following = route(router, request_of(prompt(30, "b")), 2.0)
    router.sent(following, 2.0)
    assert 30 <= router.prefix.blocks("e0") <= (8_000 - 5_008) // BLOCK_TOKENS
    router.finished(decision, 3.0, completion_tokens=5_000)
    assert state.answer_tokens == 0
