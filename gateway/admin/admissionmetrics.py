"""The lines before busy pools, as metrics and as the page `/debug/admission`.

Metrics have our names, and beside them those of the inference extension's flow control, old and
new, which dashboards know. A tenant is a label only there, as its values are clients' (bounded).
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.admin.families import buckets
from gateway.admission import Admission, Admissions
from gateway.telemetry import Histogram
from routing.saturation import saturation

View: TypeAlias = dict[str, object]
_PREFIXES = ("inference_extension_flow_control_", "llm_d_epp_flow_control_")
_MOST_TENANTS_SHOWN = 50


def admission_view(admissions: Admissions, now: float) -> dict[str, View]:
    """The page, by pool: who waits, and how those before them fared. Ages in seconds."""
    return {line.pool: _line_view(line, now) for line in admissions}


def _line_view(line: Admission, now: float) -> View:
    queue = line.queue
    oldest = queue.oldest
    waiting: list[View] = [
        {
            "model": lane.model,
            "limited_to": None if lane.within is None else sorted(lane.within),
            "priority": priority,
            "tenant": tenant,
            "requests": requests,
            "work": round(work),
        }
        for lane, priority, tenant, requests, work in queue.backlogs()
    ]
    waiting.sort(key=lambda one: one["work"], reverse=True)  # type: ignore[arg-type, return-value]
    outcomes: dict[str, int] = {}
    for labels, wait in line.books.waits.items():
        outcomes[labels.outcome] = outcomes.get(labels.outcome, 0) + sum(wait.counts)
    return {
        "waiting": len(queue),
        "bytes": queue.bytes,
        "most_requests": queue.bounds.requests,
        "most_bytes": queue.bounds.bytes,
        "oldest_age": None if oldest is None else now - oldest.since,
        "expected_wait": queue.wait_seconds(now),
        "routed_at_once": line.books.at_once,
        "ended": outcomes,
        "longest": waiting[:_MOST_TENANTS_SHOWN],
        "not_shown": max(len(waiting) - _MOST_TENANTS_SHOWN, 0),
    }


class AdmissionMetrics(Collector):
    """Who waits before which pool, and how waiting ended."""

    def __init__(self, admissions: Admissions, now: Callable[[], float]) -> None:
        self._admissions = admissions
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """The families; each is complete when it is given."""
        yield from self._ours()
        for prefix in _PREFIXES:
            yield from self._known(prefix)

    def _ours(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily(
            "inferway_admission_waiting", "Requests in line.", labels=("pool", "priority")
        )
        size = GaugeMetricFamily(
            "inferway_admission_waiting_bytes", "Bodies kept for them.", labels=("pool",)
        )
        at_once = CounterMetricFamily(
            "inferway_admission_at_once", "Requests that found room.", labels=("pool",)
        )
        waits = HistogramMetricFamily(
            "inferway_admission_wait_seconds",
            "How long requests stood in line, and how that ended.",
            labels=("pool", "priority", "outcome"),
        )
        for line in self._admissions:
            by_priority: dict[int, int] = {}
            for _, priority, _, requests, _ in line.queue.backlogs():
                by_priority[priority] = by_priority.get(priority, 0) + requests
            for priority, requests in by_priority.items():
                waiting.add_metric((line.pool, str(priority)), requests)
            size.add_metric((line.pool,), line.queue.bytes)
            at_once.add_metric((line.pool,), line.books.at_once)
            sums: dict[tuple[str, str], Histogram] = {}
            for labels, wait in line.books.waits.items():
                priority_and_end = (str(labels.priority), str(labels.outcome))
                total = sums.setdefault(priority_and_end, Histogram(wait.bounds))
                total.counts = [a + b for a, b in zip(total.counts, wait.counts, strict=True)]
                total.sum += wait.sum
            for priority_and_end, total in sums.items():
                waits.add_metric((line.pool, *priority_and_end), buckets(total), total.sum)
        yield from (waiting, size, at_once, waits)

    def _known(self, prefix: str) -> Iterator[Metric]:
        flow = ("fairness_id", "priority", "inference_pool")
        waits = HistogramMetricFamily(
            f"{prefix}request_queue_duration_seconds",
            "How long requests were queued.",
            labels=("fairness_id", "priority", "outcome", "inference_pool"),
        )
        size = GaugeMetricFamily(f"{prefix}queue_size", "Requests in line.", labels=flow)
        saturated = GaugeMetricFamily(
            f"{prefix}pool_saturation", "Mean of its endpoints'.", labels=("inference_pool",)
        )
        for line in self._admissions:
            for labels, wait in line.books.waits.items():
                key = (labels.tenant, str(labels.priority), labels.outcome, line.pool)
                waits.add_metric(key, buckets(wait), wait.sum)
            sizes: dict[tuple[str, str, str], int] = {}
            for _, priority, tenant, requests, _ in line.queue.backlogs():
                row = (line.books.tenant(tenant), str(priority), line.pool)
                sizes[row] = sizes.get(row, 0) + requests
            for row, requests in sizes.items():
                size.add_metric(row, requests)
            endpoints = line.router.fleet.serving(None)
            saturated.add_metric((line.pool,), saturation(endpoints, self._now()))
        yield from (waits, size, saturated)
