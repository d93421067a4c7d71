"""From a call to a choice: what every body of the gateway asks the brain, in one way.

The proxy and the external processor differ in how a request reaches them. What the brain may know
about it, and how its refusals look to clients, does not.
"""

from collections.abc import Collection, Sequence
from types import MappingProxyType

from gateway.apis.call import ApiError, Call
from gateway.tokenizing.service import TokenizingService
from routing.decision import Rejection, RejectionKind
from routing.prefix.tokens import blocks_of, token_salt
from routing.request import Chain, Request
from routing.router import Router

_TOKENIZABLE = frozenset({"chat", "completions"})
_REJECTIONS = MappingProxyType(
    {
        RejectionKind.UNKNOWN_MODEL: (404, "unknown_model", "model"),
        RejectionKind.NO_ENDPOINT: (503, "no_endpoint", None),
        RejectionKind.OVERLOADED: (429, "overloaded", None),
    }
)


def routing_request(
    call: Call,
    request_id: str,
    *,
    streamed: bool,
    token_chains: dict[int, Chain] | None = None,
    ttft_target: float | None = None,
    itl_target: float | None = None,
    within: Collection[str] | None = None,
) -> Request:
    """What the brain may know; ``streamed``: a first token will be seen before the last one."""
    return Request(
        id=request_id,
        model=call.model,
        chains=call.chains,
        prompt_tokens=call.prompt_tokens,
        exact_tokens=call.exact_tokens,
        max_output_tokens=call.max_output_tokens,
        streamed=streamed,
        priority=call.priority,
        token_chains=token_chains,
        ttft_target=ttft_target,
        itl_target=itl_target,
        within=within,
    )


def wants_ids(router: Router, tokenizing: TokenizingService | None, api: str, call: Call) -> bool:
    """Whether exact matching wants a prompt's token ids, and somebody can tell them."""
    return (
        tokenizing is not None
        and call.model is not None
        and call.token_ids is None
        and len(call.chains) == 1
        and api in _TOKENIZABLE
        and bool(router.residency.sizes)
        and tokenizing.serves(call.model)
    )


def token_chains(
    router: Router, call: Call, token_ids: Sequence[int] | None
) -> dict[int, Chain] | None:
    """The prompt in the blocks that engines report their caches in, where its ids are known."""
    sizes = router.residency.sizes
    if token_ids is None or call.model is None or not sizes:
        return None
    salt = token_salt(router.fleet.adapter(call.model), call.cache_salt)
    return {size: blocks_of(salt, token_ids, size) for size in sizes}


def refusal(rejection: Rejection) -> ApiError:
    """What the client is told when the brain has no endpoint for it."""
    status, reason, param = _REJECTIONS[rejection.kind]
    wait = rejection.retry_after
    return ApiError(
        status,
        reason,
        rejection.message,
        param=param,
        retry_after=None if wait is None else max(1, round(wait)),
    )
