"""llm-d's scorers: each gives every candidate a number from 0 to 1, higher is better.

| scorer | formula | parameters (default) |
|---|---|---|
| queue | (most - q) / (most - fewest), 1 when all are equal; q: requests waiting | |
| running | the same over running requests | |
| kv_cache | 1 - share of the KV cache in use | |
| prefix | leading blocks believed to be held / blocks of the prompt | |
| lora | adapter running there 1; room for one more 0.8; waiting there 0.6; else 0 | |
| load_aware | 0.5 with an empty queue, else 0.5 x (1 - min(q, T) / T) | threshold T (128) |
| active | n <= idle: 1, else (most - n) / most x busiest; n: in flight | idle (0), busiest (1) |
| tokens | 1 - min(t, T) / T; t: tokens of all requests in flight | threshold T (4,194,304) |
| no_hit | cold prompts: 1 - rank / (N - 1), longest unused first; others: 0.5 for all | |

What engines report is that of the last scrape; what one does not report counts as 0, as in the
original, where metrics start from zero. Requests and tokens in flight are our ledger's.

Source: llm-d-inference-scheduler, ``pkg/epp/framework/plugins/scheduling/scorer``. ``prefix`` asks
our views, which are exact where engines publish their caches; the original keeps an approximate
record of its own, or follows the same events.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from routing.endpoint import EndpointState
from routing.prefix.match import Match
from routing.request import Request
from routing.scores import at_least, headroom, prompt_blocks
from routing.weighted import kv_usage, waiting

Endpoints: TypeAlias = Sequence[EndpointState]
Scorer: TypeAlias = Callable[[Request, Endpoints, Match], Sequence[float]]
"""The scores of the candidates by place; the match says who holds how much of the prompt."""


def queue(_request: Request, endpoints: Endpoints, _held: Match) -> Sequence[float]:
    """Short queues."""
    return headroom([waiting(state) for state in endpoints])


def running(_request: Request, endpoints: Endpoints, _held: Match) -> Sequence[float]:
    """Few running requests."""
    return headroom(
        [0.0 if state.load is None else state.load.running or 0.0 for state in endpoints]
    )


def kv_cache(_request: Request, endpoints: Endpoints, _held: Match) -> Sequence[float]:
    """Free KV cache."""
    return [1.0 - kv_usage(state) for state in endpoints]


def prefix(request: Request, endpoints: Endpoints, held: Match) -> Sequence[float]:
    """The prompt's beginning in the cache."""
    per_block = 1.0 / max(prompt_blocks(request), 1)
    return [held.blocks(state.name) * per_block for state in endpoints]


def lora(request: Request, endpoints: Endpoints, _held: Match) -> Sequence[float]:
    """The request's adapter loaded, or room for it."""
    return [_adapter_score(request.model, state) for state in endpoints]


def _adapter_score(model: str | None, state: EndpointState) -> float:
    load = state.load
    if load is None or load.max_adapters is None:
        return 0.0
    if model in load.adapters_running:
        return 1.0
    if len(load.adapters_running) + len(load.adapters_waiting) < load.max_adapters:
        return 0.8
    return 0.6 if model in load.adapters_waiting else 0.0


def load_aware(threshold: float = 128.0) -> Scorer:
    """Queues shorter than ``threshold`` requests."""
    at_least("threshold", threshold, 1.0)

    def score(_request: Request, endpoints: Endpoints, _held: Match) -> Sequence[float]:
        queues = [waiting(state) for state in endpoints]
        return [0.5 * (1.0 - min(size, threshold) / threshold) for size in queues]

    return score


def active(idle: float = 0.0, busiest: float = 1.0) -> Scorer:
    """Few requests of ours in flight."""
    at_least("idleThreshold", idle, 0.0)
    at_least("maxBusyScore", busiest, 0.0)

    def score(_request: Request, endpoints: Endpoints, _held: Match) -> Sequence[float]:
        counts = [float(state.ledger.requests) for state in endpoints]
        most = max(counts)
        return [
            1.0 if count <= idle else (most - count) / most * min(busiest, 1.0) for count in counts
        ]

    return score


def tokens(threshold: float = 4_194_304.0) -> Scorer:
    """Few tokens of ours in flight: prompts, and what is expected to be produced."""
    at_least("queueThresholdTokens", threshold, 1.0)

    def score(_request: Request, endpoints: Endpoints, _held: Match) -> Sequence[float]:
        return [
            1.0
            - min(state.ledger.context_tokens + state.ledger.output_tokens, threshold) / threshold
            for state in endpoints
        ]

    return score


class NoHit:
    """Cold prompts go where one went longest ago; keeps the order of the latest ``size``."""

    def __init__(self, size: int = 1_024) -> None:
        at_least("lruSize", size, 1.0)
        self._size = size
        self._used: dict[str, None] = {}  # least recently used first

    def __call__(self, _request: Request, endpoints: Endpoints, held: Match) -> Sequence[float]:
        """The scores."""
        if any(held.blocks(state.name) for state in endpoints) or len(endpoints) == 1:
            return [0.5] * len(endpoints)
        order = {name: place for place, name in enumerate(self._used)}
        ages = sorted(range(len(endpoints)), key=lambda at: order.get(endpoints[at].name, -1))
        scores = [0.0] * len(endpoints)
        for rank, place in enumerate(ages):
            scores[place] = 1.0 - rank / (len(endpoints) - 1)
        return scores

    def chosen(self, name: str, *, cold: bool) -> None:
        """A prompt went there."""
        if cold:
            self._used.pop(name, None)
            self._used[name] = None
            if len(self._used) > self._size:
                del self._used[next(iter(self._used))]
