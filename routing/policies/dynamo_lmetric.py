"""LMetric: prefill tokens times requests."""

from random import Random
from typing import ClassVar

from routing.policies.policy import Choice, Slate
from routing.request import Request
from routing.scores import best_places, random_ties


class DynamoLmetric:
    """The lowest product of what there would be to prefill and how many would run.

        cost = (queued + own) x (requests + 1)

    - queued: uncached tokens in prefill there, by our own ledger, until their first token;
    - own: our prompt tokens that are not cached there;
    - requests: in flight there, by our own ledger.

    Of equal costs the fewest requests, then chance. Parameters: queued (True); False leaves
    the queued tokens out; seed (0).

    Source: Zhang et al., "LMetric: Simple is better - multiplication may be all you need for
    LLM request scheduling" (2026); the form with queued tokens is the paper's and AIBrix's
    ``l-metric-local`` (at 2519ad5, where tokens stay until a request ends). The formula
    ``lmetric`` in a version of NVIDIA Dynamo's worker selector, and ``lmetric`` in SGLang's
    router (at acaa759), have new tokens x (active requests + 1) only.
    """

    name: ClassVar[str] = "dynamo_lmetric"

    def __init__(self, queued: bool = True, seed: int = 0) -> None:
        self._queued = queued
        self._random = Random(seed)

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """Rank by the product."""
        endpoints, prompt = slate.endpoints, slate.prompt_tokens
        ties = random_ties(self._random, len(endpoints))
        tokens: list[float] = []
        costs: list[float] = []
        for place, state in enumerate(endpoints):
            ledger = state.ledger
            ledger.advance(now)
            new = prompt - slate.cached_tokens(state)
            if self._queued:
                new += ledger.prefill_tokens
            tokens.append(new)
            costs.append(new * (ledger.requests + 1))
            ties[place] += ledger.requests
        return [
            Choice(
                endpoint=(state := endpoints[place]),
                score=costs[place],
                cached_tokens=slate.cached_tokens(state),
                predicted_ttft=None,
                explanation="{:.0f} = {:.0f} tokens to prefill x {} requests with ours",
                facts=(costs[place], tokens[place], state.ledger.requests + 1),
            )
            for place in best_places(costs, ties, count)
        ]
