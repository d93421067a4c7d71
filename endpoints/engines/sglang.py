"""SGLang (started with ``--enable-metrics``).

Tensor- and pipeline-parallel ranks may each report the same requests (labels ``tp_rank``,
``pp_rank``): they count once. Data-parallel ranks (``dp_rank``) are different requests and
different caches: they add up, usage is the mean.
"""

from endpoints.engines.combine import label_numbers, mean, total, whole
from endpoints.engines.engine import CacheShape, Engine, Facts
from endpoints.engines.exposition import Scrape
from routing.fleet import Load

_RUNNING = "sglang:num_running_reqs"
_WAITING = "sglang:num_queue_reqs"
_KV_USAGE = "sglang:token_usage"
_PROMPT_TOKENS = "sglang:prompt_tokens_total"
_CACHED_TOKENS = "sglang:cached_tokens_total"
_CACHE_TOKENS = "sglang:max_total_num_tokens"
_PAGE_SIZE = "sglang:page_size"
_PAGES = "sglang:num_pages"
_CACHE_CONFIG = "sglang:cache_config_info"

_MIRRORS = frozenset({"tp_rank", "pp_rank", "moe_ep_rank"})


def read(scrape: Scrape, at: float) -> Load:
    """The load in a scrape taken at ``at``.

    Every prompt token is looked up in the radix cache, so the tokens queried are the prompt
    tokens. Retractions are not reported as a counter, so preemptions are unknown.
    """
    shape = _cache_shape(scrape)
    return Load(
        at=at,
        running=total(scrape, _RUNNING, mirrors=_MIRRORS),
        waiting=total(scrape, _WAITING, mirrors=_MIRRORS),
        kv_usage=mean(scrape, _KV_USAGE, mirrors=_MIRRORS),
        cache_block_tokens=shape.block_tokens if shape else None,
        cache_blocks=shape.blocks if shape else None,
        prefix_queried_tokens=total(scrape, _PROMPT_TOKENS, mirrors=_MIRRORS),
        prefix_hit_tokens=total(scrape, _CACHED_TOKENS, mirrors=_MIRRORS),
    )


def _cache_shape(scrape: Scrape) -> CacheShape | None:
    """Pages as gauges (newest versions), as labels of an info metric, or tokens alone.

    A cache told in tokens alone is given in pages of one token, SGLang's default.
    """
    page_size = whole(mean(scrape, _PAGE_SIZE))
    pages = whole(total(scrape, _PAGES, mirrors=_MIRRORS))
    if page_size and pages:
        return CacheShape(page_size, pages)
    info = scrape.samples.get(_CACHE_CONFIG, ())
    page_sizes = label_numbers(info, "page_size")
    tokens = whole(total(scrape, _CACHE_TOKENS, mirrors=_MIRRORS))
    if page_sizes and tokens:
        return CacheShape(page_sizes[0], max(1, tokens // page_sizes[0]))
    page_counts = label_numbers(info, "num_pages")
    if page_sizes and page_counts:
        return CacheShape(page_sizes[0], max(page_counts))
    return CacheShape(1, tokens) if tokens else None


SGLANG = Engine(
    name="sglang",
    health_paths=("/health",),
    metrics_paths=("/metrics",),
    metric_prefixes=("sglang:",),
    metrics=frozenset(
        {
            _RUNNING,
            _WAITING,
            _KV_USAGE,
            _PROMPT_TOKENS,
            _CACHED_TOKENS,
            _CACHE_TOKENS,
            _PAGE_SIZE,
            _PAGES,
            _CACHE_CONFIG,
        }
    ),
    counters=frozenset({_PROMPT_TOKENS, _CACHED_TOKENS, "sglang:generation_tokens_total"}),
    read=read,
    owner="sglang",
    facts=Facts(path="/get_model_info", keys=frozenset({"model_path", "is_generation"})),
    metrics_hint="start SGLang with --enable-metrics",
)
