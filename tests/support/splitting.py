"""Routers over fleets with roles."""

from collections.abc import Mapping

from routing.decision import Decision
from routing.disaggregation import DisaggregationSettings
from routing.fleet import Endpoint, EndpointState, Fleet, Load
from routing.policies import make_policy
from routing.prefix.chain import text_chain
from routing.prefix.index import PrefixIndex
from routing.request import Request
from routing.retries import RetrySettings
from routing.router import Router, RouterSettings


def router_of(
    roles: str,
    mode: str = "always",
    *,
    settings: DisaggregationSettings | None = None,
    labels: Mapping[str, tuple[tuple[str, str], ...]] | None = None,
    retries: RetrySettings | None = None,
    policy: str = "predicted_time",
) -> Router:
    """One endpoint a letter of ``roles``, named p0, d1, ...; b: both, told; w: no label."""
    names = {"p": "prefill", "d": "decode", "b": "both", "w": None}
    router = Router(
        Fleet(),
        PrefixIndex(1 << 24),
        make_policy(policy),
        RouterSettings(
            disaggregation=settings or DisaggregationSettings(mode=mode),
            retries=retries or RetrySettings(),
        ),
    )
    for number, letter in enumerate(roles):
        role, name = names[letter], f"{letter}{number}"
        own = (() if role is None else (("role", role),)) + (labels or {}).get(name, ())
        router.upsert_endpoint(
            Endpoint(name, f"http://{name}", models=("m",), labels=own, cache_tokens=1_000_000), 0.0
        )
        router.fleet.observe_health(name, True, 0.0, "ok")
    return router


def request_of(
    tokens: int = 8_192,
    letter: str = "x",
    *,
    streamed: bool = True,
    most: int | None = None,
    ttft_target: float | None = None,
) -> Request:
    """A prompt of so many tokens, four bytes each."""
    data = "".join(f"{letter}{number:<255}" for number in range(tokens // 64)).encode()
    chain = text_chain(b"m", data)
    return Request(
        "r",
        "m",
        (chain,),
        len(data) / 4,
        streamed=streamed,
        max_output_tokens=most,
        ttft_target=ttft_target,
    )


def route(router: Router, request: Request, now: float = 0.0) -> Decision:
    """The decision; an error when the router rejects."""
    decision = router.route(request, now)
    assert isinstance(decision, Decision), decision
    return decision


def state_of(router: Router, name: str) -> EndpointState:
    """The endpoint's state."""
    state = router.fleet.get(name)
    assert state is not None
    return state


def warm(router: Router, name: str, request: Request, now: float = 0.0) -> None:
    """Have the endpoint hold the request's prompt."""
    router.views.sent(name, request, 1_000_000, now)


def crowd(router: Router, name: str, sequences: int, context: int = 500) -> None:
    """Have so many sequences decode there."""
    ledger = state_of(router, name).ledger
    for number in range(sequences):
        ledger.reserve((name, number), 0, 256, 0.0, prompt_tokens=context)
        ledger.prefilled((name, number), 0.0)


def scraped(router: Router, name: str, usage: float, now: float = 0.0) -> None:
    """Have it tell its KV usage."""
    router.fleet.observe_load(name, Load(now, kv_usage=usage))


def in_flight(router: Router) -> int:
    """Reservations of all endpoints."""
    return sum(state.ledger.requests for state in router.fleet)
