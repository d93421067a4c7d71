"""What each endpoint of a pool would take with it: the brain's books, read for a scale-down."""

import asyncio
from collections.abc import Iterable, Mapping

from endpoints.scaling.use import Use
from endpoints.scaling.victims import Candidate, WarmTokens
from routing.endpoint import EndpointState, Health
from routing.prefix.views import Views

_USES_AT_ONCE = 128  # prompts looked up, about a millisecond, before requests go on


async def appraise(
    uses: Iterable[Use], views: Views, owners: Mapping[str, str] | None = None
) -> WarmTokens:
    """Who holds what recent traffic used. Gives way to requests every few prompts.

    ``owners``: endpoint -> what it goes with, where several endpoints go together.
    """
    warm = WarmTokens()
    for number, use in enumerate(uses, 1):
        request = use.request
        for chain in request.chains:
            warm.add(
                chain,
                round(use.share * len(chain)),
                request.block_tokens * use.scale,
                _by_owner(views.held(request, chain, use.scale), owners),
            )
        if number % _USES_AT_ONCE == 0:
            await asyncio.sleep(0)
    return warm


def _by_owner(held: dict[str, float], owners: Mapping[str, str] | None) -> dict[str, float]:
    if owners is None:
        return held
    owned: dict[str, float] = {}
    for name, tokens in held.items():
        owner = owners.get(name, name)
        owned[owner] = max(tokens, owned.get(owner, 0.0))
    return owned


def candidate(state: EndpointState, now: float) -> Candidate:
    """An endpoint as a possible victim: how long its work will take, how long it has been well."""
    return Candidate(
        state.name,
        ready=state.health is Health.HEALTHY,
        drain_seconds=drain_seconds(state, now),
        age=now - state.health_since,
    )


def drain_seconds(state: EndpointState, now: float) -> float:
    """Expected seconds until what is in flight has ended: its prefills, then the mean decode.

    Tokens that somebody else's requests need are not known and not counted.
    """
    ledger, timing = state.ledger, state.timing
    if not ledger.requests:
        return 0.0
    tokens, context = ledger.queued_prefill(now, timing.prefill.slope)
    step = timing.inter_token_seconds(float(ledger.requests), float(ledger.context_tokens))
    return timing.prefill_seconds(tokens, context) + step * ledger.output_tokens / ledger.requests
