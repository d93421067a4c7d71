"""What `/metrics` tells of predictions: how far they were off, and what choices may have cost.

Histograms are of the whole gateway, and errors that can have either sign are told apart by
direction, so that every sum is one that only grows. Of single endpoints there are gauges.
"""

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.admin.metrics import buckets
from routing.fleet import Fleet
from routing.prediction import PredictionErrors, SignedErrors
from routing.receipts import Receipts


class PredictionMetrics(Collector):
    """Errors of times and cached tokens, estimated regret, and trust in caches."""

    def __init__(self, receipts: Receipts, fleet: Fleet) -> None:
        self._receipts = receipts
        self._fleet = fleet

    def collect(self) -> Iterator[Metric]:
        """The families."""
        errors = self._receipts.errors
        yield _signed(
            "inferway_ttft_prediction_error_seconds",
            "Predicted minus observed time to first token, over or under.",
            errors.ttft,
        )
        yield _signed(
            "inferway_cached_prediction_error_tokens",
            "Predicted minus reported cached prompt tokens, over or under.",
            errors.cached_tokens,
        )
        family = HistogramMetricFamily(
            "inferway_ttft_regret_seconds",
            "Observed time to first token beyond the best predicted for another candidate.",
            labels=(),
        )
        family.add_metric((), buckets(errors.regret), errors.regret.sum)
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
            labels=("endpoint",),
        )
        for state in self._fleet:
            trust.add_metric((state.name,), state.trust.share)
        yield trust

    def _gauge(
        self, name: str, text: str, of: Callable[[PredictionErrors], float | None]
    ) -> Metric:
        family = GaugeMetricFamily(f"inferway_endpoint_{name}", text, labels=("endpoint",))
        for state in self._fleet:
            errors = self._receipts.by_endpoint.get(state.name)
            value = None if errors is None else of(errors)
            if value is not None:
                family.add_metric((state.name,), value)
        return family


def _signed(name: str, text: str, errors: SignedErrors) -> Metric:
    family = HistogramMetricFamily(name, text, labels=("direction",))
    family.add_metric(("over",), buckets(errors.over), errors.over.sum)
    family.add_metric(("under",), buckets(errors.under), errors.under.sum)
    return family
