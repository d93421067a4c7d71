"""llm-d's plugins and what each of them is here."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from routing import scorers
from routing.policies.scored import Picker
from routing.scorers import NoHit, Scorer

Parameters: TypeAlias = Mapping[str, Any]


class ParameterError(ValueError):
    """A parameter that a plugin does not have, or of a wrong value."""


def _plain(scorer: Scorer, *tolerated: str) -> Callable[[Parameters], Scorer]:
    """A scorer without parameters; ``tolerated`` ones have no effect, as in the original."""

    def make(parameters: Parameters) -> Scorer:
        _only(parameters, tolerated)
        return scorer

    return make


def _only(parameters: Parameters, known: tuple[str, ...]) -> None:
    for name in parameters:
        if name not in known:
            choice = f"it has {', '.join(known)}" if known else "it has none"
            raise ParameterError(f"there is no parameter {name!r}; {choice}")


def _number(parameters: Parameters, name: str, default: float) -> float:
    value = parameters.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ParameterError(f"{name} must be a number, not {value!r}")
    return float(value)


def _load_aware(parameters: Parameters) -> Scorer:
    _only(parameters, ("threshold",))
    return scorers.load_aware(_number(parameters, "threshold", 128))


def _active(parameters: Parameters) -> Scorer:
    _only(parameters, ("idleThreshold", "maxBusyScore", "requestTimeout"))
    return scorers.active(
        _number(parameters, "idleThreshold", 0), _number(parameters, "maxBusyScore", 1)
    )


def _tokens(parameters: Parameters) -> Scorer:
    _only(parameters, ("queueThresholdTokens",))
    return scorers.tokens(_number(parameters, "queueThresholdTokens", 4_194_304))


def _no_hit(parameters: Parameters) -> Scorer:
    _only(parameters, ("prefixPluginType", "prefixPluginName", "lruSize"))
    return NoHit(int(_number(parameters, "lruSize", 1_024)))


_PREFIX_LEGACY = (
    "blockSize",
    "blockSizeTokens",
    "hashBlockSize",
    "autoTune",
    "maxPrefixBlocksToMatch",
    "maxPrefixTokensToMatch",
    "lruCapacityPerServer",
)
_PRECISE = ("tokenProcessorConfig", "indexerConfig", "kvEventsConfig", "speculativeIndexing")

SCORERS: Final[Mapping[str, Callable[[Parameters], Scorer]]] = MappingProxyType(
    {
        "queue-scorer": _plain(scorers.queue),
        "queue-depth-scorer": _plain(scorers.queue),
        "running-requests-size-scorer": _plain(scorers.running),
        "kv-cache-utilization-scorer": _plain(scorers.kv_cache),
        "prefix-cache-scorer": _plain(scorers.prefix, *_PREFIX_LEGACY),
        "precise-prefix-cache-scorer": _plain(scorers.prefix, *_PRECISE, "speculativeTTL"),
        "lora-affinity-scorer": _plain(scorers.lora),
        "load-aware-scorer": _load_aware,
        "active-request-scorer": _active,
        "token-load-scorer": _tokens,
        "no-hit-lru-scorer": _no_hit,
    }
)
"""Type -> how to make the scorer; ValueError for parameters that can't be."""

PICKERS: Final[Mapping[str, Picker]] = MappingProxyType(
    {"max-score-picker": "max", "random-picker": "random", "weighted-random-picker": "weighted"}
)

PREDICTING: Final = frozenset({"latency-scorer", "slo-scorer", "predicted-latency-scorer"})
"""Scorers that ask a trained predictor; our default policy predicts the same without one."""

TEST_SELECTION: Final = "header-based-testing-filter"

BUILT_IN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "single-profile-handler": "there is one profile",
        "approx-prefix-cache-producer": "our prefix index is always there; see routing.index_bytes",
        "inflight-load-producer": "our ledger counts what is in flight",
        "predicted-latency-producer": "times are learned without a trained predictor",
        "utilization-detector": "room is told by the ledger and learned times; see admission",
        "concurrency-detector": "room is told by the ledger and learned times; see admission",
        "round-robin-fairness-policy": "tenants get fair shares of the work; see admission",
        "global-strict-fairness-policy": "tenants get fair shares of the work; see admission",
        "fcfs-ordering-policy": "a tenant's requests go in order of arrival",
        "edf-ordering-policy": "a tenant's requests go in order of arrival",
        "slo-deadline-ordering-policy": "a tenant's requests go in order of arrival",
        "static-usage-limit-policy": "room is told by the ledger and learned times; see admission",
        "openai-parser": "the API is told by the path",
        "anthropic-parser": "the API is told by the path",
        "passthrough-parser": "the API is told by the path",
        "metrics-data-source": "see probes",
        "core-metrics-extractor": "engines are detected",
        "models-data-source": "models are always read",
        "models-data-extractor": "models are always read",
        "token-producer": "see tokenizers",
        "tokenizer": "see tokenizers",
        "destination-endpoint-served-verifier": "who served is always read",
    }
)
"""Type -> why it needs no counterpart."""

FILTERED: Final = frozenset({"prefix-cache-affinity-filter", "slo-headroom-tier-filter"})
"""Filters that only make sense with the predictor; they go with `PREDICTING`."""


def supported() -> list[str]:
    """All types that a file may have."""
    return sorted({*SCORERS, *PICKERS, *PREDICTING, *FILTERED, *BUILT_IN, TEST_SELECTION})
