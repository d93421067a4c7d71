"""Shapes that several metric families share."""

from typing import Protocol

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric


def by_reason(name: str, text: str, counts: dict[str, int]) -> Metric:
    """A counter for each reason."""
    family = CounterMetricFamily(name, text, labels=("reason",))
    for reason, count in counts.items():
        family.add_metric((reason,), count)
    return family


class Counted(Protocol):
    """A histogram: upper bounds, and the count of each bucket alone, the last without bound."""

    bounds: tuple[float, ...]
    counts: list[int]


def buckets(histogram: Counted) -> list[tuple[str, float]]:
    """The cumulative counts that Prometheus wants, by upper bound as text."""
    total = 0
    cumulative: list[tuple[str, float]] = []
    bounds = (*map(str, histogram.bounds), "+Inf")
    for bound, count in zip(bounds, histogram.counts, strict=True):
        total += count
        cumulative.append((bound, total))
    return cumulative
