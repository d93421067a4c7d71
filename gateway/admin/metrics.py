"""What `/metrics` tells: the books of telemetry, brain and fleet as Prometheus families.

Nothing is kept here: each family is made when asked for, from plain numbers that the hot path
keeps anyway. docs/metrics.md has one line for each metric.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.brains import Brains
from gateway.telemetry import (
    CachedTokens,
    EndpointTelemetry,
    Histogram,
    ModelTelemetry,
    SplitTelemetry,
    Telemetry,
)
from routing.breaker import Circuit
from routing.fleet import EndpointState, Health
from routing.prefix.index import PrefixIndex
from routing.router import Router
from routing.transfer import Links

_ENDPOINT = ("endpoint", "pool")
Reading: TypeAlias = Callable[[Router, EndpointState], float | None]
"""What is told of an endpoint; None: not known, so not told."""
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


_TRANSFERS: tuple[tuple[str, str, Callable[[Links], float]], ...] = (
    (
        "inferway_kv_transfers",
        "KV transfers whose time was seen or inferred.",
        lambda links: links.transfers,
    ),
    (
        "inferway_kv_transfers_predicted_seconds",
        "What these were predicted to take.",
        lambda links: links.predicted,
    ),
    ("inferway_kv_transfers_observed_seconds", "What these took.", lambda links: links.seconds),
    ("inferway_kv_transfers_bytes", "What these moved.", lambda links: links.bytes),
)


class SplitMetrics(Collector):
    """What was decided about splitting requests; nothing where no endpoint computes for others."""

    def __init__(self, brains: Brains, now: Callable[[], float]) -> None:
        self._brains = brains
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """The families, with a value for each pool that has such endpoints."""
        pools = [(pool, router) for pool, router in self._brains if router.disaggregation.decisions]
        if not pools:
            return
        decisions = CounterMetricFamily(
            "inferway_split_decisions",
            "Requests by why they were split or not.",
            labels=("reason", "pool"),
        )
        stranded = GaugeMetricFamily(
            "inferway_kv_stranded_now_tokens",
            "Prompt tokens whose KV lies pinned for nobody now.",
            labels=("pool",),
        )
        for pool, router in pools:
            for reason, count in router.disaggregation.decisions.items():
                decisions.add_metric((reason, pool), count)
            stranded.add_metric((pool,), router.prefilling.stranded_now(self._now()))
        yield decisions
        yield stranded
        for name, text, of in _TRANSFERS:
            family = CounterMetricFamily(name, text, labels=("pool",))
            for pool, router in pools:
                family.add_metric((pool,), of(router.disaggregation.links))
            yield family


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


_CIRCUIT = {Circuit.CLOSED: 0.0, Circuit.HALF_OPEN: 1.0, Circuit.OPEN: 2.0}


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


class EndpointMetrics(Collector):
    """What the brain knows about each endpoint; what an engine does not tell is absent."""

    def __init__(
        self,
        brains: Brains,
        telemetry: Telemetry,
        now: Callable[[], float],
    ) -> None:
        self._brains = brains
        self._telemetry = telemetry
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """The families; each is complete when it is given, so the fleet may change between."""
        for name, text, value in self._gauges():
            family = GaugeMetricFamily(f"inferway_endpoint_{name}", text, labels=_ENDPOINT)
            for pool, router in self._brains:
                for state in router.fleet:
                    measured = value(router, state)
                    if measured is not None:
                        family.add_metric((state.name, pool), measured)
            yield family
        yield self._counter(
            "requests", "Finished requests that it was the last to be sent.", _requests
        )
        yield self._counter(
            "failures", "Attempts that failed there, also those made good elsewhere.", _failures
        )

    def _gauges(
        self,
    ) -> tuple[tuple[str, str, Callable[[Router, EndpointState], float | None]], ...]:
        now = self._now
        return (
            (
                "healthy",
                "1 when health checks find it well, 0 when not.",
                lambda _, state: float(state.health is Health.HEALTHY),
            ),
            (
                "breaker_state",
                "0 closed (requests flow), 1 half open (one tries), 2 open (none do).",
                lambda _, state: _CIRCUIT[state.breaker.circuit],
            ),
            (
                "in_flight_requests",
                "Requests of this gateway there now.",
                lambda _, state: state.ledger.requests,
            ),
            (
                "queued_prefill_tokens",
                "Uncached prompt tokens sent there and believed not to be computed yet.",
                lambda _, state: state.ledger.queued_prefill_tokens(
                    now(), state.timing.prefill_rate
                ),
            ),
            (
                "running",
                "Requests that the engine says it runs, whoever sent them.",
                lambda _, state: state.load.running if state.load else None,
            ),
            (
                "waiting",
                "Requests that the engine says are queued.",
                lambda _, state: state.load.waiting if state.load else None,
            ),
            (
                "kv_usage",
                "Share of the KV cache that live requests hold, 0 to 1.",
                lambda _, state: state.load.kv_usage if state.load else None,
            ),
            (
                "load_age_seconds",
                "Age of the engine's own numbers.",
                lambda _, state: state.load.age(now()) if state.load else None,
            ),
            (
                "prefill_tokens_per_second",
                "Prefill speed, as learned.",
                lambda _, state: state.timing.prefill_rate,
            ),
            (
                "prefix_blocks",
                "Blocks that the index believes to be in its cache.",
                lambda router, state: router.prefix.blocks(state.name),
            ),
        )

    def _counter(self, name: str, text: str, of: Callable[[EndpointTelemetry], int]) -> Metric:
        family = CounterMetricFamily(f"inferway_endpoint_{name}", text, labels=_ENDPOINT)
        books = self._telemetry.endpoints
        for pool, router in self._brains:
            for state in router.fleet:
                family.add_metric((state.name, pool), of(books.get(state.name, _UNTOUCHED)))
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
