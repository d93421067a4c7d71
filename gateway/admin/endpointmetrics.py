"""What `/metrics` tells of each endpoint."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.brains import Brains
from gateway.telemetry import EndpointTelemetry, Telemetry
from routing.breaker import Circuit
from routing.fleet import EndpointState, Health
from routing.router import Router

_ENDPOINT = ("endpoint", "pool")
_UNTOUCHED = EndpointTelemetry()
_CIRCUIT = {Circuit.CLOSED: 0.0, Circuit.HALF_OPEN: 1.0, Circuit.OPEN: 2.0}

Reading: TypeAlias = Callable[[Router, EndpointState], float | None]
"""What is told of an endpoint; None: not known, so not told."""


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
