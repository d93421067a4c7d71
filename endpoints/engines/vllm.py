"""vLLM (V1 engine): metric names of today's versions first, then those they replaced.

With data parallelism each rank is an ``engine`` label of its own: requests, tokens and
blocks add up, the cache usage is the mean.
"""

import math
from collections.abc import Sequence

from endpoints.engines.combine import label_numbers, mean, total
from endpoints.engines.engine import Engine, Facts
from endpoints.engines.exposition import Sample, Scrape
from routing.fleet import Load

_RUNNING = "vllm:num_requests_running"
_WAITING = "vllm:num_requests_waiting"
_KV_USAGE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
_QUERIES = ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total")
_HITS = ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total")
_PREEMPTIONS = "vllm:num_preemptions_total"
_CACHE_CONFIG = "vllm:cache_config_info"
_ADAPTERS = "vllm:lora_requests_info"


def read(scrape: Scrape, at: float) -> Load:
    """The load in a scrape taken at ``at``. Despite their names, usages are shares 0..1."""
    cache = scrape.samples.get(_CACHE_CONFIG, ())
    adapters = _newest(scrape.samples.get(_ADAPTERS, ()))
    slots = label_numbers(adapters, "max_lora")
    return Load(
        at=at,
        running=total(scrape, _RUNNING),
        waiting=total(scrape, _WAITING),
        kv_usage=mean(scrape, *_KV_USAGE),
        cache_block_tokens=max(label_numbers(cache, "block_size"), default=None),
        cache_blocks=sum(label_numbers(cache, "num_gpu_blocks")) or None,
        prefix_queried_tokens=total(scrape, *_QUERIES),
        prefix_hit_tokens=total(scrape, *_HITS),
        preemptions=total(scrape, _PREEMPTIONS),
        adapters_running=_listed(adapters, "running_lora_adapters"),
        adapters_waiting=_listed(adapters, "waiting_lora_adapters"),
        max_adapters=max(slots, default=None),
    )


def _newest(samples: Sequence[Sample]) -> list[Sample]:
    """Of a metric whose value is the Unix time at which its labels were true: the newest."""
    times = [sample.value for sample in samples if math.isfinite(sample.value)]
    return [sample for sample in samples if times and sample.value == max(times)]


def _listed(samples: Sequence[Sample], label: str) -> frozenset[str]:
    """The names in comma lists."""
    names = (name.strip() for s in samples for name in s.labels.get(label, "").split(","))
    return frozenset(name for name in names if name)


VLLM = Engine(
    name="vllm",
    health_paths=("/health",),
    metrics_paths=("/metrics",),
    metric_prefixes=("vllm:",),
    metrics=frozenset(
        {_RUNNING, _WAITING, *_KV_USAGE, *_QUERIES, *_HITS, _PREEMPTIONS, _CACHE_CONFIG, _ADAPTERS}
    ),
    counters=frozenset(
        {
            *_QUERIES,
            *_HITS,
            _PREEMPTIONS,
            "vllm:prompt_tokens_total",
            "vllm:generation_tokens_total",
        }
    ),
    read=read,
    owner="vllm",
    facts=Facts(path="/version", keys=frozenset({"version"}), only=True),
    metrics_hint="start vLLM without --disable-log-stats",
)
