"""What `/metrics` tells: the books of telemetry, brain and fleet as Prometheus families.

Nothing is kept here: each family is made when asked for, from plain numbers that the hot path
keeps anyway. docs/metrics.md has one line for each metric.
"""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.admin.families import buckets, by_reason
from gateway.admin.splitmetrics import split_requests
from gateway.brains import Brains
from gateway.telemetry import (
    CachedTokens,
    Histogram,
    ModelTelemetry,
    Telemetry,
)
from routing.prefix.index import PrefixIndex


class RequestMetrics(Collector):
    """What became of requests, apart by model."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def collect(self) -> Iterator[Metric]:
        """The families; each is complete when it is given."""
        telemetry = self._telemetry
        yield self._requests()
        yield by_reason(
            "inferway_errors", "Requests that did not go well, by reason.", telemetry.errors
        )
        yield by_reason(
            "inferway_retries", "Failed attempts that another one followed.", telemetry.retries
        )
        yield GaugeMetricFamily(
            "inferway_in_flight_requests",
            "Requests that clients wait for now.",
            value=telemetry.in_flight,
        )
        yield self._histogram(
            "inferway_time_to_first_token_seconds",
            "From a streamed request's first byte to the first piece of its answer.",
            lambda model: model.first_token_seconds,
        )
        yield self._histogram(
            "inferway_inter_token_seconds",
            "Mean time between a request's stream events, one value a request.",
            lambda model: model.inter_token_seconds,
        )
        yield self._histogram(
            "inferway_request_seconds",
            "Whole duration of the requests that an endpoint answered well.",
            lambda model: model.request_seconds,
        )
        yield self._decisions()
        yield self._tokens(
            "inferway_prompt_tokens",
            "Prompt tokens, as engines reported them.",
            lambda model: model.prompt_tokens,
        )
        yield self._tokens(
            "inferway_completion_tokens",
            "Produced tokens, as engines reported them.",
            lambda model: model.completion_tokens,
        )
        yield self._by_source(
            "inferway_prefix_cached_tokens",
            "Prompt tokens that were in the endpoint's cache, as the source has it.",
            lambda tokens: tokens.cached,
        )
        yield self._by_source(
            "inferway_prefix_queried_tokens",
            "Prompt tokens of the requests that the source said something about.",
            lambda tokens: tokens.queried,
        )
        yield self._hit_ratio()
        if telemetry.splits.requests:
            yield from split_requests(telemetry.splits)

    def _requests(self) -> Metric:
        family = CounterMetricFamily(
            "inferway_requests", "Finished requests.", labels=("api", "model", "status")
        )
        for name, model in self._telemetry.models.items():
            for (api, status), count in model.requests.items():
                family.add_metric((api, name, str(status)), count)
        return family

    def _histogram(self, name: str, text: str, of: Callable[[ModelTelemetry], Histogram]) -> Metric:
        family = HistogramMetricFamily(name, text, labels=("model",))
        for label, model in self._telemetry.models.items():
            histogram = of(model)
            if any(histogram.counts):
                family.add_metric((label,), buckets(histogram), histogram.sum)
        return family

    def _decisions(self) -> Metric:
        histogram = self._telemetry.decision_seconds
        family = HistogramMetricFamily(
            "inferway_decision_seconds", "What choosing an endpoint took.", labels=()
        )
        family.add_metric((), buckets(histogram), histogram.sum)
        return family

    def _tokens(self, name: str, text: str, of: Callable[[ModelTelemetry], int]) -> Metric:
        family = CounterMetricFamily(name, text, labels=("model",))
        for label, model in self._telemetry.models.items():
            family.add_metric((label,), of(model))
        return family

    def _by_source(self, name: str, text: str, of: Callable[[CachedTokens], float]) -> Metric:
        family = CounterMetricFamily(name, text, labels=("model", "source"))
        for label, model in self._telemetry.models.items():
            family.add_metric((label, "predicted"), of(model.predicted))
            family.add_metric((label, "reported"), of(model.reported))
        return family

    def _hit_ratio(self) -> Metric:
        family = GaugeMetricFamily(
            "inferway_prefix_hit_ratio",
            "Share of prompt tokens that were cached, since the start; absent without any.",
            labels=("source",),
        )
        models = self._telemetry.models.values()
        _add_ratio(family, "predicted", [model.predicted for model in models])
        _add_ratio(family, "reported", [model.reported for model in models])
        return family


class PrefixMetrics(Collector):
    """The size of each pool's prefix index."""

    def __init__(self, brains: Brains) -> None:
        self._brains = brains

    def collect(self) -> Iterator[Metric]:
        """The families."""
        yield self._gauge("bytes", "Memory of the prefix index.", _bytes_used)
        yield self._gauge("blocks", "Distinct blocks in the index.", len)
        yield self._gauge("budget_bytes", "What the index may use.", _byte_budget)

    def _gauge(self, name: str, text: str, of: Callable[[PrefixIndex], int]) -> Metric:
        family = GaugeMetricFamily(f"inferway_prefix_index_{name}", text, labels=("pool",))
        for pool, router in self._brains:
            family.add_metric((pool,), of(router.prefix))
        return family


def _bytes_used(prefix: PrefixIndex) -> int:
    return prefix.bytes_used


def _byte_budget(prefix: PrefixIndex) -> int:
    return prefix.byte_budget


class RetryMetrics(Collector):
    """What each pool's retry budget allowed and denied."""

    def __init__(self, brains: Brains) -> None:
        self._brains = brains

    def collect(self) -> Iterator[Metric]:
        """The families."""
        family = CounterMetricFamily(
            "inferway_retry_budget",
            "Retries that the budget was asked for.",
            labels=("answer", "pool"),
        )
        for pool, router in self._brains:
            family.add_metric(("allowed", pool), router.retries.allowed)
            family.add_metric(("denied", pool), router.retries.denied)
        yield family


class CertificateMetrics(Collector):
    """When the certificate that clients are shown ends."""

    def __init__(self, not_after: Callable[[], float | None]) -> None:
        self._not_after = not_after

    def collect(self) -> Iterator[Metric]:
        """The family; without a sample when clients connect without TLS."""
        family = GaugeMetricFamily(
            "inferway_tls_not_after_seconds", "End of the certificate, in Unix time."
        )
        end = self._not_after()
        if end is not None:
            family.add_metric((), end)
        yield family


def _add_ratio(family: GaugeMetricFamily, source: str, tokens: Iterable[CachedTokens]) -> None:
    cached = queried = 0.0
    for share in tokens:
        cached += share.cached
        queried += share.queried
    if queried:
        family.add_metric((source,), cached / queried)
