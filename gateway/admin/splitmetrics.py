"""What `/metrics` tells of requests in two legs: what was decided, and what came of it."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.admin.families import buckets, by_reason
from gateway.brains import Brains
from gateway.telemetry import SplitTelemetry
from routing.transfer import Links


def split_requests(splits: SplitTelemetry) -> Iterator[Metric]:
    """What became of requests whose prompt another endpoint was to compute."""
    family = CounterMetricFamily(
        "inferway_split_requests",
        "Finished requests in two legs, by connector.",
        labels=("connector",),
    )
    for connector, count in splits.requests.items():
        family.add_metric((connector,), count)
    yield family
    yield by_reason("inferway_prefill_failures", "Prefill legs that failed.", splits.failures)
    yield by_reason(
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
