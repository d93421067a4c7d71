"""What the debug pages tell of decisions: the pages' shape, and how a receipt becomes one.

The structs are what `/debug/decisions` encodes and what `inferway explain` decodes. Times are
durations and ages in seconds, sizes tokens; None where nothing is known.
"""

from msgspec import Struct

from routing.decision import Decision
from routing.prediction import (
    best_alternative,
    estimated_regret,
    observed_itl,
    observed_ttft,
)
from routing.receipts import Receipt, Receipts

IN_FLIGHT = "in_flight"
"""What stands for the outcome of a request that is not over."""
OUTCOMES = ("done", "failed", "abandoned", IN_FLIGHT)


class Views(Struct, frozen=True):
    """Prompt tokens in a candidate's cache by each view that had a say."""

    exact: int | None
    """In the engine's fast memory, as it reported it."""
    reachable: int | None
    """In any tier of its cache, as it reported it."""
    predicted: float | None
    """Routed there a moment ago."""
    approximate: float | None
    """Routed there ever, as far as its cache is believed to hold it."""


class Candidate(Struct, frozen=True):
    """A ranked endpoint as it stood when the request was routed, before the request's own load."""

    endpoint: str
    score: float
    """Lower is better; the unit is the policy's own."""
    cached_tokens: float
    """Prompt tokens believed to be in its cache, before they are multiplied by ``trust``."""
    views: Views | None
    queued_tokens: float | None
    requests: int | None
    decoding: float | None
    trust: float | None
    predicted_ttft: float | None
    predicted_itl: float | None
    reason: str


class FailedTry(Struct, frozen=True):
    """An attempt that failed."""

    endpoint: str
    after: float | None
    reason: str
    refused: bool


class Observed(Struct, frozen=True):
    """What became of the request: after routing, and from then on after sending."""

    sent_after: float | None
    first_token_after: float | None
    finished_after: float | None
    inter_token: float | None
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None


class Comparison(Struct, frozen=True):
    """Predicted minus observed, of requests that the first choice answered."""

    ttft: float | None
    itl: float | None
    cached_tokens: float | None
    regret: float | None
    """See `routing.prediction.estimated_regret`."""
    regret_against: str | None
    """The endpoint with the best prediction apart from the chosen one."""
    surprising: bool


class SplitPage(Struct, frozen=True):
    """Why the request was split or not, and the last prefill leg of one that was.

    ``seconds`` and ``transfer_seconds`` are predictions; what is None was not so, or not seen.
    """

    reason: str
    prefill: str | None = None
    """The endpoint that computes the prompt."""
    phase: str | None = None
    uncached_tokens: float | None = None
    seconds: float | None = None
    observed_seconds: float | None = None
    transfer_tokens: float | None = None
    transfer_seconds: float | None = None
    observed_transfer_seconds: float | None = None
    why: str | None = None
    """Why the leg failed or was given up."""


class ReceiptPage(Struct, frozen=True):
    """One decision: who was considered, what was expected, what came of it."""

    id: str
    model: str | None
    streamed: bool
    age: float | None
    policy: str
    prompt_tokens: float
    output_tokens: int
    ttft_target: float | None
    itl_target: float | None
    candidates: list[Candidate]
    endpoint: str
    phase: str
    outcome: str | None
    failed_attempts: list[FailedTry]
    retry_denied: str | None
    observed: Observed
    error: Comparison
    split: SplitPage | None = None
    """None where no endpoint computes for others."""


def receipt_page(receipt: Receipt, receipts: Receipts, now: float) -> ReceiptPage:
    """A receipt as it is told at ``now``."""
    decision = receipt.decision
    request, sent = decision.request, decision.sent_at
    return ReceiptPage(
        id=request.id,
        model=request.model,
        streamed=request.streamed,
        age=between(decision.at, now),
        policy=decision.policy,
        prompt_tokens=decision.prompt_tokens,
        output_tokens=decision.output_tokens,
        ttft_target=request.ttft_target,
        itl_target=request.itl_target,
        candidates=[_candidate(receipt, rank) for rank in range(len(decision.choices))],
        endpoint=decision.endpoint.name,
        phase=decision.phase.value,
        outcome=decision.outcome,
        failed_attempts=[
            FailedTry(tried.endpoint, between(decision.at, tried.at), tried.reason, tried.refused)
            for tried in decision.attempts
        ],
        retry_denied=decision.retry_denied,
        observed=Observed(
            sent_after=between(decision.at, sent),
            first_token_after=between(sent, decision.first_token_at),
            finished_after=between(sent, decision.finished_at),
            inter_token=_rounded(observed_itl(decision)),
            prompt_tokens=decision.reported_prompt_tokens,
            cached_tokens=decision.reported_cached_tokens,
            completion_tokens=decision.reported_completion_tokens,
        ),
        error=_comparison(receipt, receipts),
        split=_split(decision),
    )


def between(start: float | None, end: float | None) -> float | None:
    """Seconds from one time to another; None when either is not known."""
    return None if start is None or end is None else round(end - start, 6)


def _split(decision: Decision) -> SplitPage | None:
    leg = decision.prefill
    if leg is None:
        return SplitPage(decision.split_reason) if decision.split_reason else None
    moved = leg.transfer_observed
    return SplitPage(
        reason=decision.split_reason,
        prefill=leg.name,
        phase=leg.phase.value,
        uncached_tokens=_rounded(leg.uncached_tokens),
        seconds=_rounded(leg.seconds),
        observed_seconds=between(leg.sent_at, leg.done_at),
        transfer_tokens=_rounded(leg.transfer_tokens),
        transfer_seconds=_rounded(leg.transfer_seconds),
        observed_transfer_seconds=None if moved is None else _rounded(moved[1]),
        why=leg.reason,
    )


def _candidate(receipt: Receipt, rank: int) -> Candidate:
    choice, standing = receipt.decision.choices[rank], receipt.standing(rank)
    views = None if receipt.decision.views is None else receipt.decision.views[rank]
    return Candidate(
        endpoint=choice.endpoint.name,
        score=choice.score,
        cached_tokens=choice.cached_tokens,
        views=None
        if views is None
        else Views(views.exact, views.reachable, views.predicted, views.approximate),
        queued_tokens=None if standing is None else standing.queued_tokens,
        requests=None if standing is None else standing.requests,
        decoding=None if standing is None else standing.decoding,
        trust=None if standing is None else standing.trust,
        predicted_ttft=choice.predicted_ttft,
        predicted_itl=None if standing is None else standing.predicted_itl,
        reason=choice.reason,
    )


def _comparison(receipt: Receipt, receipts: Receipts) -> Comparison:
    decision = receipt.decision
    regret = estimated_regret(decision)
    other = best_alternative(decision)
    ttft = itl = cached = None
    if not decision.attempt:
        chosen = decision.choices[0]
        ttft = _less(chosen.predicted_ttft, observed_ttft(decision))
        itl = _less(receipt.predicted_itl, observed_itl(decision))
        if not decision.split:  # who reads the KV reports it as cached
            cached = _less(chosen.cached_tokens, decision.reported_cached_tokens)
    return Comparison(
        ttft=ttft,
        itl=itl,
        cached_tokens=cached,
        regret=_rounded(regret),
        regret_against=None if regret is None or other is None else other.endpoint.name,
        surprising=receipts.surprising(receipt),
    )


def _less(predicted: float | None, observed: float | None) -> float | None:
    return None if predicted is None or observed is None else _rounded(predicted - observed)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
