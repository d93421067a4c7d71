"""The books of an endpoint picker under the names that its dashboards know, old and new.

``llm_d_epp_*`` are the names of llm-d since its router's 0.9. ``inference_objective_*``,
``inference_pool_*`` and ``inference_extension_*`` are those of the inference extension 1.0 to 1.5,
which llm-d still writes beside; they know no fairness id, so what differs in it alone is added up.
docs/metrics.md has the table. What is not known, such as a response's size when no body comes by,
has no sample.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from statistics import fmean
from typing import TypeAlias
from urllib.parse import urlsplit

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.admin.families import buckets
from gateway.pickerbooks import Flow, FlowBooks, PickerBooks
from gateway.telemetry import Histogram, Telemetry
from routing.endpoint import EndpointState
from routing.router import Router

Pools: TypeAlias = Callable[[], Iterable[tuple[str, Router]]]
_NEW = "llm_d_epp_"
_OLD = "inference_objective_"
_FLOW = ("model_name", "target_model_name", "fairness_id", "priority")
_MODELS = ("model_name", "target_model_name")

_HISTOGRAMS: tuple[tuple[str, str, str, Callable[[FlowBooks], Histogram]], ...] = (
    (
        "request_duration_seconds",
        "request_duration_seconds",
        "Duration.",
        lambda b: b.duration,
    ),
    ("request_size_bytes", "request_sizes", "Request bodies.", lambda b: b.request_bytes),
    ("response_size_bytes", "response_sizes", "Response bodies.", lambda b: b.response_bytes),
    ("request_input_tokens", "input_tokens", "Prompt tokens.", lambda b: b.input_tokens),
    ("request_output_tokens", "output_tokens", "Produced tokens.", lambda b: b.output_tokens),
    ("request_cached_tokens", "prompt_cached_tokens", "Cached tokens.", lambda b: b.cached_tokens),
    (
        "request_ntpot_seconds",
        "normalized_time_per_output_token_seconds",
        "Duration over produced tokens.",
        lambda b: b.normalized,
    ),
    (
        "request_ttft_seconds",
        "request_ttft_seconds",
        "Time to the first token of streams.",
        lambda b: b.first_token,
    ),
    (
        "request_streaming_tpot_seconds",
        "request_tpot_seconds",
        "Mean time between tokens of streams.",
        lambda b: b.per_token,
    ),
)
"""New name, old name, meaning, where it is counted."""

Labels: TypeAlias = tuple[str, ...]


class PickerMetrics(Collector):
    """Requests, choices and the pools, as the inference extension names them.

    ``pools`` tells the pools that are picked from, each by the name that dashboards know.
    """

    def __init__(self, books: PickerBooks, telemetry: Telemetry, pools: Pools) -> None:
        self._books = books
        self._telemetry = telemetry
        self._pools = pools

    def collect(self) -> Iterator[Metric]:
        """The families; each is complete when it is given."""
        yield from self._requests()
        for new, old, text, of in _HISTOGRAMS:
            yield self._histogram(_NEW + new, text, _FLOW, _full, of)
            yield self._histogram(_OLD + old, text, _MODELS, _models, of)
        yield from self._choices()
        yield from self._pool()
        info = GaugeMetricFamily(f"{_NEW}info", "This build.", labels=("commit", "build_ref"))
        info.add_metric(("", f"inferway-{version('inferway')}"), 1)
        yield info

    def _requests(self) -> Iterator[Metric]:
        by_priority = (*_MODELS, "priority")
        yield self._counter(f"{_NEW}request", "Requests.", _FLOW, _full, _requests)
        yield self._counter(f"{_OLD}request", "Requests.", by_priority, _with_priority, _requests)
        for prefix, labels, of in ((_NEW, _FLOW, _full), (_OLD, _MODELS, _models)):
            family = CounterMetricFamily(
                f"{prefix}request_error", "Failed requests.", labels=(*labels, "error_code")
            )
            errors: dict[Labels, int] = {}
            for flow, books in self._books.flows.items():
                for code, count in books.errors.items():
                    key = (*of(flow), code)
                    errors[key] = errors.get(key, 0) + count
            for key, count in errors.items():
                family.add_metric(key, count)
            yield family
        running = GaugeMetricFamily(f"{_NEW}request_running", "In flight.", labels=_FLOW)
        old = GaugeMetricFamily(f"{_OLD}running_requests", "In flight.", labels=("model_name",))
        models: dict[str, int] = {}
        for flow, books in self._books.flows.items():
            running.add_metric(_full(flow), books.running)
            models[flow.model] = models.get(flow.model, 0) + books.running
        for model, count in models.items():
            old.add_metric((model,), count)
        yield running
        yield old

    def _counter(
        self,
        name: str,
        text: str,
        labels: Labels,
        key_of: Callable[[Flow], Labels],
        of: Callable[[FlowBooks], int],
    ) -> Metric:
        family = CounterMetricFamily(name, text, labels=labels)
        totals: dict[Labels, int] = {}
        for flow, books in self._books.flows.items():
            key = key_of(flow)
            totals[key] = totals.get(key, 0) + of(books)
        for key, total in totals.items():
            family.add_metric(key, total)
        return family

    def _histogram(
        self,
        name: str,
        text: str,
        labels: Labels,
        key_of: Callable[[Flow], Labels],
        of: Callable[[FlowBooks], Histogram],
    ) -> Metric:
        family = HistogramMetricFamily(name, text, labels=labels)
        groups: dict[Labels, list[Histogram]] = {}
        for flow, books in self._books.flows.items():
            groups.setdefault(key_of(flow), []).append(of(books))
        for key, parts in groups.items():
            whole = _sum(parts)
            if any(whole.counts):
                family.add_metric(key, buckets(whole), whole.sum)
        return family

    def _choices(self) -> Iterator[Metric]:
        histogram = self._telemetry.decision_seconds
        for prefix, pod in ((_NEW, "endpoint_name"), ("inference_extension_", "pod_name")):
            family = HistogramMetricFamily(
                f"{prefix}scheduler_e2e_duration_seconds", "What choosing took.", labels=()
            )
            family.add_metric((), buckets(histogram), histogram.sum)
            yield family
            attempts = CounterMetricFamily(
                f"{prefix}scheduler_attempts",
                "Choices by outcome.",
                labels=("status", "target_model_name", pod, "namespace", "port"),
            )
            for (target, name), count in self._books.attempts.items():
                attempts.add_metric(("success", target, name, "", self._port(name)), count)
            for target, count in self._books.rejected.items():
                attempts.add_metric(("failure", target, "", "", ""), count)
            yield attempts
            rewrites = CounterMetricFamily(
                f"{prefix}model_rewrite_decisions",
                "Models that were replaced by others.",
                labels=("model_rewrite_name", "model_name", "target_model"),
            )
            for rewrite, count in self._books.rewrites.items():
                rewrites.add_metric(rewrite, count)
            yield rewrites
            yield GaugeMetricFamily(
                f"{prefix}prefix_indexer_size",
                "Blocks in the index.",
                value=sum(len(router.prefix) for _, router in self._pools()),
            )

    def _port(self, name: str) -> str:
        for _, router in self._pools():
            state = router.fleet.get(name)
            if state is not None:
                return str(urlsplit(state.endpoint.url).port or "")
        return ""

    def _pool(self) -> Iterator[Metric]:
        means: tuple[tuple[str, str, Callable[[EndpointState], float | None]], ...] = (
            (
                "average_kv_cache_utilization",
                "Mean share of the KV caches that live requests hold.",
                lambda state: state.load.kv_usage if state.load else None,
            ),
            (
                "average_queue_size",
                "Mean requests that wait in an engine.",
                lambda state: state.load.waiting if state.load else None,
            ),
            (
                "average_running_requests",
                "Mean requests that an engine runs.",
                lambda state: state.load.running if state.load else None,
            ),
        )
        pools = tuple(self._pools())
        for name, text, of in means:
            for prefix in (_NEW, "inference_pool_"):
                family = GaugeMetricFamily(prefix + name, text, labels=("name",))
                for pool, router in pools:
                    known = [value for state in router.fleet if (value := of(state)) is not None]
                    if known:
                        family.add_metric((pool,), fmean(known))
                yield family
        for name in (f"{_NEW}ready_endpoints", "inference_pool_ready_pods"):
            family = GaugeMetricFamily(name, "Endpoints that may be chosen.", labels=("name",))
            for pool, router in pools:
                family.add_metric((pool,), sum(state.available for state in router.fleet))
            yield family
        for name, label in (
            (f"{_NEW}per_endpoint_queue_size", "model_server_endpoint"),
            ("inference_pool_per_pod_queue_size", "model_server_pod"),
        ):
            queues = GaugeMetricFamily(name, "Waiting requests.", labels=("name", label))
            for pool, router in pools:
                for state in router.fleet:
                    if state.load is not None and state.load.waiting is not None:
                        queues.add_metric((pool, state.name), state.load.waiting)
            yield queues


def _full(flow: Flow) -> Labels:
    return (flow.model, flow.target, flow.fairness, str(flow.priority))


def _models(flow: Flow) -> Labels:
    return (flow.model, flow.target)


def _with_priority(flow: Flow) -> Labels:
    return (flow.model, flow.target, str(flow.priority))


def _requests(books: FlowBooks) -> int:
    return books.requests


def _sum(parts: Sequence[Histogram]) -> Histogram:
    if len(parts) == 1:
        return parts[0]
    whole = Histogram(parts[0].bounds)
    whole.counts = [sum(counts) for counts in zip(*(part.counts for part in parts), strict=True)]
    whole.sum = sum(part.sum for part in parts)
    return whole
