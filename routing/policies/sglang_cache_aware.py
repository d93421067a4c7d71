"""SGLang's cache-aware policy: the longest match while loads are balanced."""

from typing import ClassVar

from routing.history import HISTORY_BYTES, SentPrompts
from routing.policies.policy import Choice, Slate
from routing.request import Request
from routing.scores import at_least, best_places, lead_with

_MAX_TREE_SIZE = 1 << 26  # characters for each worker
_CHARACTERS = 4.0  # in a token


class SglangCacheAware:
    """Shortest queue when loads are imbalanced, else the longest match if it is long enough.

        imbalanced:  max - min > balance_abs_threshold and max > balance_rel_threshold x min
        rate = matched / prompt tokens, by this policy's own record of what it sent where
        imbalanced -> fewest requests
        rate > cache_threshold -> the endpoint with the longest match
        else -> fewest requests

    Loads are requests in flight by our own ledger; of equal ones the first candidate is taken,
    of equal matches the one that was sent the prefix first. Score: requests in flight, with
    the choice in front of all. The fallbacks are the shortest queues.

    Parameters: cache_threshold (0.3), balance_abs_threshold (requests, 64),
    balance_rel_threshold (1.5), max_tree_tokens (tokens remembered of each endpoint,
    2^26 characters / 4) within history_bytes (64 MiB) for all.

    Source: SGLang's router, ``cache_aware`` (sgl-model-gateway/src/policies/cache_aware.rs at
    053b63f and tree.rs at 03744db); the defaults are those of its command line (router_args.py),
    where the library's own are 0.5, 32 and 1.1. Differences: its tree is of characters, ours
    of blocks, and a prompt without a whole block matches nothing; it forgets every 120 s what
    is beyond the limit, we at once; earlier versions took the smallest tree below the
    threshold, where this one takes the shortest queue; it takes the first healthy worker when
    the matched one is not, we look among those that can be chosen only.
    """

    name: ClassVar[str] = "sglang_cache_aware"

    def __init__(
        self,
        cache_threshold: float = 0.3,
        balance_abs_threshold: float = 64.0,
        balance_rel_threshold: float = 1.5,
        max_tree_tokens: float = _MAX_TREE_SIZE / _CHARACTERS,
        history_bytes: int = HISTORY_BYTES,
    ) -> None:
        at_least("cache_threshold", cache_threshold, 0.0)
        at_least("balance_abs_threshold", balance_abs_threshold, 0.0)
        at_least("balance_rel_threshold", balance_rel_threshold, 0.0)
        at_least("max_tree_tokens", max_tree_tokens, 1.0)
        self._cache_threshold = cache_threshold
        self._abs_threshold = balance_abs_threshold
        self._rel_threshold = balance_rel_threshold
        self._max_tree_tokens = max_tree_tokens
        self._history = SentPrompts(history_bytes)

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """Rank by load, after the choice of the rule."""
        endpoints = slate.endpoints
        loads = [float(state.ledger.requests) for state in endpoints]
        low, high = min(loads), max(loads)
        ranked = best_places(loads, range(len(loads)), count)
        matched = self._history.match(request, endpoints)
        why = "shortest queue: no long match"
        if high - low > self._abs_threshold and high > low * self._rel_threshold:
            why = "shortest queue: imbalanced"
        elif matched:
            name = max(matched, key=matched.__getitem__)  # of equal ones the first
            if self._rate(matched[name], slate) > self._cache_threshold:
                ranked = lead_with(slate.group.places[name], ranked, count)
                why = "longest match"
        capacity = int(self._max_tree_tokens / request.block_tokens)
        self._history.sent(request, endpoints[ranked[0]], capacity)
        return [
            Choice(
                endpoint=endpoints[place],
                score=loads[place],
                cached_tokens=slate.cached_tokens(endpoints[place]),
                predicted_ttft=None,
                explanation=(why if rank == 0 else "next shortest queue")
                + "; {:g} in flight, {:.0%} of the prompt matched",
                facts=(
                    loads[place],
                    self._rate(matched.get(endpoints[place].name, 0), slate),
                ),
            )
            for rank, place in enumerate(ranked)
        ]

    @staticmethod
    def _rate(blocks: int, slate: Slate) -> float:
        """Share of the prompt that the blocks are, 0..1."""
        if slate.prompt_tokens <= 0.0:
            return 0.0
        return min(blocks * slate.block_tokens / slate.prompt_tokens, 1.0)
