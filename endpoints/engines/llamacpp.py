"""llama.cpp's server (started with ``--metrics``).

Its cache is its slots, each with a context of its own; ``/props`` tells both numbers, on
servers without ``--metrics`` too. While it loads a model its health page answers 503.
"""

from collections.abc import Mapping

from endpoints.engines.combine import mean, total
from endpoints.engines.engine import CacheShape, Engine, Facts
from endpoints.engines.exposition import Scrape
from routing.fleet import Load

_RUNNING = "llamacpp:requests_processing"
_WAITING = "llamacpp:requests_deferred"
_KV_USAGE = "llamacpp:kv_cache_usage_ratio"  # old builds only


def read(scrape: Scrape, at: float) -> Load:
    """The load in a scrape taken at ``at``. Prefix hits are not among the metrics."""
    return Load(
        at=at,
        running=total(scrape, _RUNNING),
        waiting=total(scrape, _WAITING),
        kv_usage=mean(scrape, _KV_USAGE),
    )


def cache_shape(props: Mapping[str, object]) -> CacheShape | None:
    """``/props``: slots times tokens of context a slot. Prefixes are reused token by token."""
    slots, settings = props.get("total_slots"), props.get("default_generation_settings")
    context = settings.get("n_ctx") if isinstance(settings, dict) else None
    if not isinstance(slots, int) or not isinstance(context, int) or slots < 1 or context < 1:
        return None
    return CacheShape(block_tokens=1, blocks=slots * context)


LLAMACPP = Engine(
    name="llamacpp",
    health_paths=("/health",),
    metrics_paths=("/metrics",),
    metric_prefixes=("llamacpp:",),
    metrics=frozenset({_RUNNING, _WAITING, _KV_USAGE}),
    counters=frozenset({"llamacpp:prompt_tokens_total", "llamacpp:tokens_predicted_total"}),
    read=read,
    owner="llamacpp",
    facts=Facts(
        path="/props",
        keys=frozenset({"total_slots", "default_generation_settings"}),
        cache=cache_shape,
    ),
    metrics_hint="start llama.cpp's server with --metrics",
)
