"""What the debug pages show of endpoints, as plain data.

Ages and durations in seconds instead of timestamps: the brain's clock means nothing outside.
"""

from gateway.admin.receipts import between
from routing.fleet import EndpointState, Load
from routing.prediction import PredictionErrors
from routing.router import Router
from routing.trust import Trust

View = dict[str, object]
"""Plain data for JSON; None where nothing is known."""


def endpoint_view(pool: str, state: EndpointState, router: Router, now: float) -> View:
    """Everything known about an endpoint of a pool."""
    ledger, timing = state.ledger, state.timing
    errors = None if router.receipts is None else router.receipts.by_endpoint.get(state.name)
    models = state.models
    return {
        "name": state.name,
        "pool": pool,
        "url": state.endpoint.url,
        "engine": state.engine,
        "labels": dict(state.endpoint.labels),
        "health": {
            "state": state.health.value,
            "reason": state.health_reason,
            "age": _since(state.health_since, now),
            "consecutive_failures": state.consecutive_failures,
        },
        "breaker": {
            "state": state.breaker.circuit.value,
            "age": _since(state.breaker.since, now),
            "half_open_in": _until(state.breaker.half_open_at, now),
            "failures": state.breaker.failures,
            "openings": state.breaker.openings,
        },
        "models": None
        if models is None
        else [
            {"name": model.name, "base": model.base, "max_model_len": model.max_model_len}
            for model in models.values()
        ],
        "models_age": _since(state.models_at, now),
        "cache_tokens": state.cache_tokens,
        "load": None if state.load is None else _load_view(state.load, now),
        "foreign_waiting": state.foreign_waiting,
        "foreign_running": state.foreign_running,
        "ledger": {
            "requests": ledger.requests,
            "decoding": ledger.decoding,
            "prefill_tokens": ledger.prefill_tokens,
            "queued_prefill_tokens": ledger.queued_prefill_tokens(now, timing.prefill_rate),
            "output_tokens": ledger.output_tokens,
        },
        "timing": {
            "prefill_tokens_per_second": timing.prefill_rate,
            "first_token_overhead_seconds": timing.prefill_seconds(0.0),
            "inter_token_seconds_alone": timing.inter_token_seconds(1.0),
        },
        "prefix_blocks": router.prefix.blocks(state.name),
        "trust": _trust_view(state.trust),
        "prediction": None if errors is None else _prediction_view(errors),
    }


def _until(at: float | None, now: float) -> float | None:
    return None if at is None else round(max(at - now, 0.0), 3)


def _trust_view(trust: Trust) -> View:
    """How far the predictions about its cache are believed, and why."""
    return {"share": round(trust.share, 6), "held": trust.held, "failed": trust.failed}


def _prediction_view(errors: PredictionErrors) -> View:
    """How far predictions about it were off; of histograms, the bounds that hold p50 and p90."""
    ttft, cached, regret = errors.ttft, errors.cached_tokens, errors.regret
    return {
        "ttft": {
            "compared": ttft.count,
            "relative_error": errors.ttft_error.known,
            "bias_seconds": ttft.bias,
            "late_p90_seconds": ttft.under.quantile(0.9),
            "early_p90_seconds": ttft.over.quantile(0.9),
        },
        "itl": {
            "compared": errors.itl_error.count,
            "relative_error": errors.itl_error.known,
        },
        "cached_tokens": {"compared": cached.count, "bias_tokens": cached.bias},
        "regret": {
            "compared": regret.count,
            "mean_seconds": regret.sum / regret.count if regret.count else None,
            "p50_seconds": regret.quantile(0.5),
            "p90_seconds": regret.quantile(0.9),
        },
    }


def _load_view(load: Load, now: float) -> View:
    return {
        "age": _since(load.at, now),
        "running": load.running,
        "waiting": load.waiting,
        "kv_usage": load.kv_usage,
        "cache_block_tokens": load.cache_block_tokens,
        "cache_blocks": load.cache_blocks,
        "prefix_queried_tokens": load.prefix_queried_tokens,
        "prefix_hit_tokens": load.prefix_hit_tokens,
        "preemptions": load.preemptions,
        "adapters_running": sorted(load.adapters_running),
        "adapters_waiting": sorted(load.adapters_waiting),
        "max_adapters": load.max_adapters,
    }


def _since(then: float | None, now: float) -> float | None:
    return between(then, now)
