"""The weighted sum of the Kubernetes inference gateway: prefix, queue and KV cache.

    total = w_prefix x share + w_queue x queue + w_kv x kv

- share: blocks of the prompt believed to be cached there / all blocks, 0..1;
- queue: (most - waiting) / (most - fewest) over the candidates, 1 when all are equal;
- kv: 1 - share of the KV cache in use.

Waiting requests and KV usage are those of the last scrape, however old; what an engine does
not report counts as 0, as in the original, where metrics start from zero.

Source: Gateway API Inference Extension, ``queue-scorer``, ``kv-cache-utilization-scorer`` and
``prefix-cache-scorer``, and its default configuration without a file (weights 2, 2 and 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from routing.endpoint import EndpointState
from routing.scores import at_least, headroom


@dataclass(frozen=True, slots=True)
class ScoreWeights:
    """What each score counts; they are not normalised."""

    prefix: float = 3.0
    queue: float = 2.0
    kv: float = 2.0

    def __post_init__(self) -> None:
        at_least("prefix weight", self.prefix, 0.0)
        at_least("queue weight", self.queue, 0.0)
        at_least("kv weight", self.kv, 0.0)


def waiting(state: EndpointState) -> float:
    """Requests waiting at the last scrape; 0 when unknown."""
    return 0.0 if state.load is None else state.load.waiting or 0.0


def kv_usage(state: EndpointState) -> float:
    """Share of the KV cache in use at the last scrape, 0..1; 0 when unknown."""
    return 0.0 if state.load is None else state.load.kv_usage or 0.0


def weighted_scores(
    endpoints: Sequence[EndpointState], shares: Sequence[float], weights: ScoreWeights
) -> list[float]:
    """The total of each endpoint, higher is better; ``shares`` by place, cut to 0..1."""
    queues = headroom([waiting(state) for state in endpoints])
    return [
        weights.prefix * min(max(share, 0.0), 1.0)
        + weights.queue * queue
        + weights.kv * min(max(1.0 - kv_usage(state), 0.0), 1.0)
        for state, share, queue in zip(endpoints, shares, queues, strict=True)
    ]
