"""What the debug pages show of endpoints and decisions, as plain data.

Ages and durations in seconds instead of timestamps: the brain's clock means nothing outside.
"""

from routing.decision import Decision
from routing.fleet import EndpointState, Load
from routing.policies.policy import Choice
from routing.prefix.index import PrefixIndex

View = dict[str, object]
"""Plain data for JSON; None where nothing is known."""


def endpoint_view(state: EndpointState, prefix: PrefixIndex, now: float) -> View:
    """Everything known about an endpoint."""
    ledger, timing = state.ledger, state.timing
    models = state.models
    return {
        "name": state.name,
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
        "prefix_blocks": prefix.blocks(state.name),
    }


def _until(at: float | None, now: float) -> float | None:
    return None if at is None else round(max(at - now, 0.0), 3)


def decision_view(decision: Decision, now: float) -> View:
    """A receipt: who was considered, what was expected, what came of it."""
    request = decision.request
    sent = decision.sent_at
    return {
        "id": request.id,
        "model": request.model,
        "streamed": request.streamed,
        "age": _since(decision.at, now),
        "policy": decision.policy,
        "prompt_tokens": decision.prompt_tokens,
        "output_tokens": decision.output_tokens,
        "candidates": [_choice_view(choice) for choice in decision.choices],
        "endpoint": decision.endpoint.name,
        "phase": decision.phase.value,
        "outcome": decision.outcome,
        "failed_attempts": [
            {
                "endpoint": attempt.endpoint,
                "after": _between(decision.at, attempt.at),
                "reason": attempt.reason,
                "refused": attempt.refused,
            }
            for attempt in decision.attempts
        ],
        "observed": {
            "sent_after": _between(decision.at, sent),
            "first_token_after": _between(sent, decision.first_token_at),
            "finished_after": _between(sent, decision.finished_at),
            "prompt_tokens": decision.reported_prompt_tokens,
            "cached_tokens": decision.reported_cached_tokens,
            "completion_tokens": decision.reported_completion_tokens,
        },
    }


def _choice_view(choice: Choice) -> View:
    return {
        "endpoint": choice.endpoint.name,
        "score": choice.score,
        "cached_tokens": choice.cached_tokens,
        "predicted_ttft": choice.predicted_ttft,
        "reason": choice.reason,
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
    return _between(then, now)


def _between(start: float | None, end: float | None) -> float | None:
    """Seconds from one time to another; None when either is not known."""
    return None if start is None or end is None else round(end - start, 6)
