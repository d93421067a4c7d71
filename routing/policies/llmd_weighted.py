"""llm-d's and the inference gateway's default: a weighted sum with an approximate index."""

from random import Random
from typing import ClassVar

from routing.endpoint import EndpointState
from routing.history import HISTORY_BYTES, SentPrompts
from routing.policies.policy import Choice, Slate
from routing.request import Request
from routing.scores import at_least, best_places, random_ties
from routing.weighted import ScoreWeights, kv_usage, waiting, weighted_scores


class LlmdWeighted:
    """The highest weighted sum of prefix match, short queue and free KV cache.

    The formula is that of `routing.weighted`; its prefix share comes from this policy's own
    record of what it sent where (an LRU of blocks for each endpoint), its queue and KV usage
    from the last scrape. Equal totals are shuffled. Score: minus the total.

    Parameters: weights (prefix 3, queue 2, kv 2); max_prefix_tokens (131,072), the part of a
    prompt that is matched, both for what is found and for what there is; default_cache_tokens
    (500,000), remembered of an endpoint that does not tell its cache size; history_bytes
    (64 MiB) for all; seed (0).

    Source: Gateway API Inference Extension (default weights since its PR 1827), as llm-d's
    scheduler runs it with ``approx-prefix-cache-producer`` (31,250 blocks of 16 tokens for
    each server, or the engine's own figures) and ``max-score-picker``. Releases before
    maxPrefixTokensToMatch matched 256 blocks at most; blocks here are larger, and a trailing
    part of a block is not hashed.
    """

    name: ClassVar[str] = "llmd_weighted"

    def __init__(
        self,
        weights: ScoreWeights | None = None,
        max_prefix_tokens: float = 131_072.0,
        default_cache_tokens: float = 500_000.0,
        history_bytes: int = HISTORY_BYTES,
        seed: int = 0,
    ) -> None:
        at_least("max_prefix_tokens", max_prefix_tokens, 1.0)
        at_least("default_cache_tokens", default_cache_tokens, 1.0)
        self._weights = weights or ScoreWeights()
        self._max_prefix_tokens = max_prefix_tokens
        self._default_cache_tokens = default_cache_tokens
        self._history = SentPrompts(history_bytes)
        self._random = Random(seed)

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """Rank by the weighted sum."""
        endpoints = slate.endpoints
        most = max(int(self._max_prefix_tokens / request.block_tokens), 1)
        blocks = 0
        for chain in request.chains:
            blocks += min(len(chain), most)
        matched = self._history.match(request, endpoints, most)
        per_block = 1.0 / max(blocks, 1)
        shares = [matched.get(state.name, 0) * per_block for state in endpoints]
        totals = weighted_scores(endpoints, shares, self._weights)
        scores = [-total for total in totals]
        ranked = best_places(scores, random_ties(self._random, len(scores)), count)
        first = endpoints[ranked[0]]
        self._history.sent(request, first, self._capacity(first, request))
        return [
            Choice(
                endpoint=(state := endpoints[place]),
                score=scores[place],
                cached_tokens=slate.cached_tokens(state),
                predicted_ttft=None,
                explanation="{:.3f}: {:.0%} of the prompt known, {:g} waiting, {:.0%} KV used",
                facts=(totals[place], shares[place], waiting(state), kv_usage(state)),
            )
            for place in ranked
        ]

    def _capacity(self, state: EndpointState, request: Request) -> int:
        known = state.cache_tokens
        tokens = self._default_cache_tokens if known is None else float(known)
        return int(tokens / request.block_tokens)
