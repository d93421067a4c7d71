"""What `/metrics` tells of predictions: how far they were off, and what choices may have cost.

Histograms are of a whole pool, and errors that can have either sign are told apart by
direction, so that every sum is one that only grows. Of single endpoints there are gauges.
"""

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.admin.families import buckets
from gateway.brains import Brains
from routing.prediction import PredictionErrors, SignedErrors
from routing.receipts import Receipts


class PredictionMetrics(Collector):
    """Errors of times and cached tokens, estimated regret, and trust in caches."""

    def __init__(self, brains: Brains) -> None:
        self._brains = brains

    def collect(self) -> Iterator[Metric]:
        """The families."""
        yield self._signed(
            "inferway_ttft_prediction_error_seconds",
            "Predicted minus observed time to first token, over or under.",
            lambda errors: errors.ttft,
        )
        yield self._signed(
            "inferway_cached_prediction_error_tokens",
            "Predicted minus reported cached prompt tokens, over or under.",
            lambda errors: errors.cached_tokens,
        )
        family = HistogramMetricFamily(
            "inferway_ttft_regret_seconds",
            "Observed time to first token beyond the best predicted for another candidate.",
            labels=("pool",),
        )
        for pool, receipts in self._receipts():
            regret = receipts.errors.regret
            family.add_metric((pool,), buckets(regret), regret.sum)
        yield family
        yield self._gauge(
            "ttft_relative_error",
            "Mean absolute error of predicted times to first token, relative, of late.",
            lambda errors: errors.ttft_error.known,
        )
        yield self._gauge(
            "itl_relative_error",
            "Mean absolute error of predicted times between tokens, relative, of late.",
            lambda errors: errors.itl_error.known,
        )
        trust = GaugeMetricFamily(
            "inferway_endpoint_cache_trust",
            "What predictions about its cache are multiplied by, 0 to 1.",
            labels=("endpoint", "pool"),
        )
        for pool, router in self._brains:
            for state in router.fleet:
                trust.add_metric((state.name, pool), state.trust.share)
        yield trust

    def _gauge(
        self, name: str, text: str, of: Callable[[PredictionErrors], float | None]
    ) -> Metric:
        labels = ("endpoint", "pool")
        family = GaugeMetricFamily(f"inferway_endpoint_{name}", text, labels=labels)
        for pool, receipts in self._receipts():
            for endpoint, errors in receipts.by_endpoint.items():
                value = of(errors)
                if value is not None:
                    family.add_metric((endpoint, pool), value)
        return family

    def _signed(
        self, name: str, text: str, of: Callable[[PredictionErrors], SignedErrors]
    ) -> Metric:
        family = HistogramMetricFamily(name, text, labels=("direction", "pool"))
        for pool, receipts in self._receipts():
            errors = of(receipts.errors)
            family.add_metric(("over", pool), buckets(errors.over), errors.over.sum)
            family.add_metric(("under", pool), buckets(errors.under), errors.under.sum)
        return family

    def _receipts(self) -> Iterator[tuple[str, Receipts]]:
        """Of the pools that keep any."""
        for pool, router in self._brains:
            if router.receipts is not None:
                yield pool, router.receipts
