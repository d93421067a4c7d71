"""An engine's counters under vLLM's names (V1 engine), rendered when somebody scrapes."""

import time
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from bench.fleet.engine.scheduler import Engine
from bench.fleet.engine.stats import Histogram, Stats
from bench.fleet.handover.exchange import KvExchange
from bench.fleet.models import Models
from bench.fleet.settings import ServerSettings

_LABELS = ("model_name", "engine")
_REASONS = ("stop", "length", "abort")


class EngineCollector(Collector):
    """Reads the engine at each scrape, so that counting costs the engine next to nothing."""

    def __init__(
        self,
        engine: Engine,
        models: Models,
        settings: ServerSettings,
        kv: KvExchange | None = None,
    ) -> None:
        self._kv = kv
        self._engine = engine
        self._models = models
        self._settings = settings
        self._started_at = time.time()
        self._labels = (settings.model, "0")

    def collect(self) -> Iterator[Metric]:
        """All families, with their values of this moment."""
        stats = self._engine.stats
        yield from self._gauges()
        yield from self._counters(stats)
        yield from self._histograms(stats)
        yield self._sources(stats)
        if self._kv is not None:
            yield from self._handover(self._kv)
        yield self._cache_config()
        if self._models.adapters:
            yield self._adapters()

    def _sources(self, stats: Stats) -> Metric:
        """Where the tokens of prompts came from."""
        hits = stats.prompt_tokens_cached - stats.received_tokens
        values = {
            "local_compute": stats.prompt_tokens - stats.prompt_tokens_cached,
            "local_cache_hit": hits,
            "external_kv_transfer": stats.received_tokens,
        }
        family = CounterMetricFamily(
            "vllm:prompt_tokens_by_source",
            "Prompt tokens by where they came from.",
            labels=(*_LABELS, "source"),
        )
        for source, value in values.items():
            family.add_metric((*self._labels, source), max(value, 0))
        return family

    def _handover(self, kv: KvExchange) -> Iterator[Metric]:
        """NIXL's counters under vLLM's names, and what the simulator alone can know."""
        holds, stats = kv.holds, kv.stats
        counters = {
            "vllm:nixl_num_failed_transfers": stats.failed,
            "vllm:nixl_num_kv_expired_reqs": holds.expired,
            "vllm:nixl_num_notifications_after_expiry": holds.late_reads,
            "sim:kv_expired_tokens": holds.expired_tokens,
            "sim:kv_read": holds.read,
            "sim:kv_bytes_received": stats.bytes,
        }
        for name, value in counters.items():
            counter = CounterMetricFamily(name, _words(name.partition(":")[2]), labels=_LABELS)
            counter.add_metric(self._labels, value)
            yield counter
        gauges = {
            "kv_held_requests": len(holds),
            "kv_held_tokens": holds.tokens,
            "kv_overdue_requests": holds.overdue(time.monotonic()),
        }
        for name, value in gauges.items():
            gauge = GaugeMetricFamily(f"sim:{name}", _words(name), labels=_LABELS)
            gauge.add_metric(self._labels, value)
            yield gauge
        family = HistogramMetricFamily(
            "vllm:nixl_xfer_time_seconds", "Time of a transfer.", labels=_LABELS
        )
        family.add_metric(self._labels, _buckets(stats.seconds), stats.seconds.sum)
        yield family

    def _gauges(self) -> Iterator[Metric]:
        engine = self._engine
        yield self._gauge("num_requests_running", "Requests in the batch.", len(engine.running))
        yield self._gauge("num_requests_waiting", "Requests in the queue.", len(engine.waiting))
        yield self._gauge("kv_cache_usage_perc", "Share of pinned blocks.", engine.cache.usage)
        start = GaugeMetricFamily("process_start_time_seconds", "When the server started.")
        start.add_metric((), self._started_at)
        yield start

    def _counters(self, stats: Stats) -> Iterator[Metric]:
        values = {
            "prefix_cache_queries": stats.prefix_queried_tokens,
            "prefix_cache_hits": stats.prefix_hit_tokens,
            "external_prefix_cache_queries": stats.external_queried_tokens,
            "external_prefix_cache_hits": stats.external_hit_tokens,
            "prompt_tokens": stats.prompt_tokens,
            "prompt_tokens_cached": stats.prompt_tokens_cached,
            "generation_tokens": stats.generation_tokens,
            "num_preemptions": stats.preemptions,
        }
        for name, value in values.items():
            counter = CounterMetricFamily(f"vllm:{name}", _words(name), labels=_LABELS)
            counter.add_metric(self._labels, value)
            yield counter
        success = CounterMetricFamily(
            "vllm:request_success", "Requests that ended.", labels=(*_LABELS, "finished_reason")
        )
        for reason in _REASONS:
            success.add_metric((*self._labels, reason), stats.finished[reason])
        yield success
        rejections = CounterMetricFamily(
            "vllm:admission_rejections", "Requests refused.", labels=("model_name", "reason")
        )
        rejections.add_metric((self._settings.model, "max_num_queued_reqs"), stats.rejected)
        yield rejections

    def _histograms(self, stats: Stats) -> Iterator[Metric]:
        histograms = {
            "time_to_first_token_seconds": stats.time_to_first_token,
            "inter_token_latency_seconds": stats.inter_token_latency,
            "request_time_per_output_token_seconds": stats.time_per_output_token,
            "e2e_request_latency_seconds": stats.end_to_end,
            "request_queue_time_seconds": stats.queue,
            "request_inference_time_seconds": stats.inference,
            "request_prefill_time_seconds": stats.prefill,
            "request_decode_time_seconds": stats.decode,
            "request_prompt_tokens": stats.request_prompt_tokens,
            "request_generation_tokens": stats.request_generation_tokens,
            "iteration_tokens_total": stats.step_tokens,
        }
        for name, histogram in histograms.items():
            family = HistogramMetricFamily(f"vllm:{name}", _words(name), labels=_LABELS)
            family.add_metric(self._labels, _buckets(histogram), histogram.sum)
            yield family

    def _cache_config(self) -> Metric:
        settings = self._settings
        values = {
            "block_size": str(settings.block_size),
            "num_gpu_blocks": str(settings.cache_blocks),
            "kv_cache_size_tokens": str(settings.cache_blocks * settings.block_size),
            "enable_prefix_caching": "True",
            "cache_dtype": "auto",
            "engine": "0",
        }
        family = GaugeMetricFamily(
            "vllm:cache_config_info", "The cache's configuration.", labels=tuple(values)
        )
        family.add_metric(tuple(values.values()), 1)
        return family

    def _adapters(self) -> Metric:
        engine = self._engine
        values = {
            "max_lora": str(self._settings.max_loras),
            "running_lora_adapters": ",".join(sorted(engine.running_adapters())),
            "waiting_lora_adapters": ",".join(sorted(engine.waiting_adapters())),
        }
        family = GaugeMetricFamily(
            "vllm:lora_requests_info",
            "Adapters in use; the value is the time.",
            labels=tuple(values),
        )
        family.add_metric(tuple(values.values()), time.time())
        return family

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"vllm:{name}", text, labels=_LABELS)
        family.add_metric(self._labels, value)
        return family


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize() + "."


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    return list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))


def registry_of(
    engine: Engine, models: Models, settings: ServerSettings, kv: KvExchange | None = None
) -> CollectorRegistry:
    """A registry of one server's own, since one process hosts many."""
    registry = CollectorRegistry()
    registry.register(EngineCollector(engine, models, settings, kv))
    return registry
