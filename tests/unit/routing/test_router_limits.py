"""Requests that are limited to some endpoints, and endpoints that served unasked."""

import pytest

from routing.decision import Decision, Rejection, RejectionKind
from routing.fleet import Endpoint, Fleet
from routing.policies import POLICIES, make_policy
from routing.prefix.chain import text_chain
from routing.prefix.index import PrefixIndex
from routing.request import Request
from routing.router import Router, RouterSettings


def router_of(size: int, policy: str = "predicted_time") -> Router:
    router = Router(Fleet(), PrefixIndex(1 << 24), make_policy(policy), RouterSettings())
    for number in range(size):
        router.upsert_endpoint(Endpoint(f"e{number}", f"http://e{number}", models=("m",)), 0.0)
        router.fleet.observe_health(f"e{number}", True, 0.0, "ok")
    return router


def request_of(within: frozenset[str] | None = None, text: str = "x" * 4_096) -> Request:
    data = text.encode()
    return Request("r", "m", (text_chain(b"m", data),), len(data) / 4, streamed=True, within=within)


def route(router: Router, request: Request, now: float = 0.0) -> Decision:
    decision = router.route(request, now)
    assert isinstance(decision, Decision)
    return decision


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", [5, 200])
def test_every_policy_keeps_to_the_limit(policy: str, size: int) -> None:
    router = router_of(size, policy)
    within = frozenset({"e1", "e3"})
    for _ in range(20):
        decision = route(router, request_of(within))
        assert {choice.endpoint.name for choice in decision.choices} <= within
        router.abandoned(decision, 0.0)


def test_a_limit_that_nobody_well_is_within() -> None:
    router = router_of(3)
    for within in (frozenset[str](), frozenset({"stranger"})):
        rejection = router.route(request_of(within), 0.0)
        assert isinstance(rejection, Rejection)
        assert rejection.kind is RejectionKind.NO_ENDPOINT
    router.fleet.observe_health("e1", False, 1.0, "test")
    assert isinstance(router.route(request_of(frozenset({"e1"})), 1.0), Rejection)


def requests(router: Router) -> dict[str, int]:
    return {state.name: state.ledger.requests for state in router.fleet}


def test_the_load_moves_to_who_served_and_ends_there() -> None:
    router = router_of(3)
    decision = route(router, request_of())
    router.sent(decision, 0.0)
    first, second = (choice.endpoint for choice in decision.choices[:2])
    router.served_by(decision, second.name, 0.1)
    assert requests(router) == {**dict.fromkeys(("e0", "e1", "e2"), 0), second.name: 1}
    assert decision.endpoint is second
    assert router.prefix.blocks(second.name) > 0
    router.served_by(decision, second.name, 0.2)
    router.first_token(decision, 0.3)
    router.served_by(decision, first.name, 0.4)  # too late to be true
    assert decision.endpoint is second
    router.finished(decision, 0.5, completion_tokens=10)
    assert set(requests(router).values()) == {0}


def test_who_was_no_choice_may_serve_too() -> None:
    router = router_of(3)
    decision = route(router, request_of(frozenset({"e0"})))
    router.served_by(decision, "e2", 0.1)
    assert requests(router) == {"e0": 0, "e1": 0, "e2": 1}
    assert decision.choice.reason == "chosen by the proxy"
    router.failed(decision, 0.2, "status_500")
    assert set(requests(router).values()) == {0}


def test_strangers_did_not_serve() -> None:
    router = router_of(2)
    decision = route(router, request_of())
    before = requests(router)
    router.served_by(decision, "stranger", 0.1)
    assert requests(router) == before
    router.abandoned(decision, 0.2)
    other = "e1" if decision.endpoint.name == "e0" else "e0"
    router.served_by(decision, other, 0.3)
    assert set(requests(router).values()) == {0}
