"""Decisions that went as a test says, and their receipts."""

from collections.abc import Sequence

from routing.decision import Decision, FailedAttempt, Phase
from routing.policies.policy import Choice
from routing.receipts import Receipts
from routing.request import Request
from tests.support.slates import endpoints


def decided(
    name: str = "r",
    at: float = 0.0,
    ttfts: Sequence[float | None] = (0.5, 0.6),
    *,
    cached: float = 100.0,
    streamed: bool = True,
) -> Decision:
    """A decision among endpoints e0, e1, ... with these predicted times to first token."""
    choices = [
        Choice(state, float(rank), cached, ttft, "number {}", (rank,))
        for rank, (state, ttft) in enumerate(zip(endpoints(len(ttfts)), ttfts, strict=True))
    ]
    request = Request(name, "m", prompt_tokens=1_000.0, streamed=streamed)
    return Decision(request, "test", at, choices, 1_000.0, 20)


def answered(decision: Decision, ttft: float = 0.5, seconds: float = 1.0, tokens: int = 11) -> None:
    """It was sent at once, its first token came after ``ttft``, the last ``seconds`` later."""
    decision.sent_at = decision.at
    decision.first_token_at = decision.at + ttft
    decision.finished_at = decision.first_token_at + seconds
    decision.reported_completion_tokens = tokens
    assert decision.enter(Phase.DONE)


def failed(decision: Decision, reason: str = "upstream_closed", after: float = 0.1) -> None:
    """The current attempt failed."""
    decision.finished_at = decision.at + after
    decision.attempts.append(
        FailedAttempt(decision.endpoint.name, decision.finished_at, reason, False)
    )
    assert decision.enter(Phase.FAILED)


def retried(decision: Decision) -> None:
    """Another attempt at the next choice."""
    assert decision.enter(Phase.ROUTED)
    decision.attempt += 1
    decision.finished_at = None


def over(receipts: Receipts, decision: Decision, ttft: float = 0.5) -> Decision:
    """Routed, answered after ``ttft``, and told to the receipts."""
    receipts.routed(decision, decision.at)
    answered(decision, ttft)
    receipts.observe(decision)
    return decision
