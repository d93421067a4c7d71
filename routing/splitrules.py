"""What can be set of splitting requests, and the words for why a request was split or not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from types import MappingProxyType
from typing import Final

from routing.transfer import Link

ADAPTIVE: Final = "adaptive"
ALWAYS: Final = "always"
NEVER: Final = "never"
THRESHOLD: Final = "threshold"
DYNAMO: Final = "dynamo"
MODES: Final = (ADAPTIVE, ALWAYS, NEVER, THRESHOLD, DYNAMO)
"""How it is decided whether to split."""


class SplitReason(Enum):
    """Why a request was split, or why not; the values are labels of a metric."""

    __hash__ = object.__hash__

    # Split:
    CHEAPER = "cheaper"  # the pair's predicted cost is lower
    WARM = "warm_kv"  # and the prefill endpoint holds prefix that the decode endpoint lacks
    BURST = "burst"  # and it is one that also decodes
    ALWAYS = "always"
    THRESHOLD = "threshold"
    DYNAMO = "dynamo"
    # Not split:
    WHOLE_CHEAPER = "whole_cheaper"
    CACHED = "cached"  # the decode endpoint holds (nearly) all of the prompt
    SHORT_ANSWER = "short_answer"  # nothing is left to decode
    UNSPLITTABLE = "unsplittable"  # several prompts, or none
    NO_PAIR = "no_pair"  # no prefill endpoint that goes with a decode endpoint
    BELOW = "below_threshold"
    QUEUED = "prefill_queue"  # Dynamo's second condition
    GUARD_PREFILL = "guard_prefill"
    GUARD_DECODE = "guard_decode"
    GUARD_STRANDED = "guard_stranded"
    NEVER = "never"


SPLIT: Final = frozenset(
    {
        SplitReason.CHEAPER.value,
        SplitReason.WARM.value,
        SplitReason.BURST.value,
        SplitReason.ALWAYS.value,
        SplitReason.THRESHOLD.value,
        SplitReason.DYNAMO.value,
    }
)
"""The reasons that go with a split."""


@dataclass(frozen=True, slots=True)
class DisaggregationSettings:
    """What the decision to split is told rather than learns. Sizes in tokens, times in seconds.

    - ``mode``: one of `MODES`;
    - ``bytes_per_token``: of KV cache, the model's: 2 x layers x KV heads x head size x bytes of
      a number; ``model_bytes_per_token`` for single models;
    - ``bandwidth`` (bytes/s) of a pair, ``latency`` of a transfer, ``links``: bandwidths by
      topology level, the most local one first;
    - ``threshold_tokens``: of ``threshold``; ``dynamo_local_tokens`` and ``dynamo_queue`` of
      ``dynamo``: what is computed where it is decoded at most, and requests in a prefill
      endpoint's queue from which it gets no more;
    - ``fewest_tokens``: ``adaptive`` does not split when the decode endpoint lacks fewer;
    - ``least_gain``: share of the whole request's cost that a pair must save; below 0, what it may
      cost more: keeping prompts away from who decodes helps those, too, who are yet to come;
    - ``pace_share``, ``stall_share``: see `routing.pairs`; twice as much of either buys ITL with
      goodput, half as much the other way round; ``miss_share``: what a missed target costs, in
      TTFT targets; ``busy_seconds``: over which it is measured how busy with prompts endpoints are
      (`routing.busyness`);
    - ``most_prefill_wait``: of a prefill endpoint, in units of the request's TTFT target;
      ``most_kv_usage``: share of an endpoint's KV memory above which requests wait for room;
      ``most_stranded``: share of a prefill endpoint's KV memory that may lie there for nobody.
    """

    mode: str = ADAPTIVE
    bytes_per_token: float = 131_072.0
    model_bytes_per_token: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    bandwidth: float = 12.5e9
    latency: float = 0.010
    links: tuple[Link, ...] = ()
    threshold_tokens: float = 512.0
    dynamo_local_tokens: float = 1_000.0
    dynamo_queue: int = 2
    fewest_tokens: float = 256.0
    least_gain: float = -0.02
    pace_share: float = 2.0
    stall_share: float = 2.0
    miss_share: float = 1.0
    busy_seconds: float = 10.0
    most_prefill_wait: float = 2.0
    most_kv_usage: float = 0.9
    most_stranded: float = 0.2

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            close = get_close_matches(self.mode, MODES, n=1)
            hint = f"did you mean {close[0]}?" if close else f"choose {', '.join(MODES)}"
            raise ValueError(f"mode is {self.mode!r}: {hint}")
        above = {
            "bytes_per_token": self.bytes_per_token,
            "bandwidth": self.bandwidth,
            "pace_share": self.pace_share,
            "busy_seconds": self.busy_seconds,
            "most_prefill_wait": self.most_prefill_wait,
            "most_kv_usage": self.most_kv_usage,
        }
        for model, size in self.model_bytes_per_token.items():
            above[f"model_bytes_per_token[{model}]"] = size
        for link in self.links:
            above[f"links[{link.label}].bytes_per_second"] = link.bytes_per_second
        for name, value in above.items():
            if not value > 0.0:
                raise ValueError(f"{name} is {value}; it must be above 0")
        for name, value in (
            ("latency", self.latency),
            ("threshold_tokens", self.threshold_tokens),
            ("dynamo_local_tokens", self.dynamo_local_tokens),
            ("dynamo_queue", float(self.dynamo_queue)),
            ("fewest_tokens", self.fewest_tokens),
            ("stall_share", self.stall_share),
            ("miss_share", self.miss_share),
            ("most_stranded", self.most_stranded),
        ):
            if not value >= 0.0:
                raise ValueError(f"{name} is {value}; it must not be negative")
