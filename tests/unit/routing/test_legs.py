"""What becomes of a split request's two halves."""

import pytest

from routing.breaker import Circuit
from routing.legs import LegPhase
from routing.retries import RetrySettings
from tests.support.splitting import in_flight, request_of, route, router_of, state_of


def test_the_life_of_a_split_request() -> None:
    router = router_of("pd")
    decision = route(router, request_of(8_192), 1.0)
    leg = decision.prefill
    assert leg is not None
    assert (leg.name, decision.endpoint.name, decision.split) == ("p0", "d1", True)
    assert (decision.split_reason, leg.url) == ("always", "http://p0")
    prefill, decode = state_of(router, "p0"), state_of(router, "d1")
    assert (prefill.ledger.prefill_tokens, prefill.ledger.requests) == (8_192, 1)
    assert (decode.ledger.prefill_tokens, decode.ledger.awaiting) == (0, 1)
    assert decode.ledger.context_tokens == 8_192
    router.prefill_sent(decision, 1.1)
    assert leg.phase is LegPhase.SENT
    router.prefill_done(decision, 2.0, prompt_tokens=8_192, cached_tokens=0)
    assert (leg.phase, prefill.ledger.requests, prefill.prefilled_tokens) == (
        LegPhase.DONE,
        0,
        8_192,
    )
    router.sent(decision, 2.0)
    assert decision.sent_at == 1.1  # the wait for the first token began there
    router.first_token(decision, 2.2)
    assert (decode.ledger.decoding, decode.ledger.awaiting) == (1, 0)
    assert leg.transfer_observed is not None
    assert leg.transfer_observed[1] == pytest.approx(0.18, abs=0.02)  # less one step
    router.finished(decision, 4.0, prompt_tokens=8_192, cached_tokens=8_191, completion_tokens=50)
    assert in_flight(router) == 0
    assert decode.trust.held == decode.trust.failed == 0  # what was read is not what was believed


def test_what_the_prefill_endpoint_took_is_learned_there_and_not_on_the_decode_endpoint() -> None:
    router = router_of("pd", labels={"p0": (("hardware", "a"),), "d1": (("hardware", "b"),)})
    for number in range(20):
        now = 100.0 * number
        decision = route(router, request_of(8_192, f"{number:03}"), now)
        router.prefill_sent(decision, now)
        router.prefill_done(decision, now + 4.0)
        router.sent(decision, now + 4.0)
        router.first_token(decision, now + 4.2)
        router.finished(decision, now + 5.0, completion_tokens=20)
    assert state_of(router, "p0").timing.prefill_seconds(8_192) == pytest.approx(4.0, rel=0.3)
    assert state_of(router, "d1").timing.prefill.seen == 0


def test_a_failed_leg_leaves_the_whole_prompt_to_the_decode_endpoint() -> None:
    router = router_of("pd")
    decision = route(router, request_of(8_192), 0.0)
    router.prefill_sent(decision, 0.0)
    router.prefill_failed(decision, 1.0, "connection reset")
    router.prefill_failed(decision, 1.0, "again")
    router.prefill_done(decision, 1.0)
    leg = decision.prefill
    assert leg is not None
    assert (leg.phase, leg.reason, decision.split) == (LegPhase.FAILED, "connection reset", False)
    decode = state_of(router, "d1").ledger
    assert (decode.prefill_tokens, decode.awaiting, decode.requests) == (8_192, 0, 1)
    assert state_of(router, "p0").ledger.requests == 0
    assert state_of(router, "p0").breaker.failures == 1
    assert [attempt.endpoint for attempt in decision.prefill_attempts] == ["p0"]
    router.sent(decision, 1.0)
    router.first_token(decision, 2.0)
    router.finished(decision, 3.0)
    assert in_flight(router) == 0


def test_failures_open_the_prefill_endpoints_breaker_and_it_gets_no_more_legs() -> None:
    router = router_of("pd")
    for number in range(3):
        decision = route(router, request_of(640, f"{number}"), float(number) / 10)
        router.prefill_sent(decision, 0.5)
        router.prefill_failed(decision, 0.5, "500")
    assert state_of(router, "p0").breaker.circuit is Circuit.OPEN
    decision = route(router, request_of(640, "z"), 0.6)
    assert decision.prefill is None
    assert decision.endpoint.name == "d1"


def test_a_blameless_or_skipped_leg_counts_against_nobody() -> None:
    router = router_of("pd")
    for number in range(5):
        decision = route(router, request_of(640, f"{number}"), 0.0)
        if number % 2:
            router.prefill_failed(decision, 0.1, "slow", blameless=True)
        else:
            router.prefill_skipped(decision, 0.1, "not needed")
        router.abandoned(decision, 0.2)
    assert state_of(router, "p0").breaker.failures == 0
    assert in_flight(router) == 0


def test_another_prefill_endpoint_takes_over_within_the_budget() -> None:
    router = router_of("ppd", retries=RetrySettings(share=0.0, minimum_per_second=0.1))
    decision = route(router, request_of(8_192), 0.0)
    assert decision.prefill is not None
    first = decision.prefill.name
    router.prefill_sent(decision, 0.0)
    assert not router.replan_prefill(decision, 0.0)  # nothing has failed
    router.prefill_failed(decision, 0.5, "503", refused=True)
    assert router.replan_prefill(decision, 0.5)
    assert decision.prefill.name != first
    assert decision.split
    assert decision.prefill.phase is LegPhase.PLANNED
    assert state_of(router, "d2").ledger.awaiting == 1
    assert state_of(router, "d2").ledger.prefill_tokens == 0
    router.prefill_failed(decision, 0.6, "503")
    assert not router.replan_prefill(decision, 0.6)  # all were tried
    router.abandoned(decision, 1.0)
    assert in_flight(router) == 0
    other = route(router, request_of(8_192, "y"), 1.0)
    router.prefill_failed(other, 1.0, "503")
    assert not router.replan_prefill(other, 1.0)
    router.abandoned(other, 1.0)


def test_the_retry_budget_bounds_other_prefill_endpoints() -> None:
    router = router_of("ppd", retries=RetrySettings(share=0.0, minimum_per_second=0.0))
    decision = route(router, request_of(8_192), 0.0)
    router.prefill_failed(decision, 0.5, "503")
    assert not router.replan_prefill(decision, 0.5)
    assert decision.retry_denied == "the retry budget is spent"


def test_after_the_decode_endpoint_failed_the_next_one_computes_it_all() -> None:
    router = router_of("pdd")
    decision = route(router, request_of(8_192), 0.0)
    first = decision.endpoint.name
    router.prefill_sent(decision, 0.0)
    router.prefill_done(decision, 1.0)
    router.sent(decision, 1.0)
    router.failed(decision, 1.1, "reset")
    router.stranded(decision, 1.1, 31.0)
    assert router.retry(decision, 1.1)
    assert decision.endpoint.name != first
    assert not decision.split  # blocks can be read once, and by whom they were meant for
    assert decision.endpoint.ledger.prefill_tokens == 8_192
    assert router.replan_prefill(decision, 1.2)  # unless it is computed for this one again
    assert decision.prefill is not None
    assert decision.prefill.phase is LegPhase.PLANNED
    assert decision.endpoint.ledger.prefill_tokens == 0
    router.abandoned(decision, 2.0)
    assert in_flight(router) == 0


def test_stranded_kv_counts_until_its_lease_ends_and_once() -> None:
    router = router_of("pd")
    decision = route(router, request_of(8_192), 0.0)
    router.stranded(decision, 0.1, 30.0)  # nothing was sent
    assert router.prefilling.stranded_now(0.1) == 0
    router.prefill_sent(decision, 0.2)
    router.abandoned(decision, 0.5)
    router.prefill_done(decision, 1.0)  # late
    router.stranded(decision, 1.0, 31.0)
    router.stranded(decision, 1.0, 99.0)
    assert router.prefilling.stranded_now(30.0) == 8_192
    assert router.prefilling.stranded_now(31.0) == 0
    assert router.prefilling.stranded_tokens == 8_192
    assert in_flight(router) == 0


def test_a_client_that_leaves_gives_both_halves_back() -> None:
    router = router_of("pd")
    decision = route(router, request_of(8_192), 0.0)
    router.prefill_sent(decision, 0.0)
    router.abandoned(decision, 0.1)
    assert in_flight(router) == 0
    assert decision.prefill is not None
    assert decision.prefill.phase is LegPhase.SKIPPED


def test_an_unstreamed_answer_decodes_once_its_kv_is_there() -> None:
    router = router_of("pd")
    decision = route(router, request_of(8_192, streamed=False), 0.0)
    router.prefill_sent(decision, 0.0)
    router.prefill_done(decision, 1.0)
    router.sent(decision, 1.0)
    assert state_of(router, "d1").ledger.decoding == 1
    router.finished(decision, 9.0, completion_tokens=100)
    assert in_flight(router) == 0


def test_whoever_sees_only_the_decode_half_holds_no_prefill_beyond_the_first_token() -> None:
    router = router_of("pd")
    decision = route(router, request_of(8_192), 0.0)
    router.prefill_sent(decision, 0.0)
    router.sent(decision, 0.0)
    router.first_token(decision, 2.0)
    assert state_of(router, "p0").ledger.requests == 0
    router.finished(decision, 3.0)
    assert in_flight(router) == 0
