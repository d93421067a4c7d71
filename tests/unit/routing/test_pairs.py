"""Pairs in large fleets: only the likely endpoints are looked at."""

from routing.disaggregation import SplitReason
from tests.support.splitting import crowd, request_of, route, router_of, state_of, warm


def test_the_idle_prefill_endpoint_among_many_is_found() -> None:
    router = router_of("p" * 60 + "d" * 60, "adaptive")
    for state in router.fleet:
        if state.name.startswith("p") and state.name != "p37":
            state.ledger.reserve("x", 60_000, 0, 0.0, prompt_tokens=60_000)
        elif state.name.startswith("d"):
            crowd(router, state.name, 40 if state.name == "d100" else 60)
    decision = route(router, request_of(16_384))
    assert decision.prefill is not None
    assert (decision.prefill.name, decision.endpoint.name) == ("p37", "d100")
    assert decision.split_reason == SplitReason.CHEAPER.value


def test_a_holder_among_many_is_found() -> None:
    router = router_of("b" * 120, "adaptive")
    request = request_of(65_536)
    warm(router, "b77", request)
    for state in router.fleet:
        crowd(router, state.name, 20)
    decision = route(router, request)
    names = {decision.endpoint.name, "" if decision.prefill is None else decision.prefill.name}
    assert "b77" in names
    assert state_of(router, "b77").ledger.requests > 20


def test_the_first_endpoints_may_all_speak_another_protocol() -> None:
    labels = {f"p{number}": (("kv-connector", "nixl"),) for number in range(10)}
    labels |= {f"d{number}": (("kv-connector", "mooncake"),) for number in range(11, 21)}
    labels["p10"] = (("kv-connector", "mooncake"),)
    router = router_of("p" * 11 + "d" * 10, "always", labels=labels)
    state_of(router, "p10").ledger.reserve("x", 500_000, 0, 0.0, prompt_tokens=500_000)
    decision = route(router, request_of())
    assert decision.prefill is not None
    assert decision.prefill.name == "p10"
