"""Whether to split, and between whom."""

import pytest

from routing.disaggregation import SPLIT, DisaggregationSettings, SplitReason
from routing.transfer import Link
from tests.support.splitting import crowd, request_of, route, router_of, state_of, warm


def test_a_prefill_endpoint_gets_neither_whole_requests_nor_decode_legs() -> None:
    router = router_of("pdb", "never")
    for number in range(20):
        decision = route(router, request_of(640, f"{number}"), 0.0)
        assert all(choice.endpoint.name != "p0" for choice in decision.choices)
        assert (decision.prefill, decision.split_reason) == (None, "never")


def test_a_fleet_without_roles_says_nothing_of_splitting() -> None:
    router = router_of("www", "always")
    decision = route(router, request_of())
    assert (decision.prefill, decision.split_reason) == (None, "")
    assert router.disaggregation.decisions == {}


def test_without_role_it_may_decode_for_a_prefill_endpoint() -> None:
    decision = route(router_of("pw", "always"), request_of())
    assert decision.prefill is not None
    assert (decision.prefill.name, decision.endpoint.name) == ("p0", "w1")


def test_idle_endpoints_are_not_split_over() -> None:
    decision = route(router_of("bb", "adaptive"), request_of())
    assert decision.split_reason == SplitReason.WHOLE_CHEAPER.value


def test_who_decodes_much_is_spared_a_long_prompt() -> None:
    router = router_of("pdd", "adaptive")
    crowd(router, "d1", 100)
    crowd(router, "d2", 100)
    decision = route(router, request_of(16_384))
    assert decision.split_reason == SplitReason.CHEAPER.value
    assert decision.prefill is not None
    assert decision.prefill.name == "p0"
    assert decision.choices[0].predicted_ttft == pytest.approx(
        decision.prefill.seconds + decision.prefill.transfer_seconds, abs=0.1
    )
    assert "p0 computes" in decision.choice.reason


def test_who_would_be_late_only_by_the_transfer_stays_whole() -> None:
    # 16,384 tokens in 2.2 s and 0.2 s on the way: by a target between the two, or far from both.
    reasons = {}
    for target in (0.5, 2.4, 60.0):
        settings = DisaggregationSettings(bandwidth=7e9, miss_share=20.0)
        router = router_of("pd", "adaptive", settings=settings)
        crowd(router, "d1", 1)
        request = request_of(16_384, ttft_target=target)
        reasons[target] = route(router, request).split_reason in SPLIT
    assert reasons == {0.5: True, 2.4: False, 60.0: True}


def test_a_prompt_that_the_decode_endpoint_holds_is_not_computed_elsewhere() -> None:
    router = router_of("pd", "adaptive")
    request = request_of(16_384)
    warm(router, "d1", request)
    crowd(router, "d1", 100)
    decision = route(router, request)
    assert decision.split_reason == SplitReason.CACHED.value


def test_warm_kv_moves_from_who_holds_it_to_who_has_room() -> None:
    router = router_of("bbb", "adaptive", settings=DisaggregationSettings(bandwidth=100e9))
    request = request_of(32_768)
    warm(router, "b0", request)
    crowd(router, "b0", 200, context=2_000)
    for name in ("b1", "b2"):
        crowd(router, name, 20)
    decision = route(router, request)
    leg = decision.prefill
    assert leg is not None
    assert (decision.split_reason, leg.name) == (SplitReason.WARM.value, "b0")
    assert decision.endpoint.name != "b0"
    assert leg.uncached_tokens < 1_000
    assert leg.transfer_tokens == 32_768


def test_a_slow_link_is_not_worth_it() -> None:
    slow = DisaggregationSettings(bandwidth=1e7)
    router = router_of("pd", settings=slow)
    crowd(router, "d1", 60)
    assert route(router, request_of(16_384)).split_reason == SplitReason.WHOLE_CHEAPER.value


def test_the_pair_in_one_rack_is_preferred() -> None:
    settings = DisaggregationSettings(
        mode="always", bandwidth=1e9, links=(Link("rack", 50e9),), bytes_per_token=327_680.0
    )
    rack = {"p0": (("rack", "a"),), "p1": (("rack", "b"),), "d2": (("rack", "b"),)}
    router = router_of("ppd", settings=settings, labels=rack)
    for number in range(3):
        decision = route(router, request_of(4_096, f"{number}"), 100.0 * number)
        assert decision.prefill is not None
        assert decision.prefill.name == "p1"
        router.abandoned(decision, 100.0 * number)


def test_other_protocols_are_no_pairs() -> None:
    labels = {"p0": (("kv-connector", "nixl"),), "d1": (("kv-connector", "mooncake"),)}
    decision = route(router_of("pd", "always", labels=labels), request_of())
    assert decision.split_reason == SplitReason.NO_PAIR.value


@pytest.mark.parametrize("mode", ["always", "adaptive", "threshold", "dynamo"])
def test_what_cannot_be_split_is_not(mode: str) -> None:
    router = router_of("pd", mode)
    assert route(router, request_of(most=1)).split_reason == SplitReason.SHORT_ANSWER.value


def test_llmds_threshold_counts_what_the_decode_candidate_lacks() -> None:
    settings = DisaggregationSettings(mode="threshold", threshold_tokens=1_024.0)
    router = router_of("pd", settings=settings)
    assert route(router, request_of(960)).split_reason == SplitReason.BELOW.value
    request = request_of(2_048, "y")
    assert route(router, request).split_reason == SplitReason.THRESHOLD.value
    warm(router, "d1", request)
    assert route(router, request).split_reason == SplitReason.BELOW.value


def test_dynamos_rule_stops_at_full_prefill_queues() -> None:
    router = router_of("pd", "dynamo")
    reasons = [route(router, request_of(4_096, f"{n}")).split_reason for n in range(3)]
    assert reasons == ["dynamo", "dynamo", "prefill_queue"]
    assert route(router, request_of(960)).split_reason == SplitReason.BELOW.value


def test_the_guard_stops_before_prefill_endpoints_starve() -> None:
    router = router_of("pd", "adaptive")
    crowd(router, "d1", 200, 2_000)
    reasons = [route(router, request_of(16_384, f"{n:02}")).split_reason for n in range(12)]
    assert reasons[0] in SPLIT
    assert reasons[-1] not in SPLIT


def test_the_guard_stops_before_decode_memory_is_full() -> None:
    nixl, other = (("kv-connector", "nixl"),), (("kv-connector", "mooncake"),)
    router = router_of("pdw", "adaptive", labels={"p0": nixl, "d1": nixl, "w2": other})
    crowd(router, "d1", 100, 9_500)
    crowd(router, "w2", 100, 9_000)
    decision = route(router, request_of(16_384))
    assert (decision.endpoint.name, decision.split_reason) == ("w2", SplitReason.GUARD_DECODE.value)


def test_a_full_endpoint_is_spared_the_prompt_when_it_must_answer_in_any_case() -> None:
    router = router_of("pd", "adaptive")
    crowd(router, "d1", 100, 9_500)
    decision = route(router, request_of(16_384))
    assert decision.endpoint.name == "d1" and decision.split


def test_the_guard_minds_what_is_stranded() -> None:
    settings = DisaggregationSettings(most_stranded=0.01)
    router = router_of("pd", settings=settings)
    crowd(router, "d1", 100)
    decision = route(router, request_of(16_384))
    assert decision.split
    router.prefill_sent(decision, 0.0)
    router.abandoned(decision, 0.1)
    router.stranded(decision, 0.1, 30.0)
    assert route(router, request_of(16_384, "y"), 1.0).split_reason == "guard_stranded"
    assert route(router, request_of(16_384, "z"), 31.0).split_reason in SPLIT


def test_settings_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="did you mean adaptive"):
        DisaggregationSettings(mode="adaptiv")
    with pytest.raises(ValueError, match="bandwidth is 0"):
        DisaggregationSettings(bandwidth=0.0)


def test_busy_endpoints_attract_no_decoding() -> None:
    router = router_of("bb", "always")
    names = []
    for number in range(6):
        now = float(number)
        decision = route(router, request_of(8_192, f"{number}"), now)
        assert decision.prefill is not None
        names.append((decision.prefill.name, decision.endpoint.name))
        router.prefill_sent(decision, now)
        router.prefill_done(decision, now + 0.9)
        router.sent(decision, now + 0.9)
        router.first_token(decision, now + 0.95)
    assert len(set(names)) == 1  # roles stay where they are
    assert state_of(router, names[0][0]).ledger.decoding == 0
