"""What `/metrics` tells: the books of telemetry, brain and fleet as Prometheus families.

Nothing is kept here: each family is made when asked for, from plain numbers that the hot path
keeps anyway. docs/metrics.md has one line for each metric.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.telemetry import (
    CachedTokens,
    EndpointTelemetry,
    Histogram,
    ModelTelemetry,
    SplitTelemetry,
    Telemetry,
)
from routing.breaker import Circuit
from routing.fleet import EndpointState, Fleet, Health
from routing.prefix.index import PrefixIndex
from routing.retries import RetryBudget
from routing.router import Router

_UNTOUCHED = EndpointTelemetry()


class RequestMetrics(Collector):
    """What became of requests, apart by model."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def collect(self) -> Iterator[Metric]:
        """The families; each is complete when it is given."""
        telemetry = self._telemetry
        yield self._requests()
        yield _by_reason(
            "inferway_errors", "Requests that did not go well, by reason.", telemetry.errors
        )
        yield _by_reason(
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
            yield from _splits(telemetry.splits)

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


def _splits(splits: SplitTelemetry) -> Iterator[Metric]:
    """What became of requests whose prompt another endpoint was to compute."""
    family = CounterMetricFamily(
        "inferway_split_requests",
        "Finished requests in two legs, by connector.",
        labels=("connector",),
    )
    for connector, count in splits.requests.items():
        family.add_metric((connector,), count)
    yield family
    yield _by_reason("inferway_prefill_failures", "Prefill legs that failed.", splits.failures)
    yield _by_reason(
        "inferway_prefill_fallbacks",
        "Split requests whose decode endpoint computed the prompt after all.",
        splits.fallbacks,
    )
    for name, text, histogram in (
        ("prefill_leg", "From sending a prefill leg to its answer.", splits.prefill_seconds),
        ("kv_transfer", "Moving a KV cache, as first tokens show it.", splits.transfer_seconds),
    ):
        seconds = HistogramMetricFamily(f"inferway_{name}_seconds", text, labels=())
        seconds.add_metric((), buckets(histogram), histogram.sum)
        yield seconds
    yield CounterMetricFamily(
        "inferway_kv_transfer_bytes", "KV caches moved, as expected.", value=splits.transfer_bytes
    )
    yield CounterMetricFamily(
        "inferway_kv_stranded_tokens",
        "Prompt tokens whose KV was left pinned for nobody.",
        value=splits.stranded_tokens,
    )


class SplitMetrics(Collector):
    """What was decided about splitting requests; nothing where no endpoint computes for others."""

    def __init__(self, router: Router, now: Callable[[], float]) -> None:
        self._router = router
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """The families."""
        router = self._router
        decisions = router.disaggregation.decisions
        if not decisions:
            return
        yield _by_reason(
            "inferway_split_decisions", "Requests by why they were split or not.", decisions
        )
        links = router.disaggregation.links
        for name, text, value in (
            (
                "inferway_kv_transfers",
                "KV transfers whose time was seen or inferred.",
                links.transfers,
            ),
            (
                "inferway_kv_transfers_predicted_seconds",
                "What these were predicted to take.",
                links.predicted,
            ),
            (
                "inferway_kv_transfers_observed_seconds",
                "What these took.",
                links.seconds,
            ),
            ("inferway_kv_transfers_bytes", "What these moved.", links.bytes),
        ):
            yield CounterMetricFamily(name, text, value=value)
        yield GaugeMetricFamily(
            "inferway_kv_stranded_now_tokens",
            "Prompt tokens whose KV lies pinned for nobody now.",
            value=router.prefilling.stranded_now(self._now()),
        )


class PrefixMetrics(Collector):
    """The size of the prefix index."""

    def __init__(self, prefix: PrefixIndex) -> None:
        self._prefix = prefix

    def collect(self) -> Iterator[Metric]:
        """The families."""
        prefix = self._prefix
        yield GaugeMetricFamily(
            "inferway_prefix_index_bytes", "Memory of the prefix index.", value=prefix.bytes_used
        )
        yield GaugeMetricFamily(
            "inferway_prefix_index_blocks", "Distinct blocks in the index.", value=len(prefix)
        )
        yield GaugeMetricFamily(
            "inferway_prefix_index_budget_bytes",
            "What the index may use.",
            value=prefix.byte_budget,
        )


_CIRCUIT = {Circuit.CLOSED: 0.0, Circuit.HALF_OPEN: 1.0, Circuit.OPEN: 2.0}


class RetryMetrics(Collector):
    """What the retry budget allowed and denied."""

    def __init__(self, budget: RetryBudget) -> None:
        self._budget = budget

    def collect(self) -> Iterator[Metric]:
        """The families."""
        family = CounterMetricFamily(
            "inferway_retry_budget",
            "Retries that the budget was asked for.",
            labels=("answer",),
        )
        family.add_metric(("allowed",), self._budget.allowed)
        family.add_metric(("denied",), self._budget.denied)
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


class EndpointMetrics(Collector):
    """What the brain knows about each endpoint; what an engine does not tell is absent."""

    def __init__(
        self,
        fleet: Fleet,
        prefix: PrefixIndex,
        telemetry: Telemetry,
        now: Callable[[], float],
    ) -> None:
        self._fleet = fleet
        self._prefix = prefix
        self._telemetry = telemetry
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """The families; each is complete when it is given, so the fleet may change between."""
        for name, text, value in self._gauges():
            family = GaugeMetricFamily(f"inferway_endpoint_{name}", text, labels=("endpoint",))
            for state in self._fleet:
                measured = value(state)
                if measured is not None:
                    family.add_metric((state.name,), measured)
            yield family
        yield self._counter(
            "requests", "Finished requests that it was the last to be sent.", _requests
        )
        yield self._counter(
            "failures", "Attempts that failed there, also those made good elsewhere.", _failures
        )

    def _gauges(self) -> tuple[tuple[str, str, Callable[[EndpointState], float | None]], ...]:
        now, prefix = self._now, self._prefix
        return (
            (
                "healthy",
                "1 when health checks find it well, 0 when not.",
                lambda state: float(state.health is Health.HEALTHY),
            ),
            (
                "breaker_state",
                "0 closed (requests flow), 1 half open (one tries), 2 open (none do).",
                lambda state: _CIRCUIT[state.breaker.circuit],
            ),
            (
                "in_flight_requests",
                "Requests of this gateway there now.",
                lambda state: state.ledger.requests,
            ),
            (
                "queued_prefill_tokens",
                "Uncached prompt tokens sent there and believed not to be computed yet.",
                lambda state: state.ledger.queued_prefill_tokens(now(), state.timing.prefill_rate),
            ),
            (
                "running",
                "Requests that the engine says it runs, whoever sent them.",
                lambda state: state.load.running if state.load else None,
            ),
            (
                "waiting",
                "Requests that the engine says are queued.",
                lambda state: state.load.waiting if state.load else None,
            ),
            (
                "kv_usage",
                "Share of the KV cache that live requests hold, 0 to 1.",
                lambda state: state.load.kv_usage if state.load else None,
            ),
            (
                "load_age_seconds",
                "Age of the engine's own numbers.",
                lambda state: state.load.age(now()) if state.load else None,
            ),
            (
                "prefill_tokens_per_second",
                "Prefill speed, as learned.",
                lambda state: state.timing.prefill_rate,
            ),
            (
                "prefix_blocks",
                "Blocks that the index believes to be in its cache.",
                lambda state: prefix.blocks(state.name),
            ),
        )

    def _counter(self, name: str, text: str, of: Callable[[EndpointTelemetry], int]) -> Metric:
        family = CounterMetricFamily(f"inferway_endpoint_{name}", text, labels=("endpoint",))
        for state in self._fleet:
            family.add_metric(
                (state.name,), of(self._telemetry.endpoints.get(state.name, _UNTOUCHED))
            )
        return family


def _requests(endpoint: EndpointTelemetry) -> int:
    return endpoint.requests


def _failures(endpoint: EndpointTelemetry) -> int:
    return endpoint.failures


def _by_reason(name: str, text: str, counts: dict[str, int]) -> Metric:
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


def _add_ratio(family: GaugeMetricFamily, source: str, tokens: Iterable[CachedTokens]) -> None:
    cached = queried = 0.0
    for share in tokens:
        cached += share.cached
        queried += share.queried
    if queried:
        family.add_metric((source,), cached / queried)
