"""AIBrix's prefix-cache policy: the longest match that is not busier than usual."""

from random import Random
from typing import ClassVar

from routing.history import HISTORY_BYTES, SentPrompts
from routing.policies.policy import Choice, Slate
from routing.request import Request
from routing.scores import (
    at_least,
    best_places,
    lead_with,
    mean_and_deviation,
    prompt_blocks,
    random_ties,
)

_BLOCK_CHARACTERS = 128
_CHARACTERS = 4.0  # in a token


class AibrixPrefix:
    """Longest match within the usual load, else the fewest requests.

        gate:  max - min > imbalance_gap and max > imbalance_factor x (mean + 1)
        with the gate only endpoints with min requests may match, else all may
        match %: matched blocks x 100 / blocks, by this policy's own record, rounded down
        in order of match % (then fewest requests, then chance) the first one with
            requests <= mean + deviation_factor x standard deviation
        without one -> fewest requests, of equal ones any

    Requests are those in flight by our own ledger. Score: requests in flight, with the choice
    in front of all. The fallbacks are the fewest requests.

    Parameters: imbalance_gap (requests, 8); imbalance_factor (0: the gap alone decides);
    deviation_factor (1); max_tokens (tokens remembered of all endpoints together, 200,000
    blocks of 128 characters) within history_bytes (64 MiB); seed (0).

    Source: AIBrix, ``prefix-cache`` (pkg/plugins/gateway/algorithms/prefix_cache.go at
    01de8a5) with the defaults of its README. The gap alone is the rule of releases up to
    0.7; its main branch since then has factor 2 and a gap of 8 or more (imbalance_gap 7
    here). Differences: blocks of 256 bytes; AIBrix also forgets what was not used for
    20 minutes, and its limit of blocks is shared, where here each endpoint has its part.
    """

    name: ClassVar[str] = "aibrix_prefix"

    def __init__(
        self,
        imbalance_gap: float = 8.0,
        imbalance_factor: float = 0.0,
        deviation_factor: float = 1.0,
        max_tokens: float = 200_000 * _BLOCK_CHARACTERS / _CHARACTERS,
        history_bytes: int = HISTORY_BYTES,
        seed: int = 0,
    ) -> None:
        at_least("imbalance_gap", imbalance_gap, 0.0)
        at_least("imbalance_factor", imbalance_factor, 0.0)
        at_least("deviation_factor", deviation_factor, 0.0)
        at_least("max_tokens", max_tokens, 1.0)
        self._imbalance_gap = imbalance_gap
        self._imbalance_factor = imbalance_factor
        self._deviation_factor = deviation_factor
        self._max_tokens = max_tokens
        self._history = SentPrompts(history_bytes)
        self._random = Random(seed)

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """Rank by requests in flight, after the choice of the rule."""
        endpoints = slate.endpoints
        loads = [float(state.ledger.requests) for state in endpoints]
        mean, deviation = mean_and_deviation(loads)
        low, high = min(loads), max(loads)
        gated = high - low > self._imbalance_gap and high > self._imbalance_factor * (mean + 1.0)
        limit = mean + self._deviation_factor * deviation
        ties = random_ties(self._random, len(loads))
        ranked = best_places(loads, ties, count)
        matched = self._history.match(request, endpoints)
        blocks = max(prompt_blocks(request), 1)
        best: tuple[int, float, float, int] | None = None
        for name, held in matched.items():
            place = slate.group.places[name]
            percent = held * 100 // blocks
            if percent == 0 or loads[place] > limit or (gated and loads[place] > low):
                continue
            key = (-percent, loads[place], ties[place], place)
            if best is None or key < best:
                best = key
        why = "fewest requests"
        if best is not None:
            ranked = lead_with(best[3], ranked, count)
            why = "longest match within the usual load"
        first = endpoints[ranked[0]]
        capacity = int(self._max_tokens / request.block_tokens / len(endpoints))
        self._history.sent(request, first, capacity)
        return [
            Choice(
                endpoint=endpoints[place],
                score=loads[place],
                cached_tokens=slate.cached_tokens(endpoints[place]),
                predicted_ttft=None,
                explanation=(why if rank == 0 else "next fewest requests")
                + ": {:g} in flight, at most {:.1f} usual, {}% matched",
                facts=(
                    loads[place],
                    limit,
                    matched.get(endpoints[place].name, 0) * 100 // blocks,
                ),
            )
            for rank, place in enumerate(ranked)
        ]
