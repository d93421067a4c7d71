"""What a request that went its way teaches about its endpoint: trust, and times."""

from typing import Final

from routing.decision import Decision
from routing.endpoint import EndpointState

TRUSTED: Final = 0.9
"""Trust in an endpoint's cache from which a first token teaches at once."""

_FEWEST_TOKENS: Final = 8  # of an answer that says something about the time between tokens
_MOST_STALLED: Final = 0.8  # share of a decoding time that others' prefills can explain


def learn_trust(decision: Decision, cached_tokens: int | None) -> bool:
    """Hold what was believed to be cached against what the engine found; whether trust changed."""
    if cached_tokens is None:
        return False
    trust = decision.endpoint.trust
    before = trust.share
    trust.observe(decision.predicted_cached_tokens, cached_tokens)
    if before < TRUSTED and decision.request.streamed and decision.first_token_at is not None:
        surprise = decision.prompt_tokens - decision.own_tokens - cached_tokens
        learn_prefill(decision, decision.first_token_at, surprise)
    return trust.share != before


def learn_prefill(decision: Decision, first_token_at: float, surprise: float) -> None:
    """Learn a time to first token; ``surprise``: own tokens computed beyond those expected.

    Not while KV memory is so full that it may have waited for room instead: taken for
    prefill, such times make the engine look ever slower.
    """
    room = decision.endpoint.room_tokens
    short = room is not None and room < decision.prefill_tokens
    if decision.sent_at is not None and not short:
        tokens = max(decision.prefill_tokens + surprise, 0.0)
        decision.endpoint.timing.observe_prefill(
            tokens, first_token_at - decision.sent_at, decision.prefill_context
        )


def learn_times(decision: Decision, now: float, completion_tokens: int | None) -> None:
    """Learn the time between tokens; of an unstreamed answer, both times from the whole.

    Batch and contexts are the means of those at the first and the last token, and the
    prefills that ran in between are not the decoding's fault. An unstreamed answer shows
    only how long it took: both parts are taken to be off by the same factor.
    """
    if decision.sent_at is None or completion_tokens is None:
        return
    if completion_tokens < _FEWEST_TOKENS:
        return
    state, steps = decision.endpoint, completion_tokens - 1
    timing, batch = state.timing, state.ledger.decoding
    context = state.ledger.context_tokens
    if not decision.request.streamed:
        tokens, before = decision.prefill_tokens, decision.prefill_context
        prefill = timing.prefill_seconds(tokens, before)
        step = timing.inter_token_seconds(batch, context)
        factor = (now - decision.sent_at) / (prefill + steps * step)
        timing.observe_prefill(tokens, prefill * factor, before)
        timing.observe_decode(step * factor, batch, context)
    elif decision.first_token_at is not None:
        whole = now - decision.first_token_at
        others = max(computed_tokens(state, now) - decision.prefilled_before, 0.0)
        stalled = min(others * timing.prefill.slope, _MOST_STALLED * whole)
        timing.observe_decode(
            (whole - stalled) / steps,
            (decision.decoding_with + batch) / 2.0,
            (decision.context_with + context) / 2.0,
        )


def computed_tokens(state: EndpointState, now: float) -> float:
    """Prompt tokens of ours that the endpoint has computed so far, part of the oldest prefill's."""
    ledger = state.ledger
    oldest = (now - ledger.oldest_since) * state.timing.prefill_rate
    return state.prefilled_tokens + min(max(oldest, 0.0), float(ledger.oldest_tokens))
