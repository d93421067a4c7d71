"""TensorRT-LLM, served by trtllm-serve (``trtllm_*``) or by Triton (``nv_trt_llm_*``).

trtllm-serve answers JSON at ``/metrics`` and Prometheus text at ``/prometheus/metrics``;
Triton answers Prometheus text at ``/metrics``, one series a kind of number.
"""

from endpoints.engines.combine import mean, total, where, whole
from endpoints.engines.engine import Engine
from endpoints.engines.exposition import Scrape
from routing.fleet import Load

_RUNNING = "trtllm_num_requests_running"
_WAITING = "trtllm_num_requests_waiting"
_KV_USAGE = "trtllm_kv_cache_utilization"
_BLOCK_TOKENS = "trtllm_kv_cache_tokens_per_block"
_BLOCKS = "trtllm_kv_cache_max_blocks"
_REUSED = "trtllm_kv_cache_reused_blocks_total"
_MISSED = "trtllm_kv_cache_missed_blocks_total"
_TRITON_REQUESTS = "nv_trt_llm_request_metrics"
_TRITON_BLOCKS = "nv_trt_llm_kv_cache_block_metrics"


def read(scrape: Scrape, at: float) -> Load:
    """The load in a scrape taken at ``at``, from whichever of the two servers it comes."""
    if _TRITON_REQUESTS in scrape.samples or _TRITON_BLOCKS in scrape.samples:
        return _read_triton(scrape, at)
    block_tokens = whole(mean(scrape, _BLOCK_TOKENS))
    reused, missed = total(scrape, _REUSED), total(scrape, _MISSED)
    hit = queried = None
    if block_tokens is not None and reused is not None and missed is not None:
        hit, queried = reused * block_tokens, (reused + missed) * block_tokens
    return Load(
        at=at,
        running=total(scrape, _RUNNING),
        waiting=total(scrape, _WAITING),
        kv_usage=mean(scrape, _KV_USAGE),
        cache_block_tokens=block_tokens,
        cache_blocks=whole(total(scrape, _BLOCKS)),
        prefix_queried_tokens=queried,
        prefix_hit_tokens=hit,
    )


def _read_triton(scrape: Scrape, at: float) -> Load:
    def requests(kind: str) -> Scrape:
        return where(scrape, _TRITON_REQUESTS, request_type=kind)

    def blocks(kind: str) -> Scrape:
        return where(scrape, _TRITON_BLOCKS, kv_cache_block_type=kind)

    return Load(
        at=at,
        running=total(requests("scheduled"), _TRITON_REQUESTS),
        waiting=total(requests("waiting"), _TRITON_REQUESTS),
        kv_usage=mean(blocks("fraction"), _TRITON_BLOCKS),
        cache_block_tokens=whole(mean(blocks("tokens_per"), _TRITON_BLOCKS)),
        cache_blocks=whole(total(blocks("max"), _TRITON_BLOCKS)),
    )


TRTLLM = Engine(
    name="trtllm",
    health_paths=("/health", "/health/ready", "/v2/health/ready"),
    metrics_paths=("/prometheus/metrics", "/metrics"),
    metric_prefixes=("trtllm_", "nv_trt_llm_"),
    metrics=frozenset(
        {
            _RUNNING,
            _WAITING,
            _KV_USAGE,
            _BLOCK_TOKENS,
            _BLOCKS,
            _REUSED,
            _MISSED,
            _TRITON_REQUESTS,
            _TRITON_BLOCKS,
        }
    ),
    counters=frozenset({_REUSED, _MISSED}),
    read=read,
    owner="tensorrt_llm",
    metrics_hint="start trtllm-serve with return_perf_metrics and enable_iter_perf_stats",
)
