"""Engines to simulate, by name.

The first is a roofline of a 70B model on four GPUs with 901 blocks of 512 tokens of KV cache. The
steps of the others follow what llm-d-inference-sim publishes, as the simulated model servers'
do; their caches are what is left of the GPUs' memory, at 90 % use, behind weights in FP16.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bench.fleet.settings import PRESETS as TIMINGS
from bench.fleet.settings import ServerSettings, Timing


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """One model on one kind of hardware. ``cache_tokens``: size of the KV cache.

    ``cpu_cache_tokens`` of evicted blocks are kept in the CPU's memory, which gives them back at
    ``cpu_load_rate`` tokens/s; what other engines hold can be fetched at ``peer_rate`` tokens/s
    (0: not at all). Loads and fetches go one after another, while others compute. What would be
    slower than computing is not fetched.
    """

    timing: Timing
    cache_tokens: int
    max_batched_tokens: int = 8_192
    max_sequences: int = 256
    cpu_cache_tokens: int = 0
    cpu_load_rate: float = 76_000.0  # 25 GB/s at the 327,680 bytes of a token of a 70B model
    peer_rate: float = 0.0

    def __post_init__(self) -> None:
        if self.max_sequences < 1:
            raise ValueError(f"max_sequences is {self.max_sequences}; it must be at least 1")
        if self.max_batched_tokens < self.max_sequences:
            raise ValueError(
                f"max_batched_tokens is {self.max_batched_tokens}; every sequence must be able "
                f"to decode in each step, so it must be at least max_sequences "
                f"({self.max_sequences})"
            )
        if self.cache_tokens < 1:
            raise ValueError(f"cache_tokens is {self.cache_tokens}; it must be at least 1")
        if self.cpu_cache_tokens < 0 or self.peer_rate < 0.0 or self.cpu_load_rate <= 0.0:
            raise ValueError(
                "cpu_cache_tokens and peer_rate must not be negative, cpu_load_rate must be above 0"
            )


PRESETS: Mapping[str, EngineSettings] = MappingProxyType(
    {
        "70b-h100x4": EngineSettings(TIMINGS["70b-h100x4"], cache_tokens=901 * 512),
        # 640 GB x 0.9 - 141 GB, at 327,680 bytes a token.
        "70b-h100x8": EngineSettings(TIMINGS["70b-h100x8"], cache_tokens=1_327_000),
        # llm-d's 73-capacity benchmark: 307,328 tokens of KV on two GPUs. Half the weights and
        # half the GPUs of the first: about the same times.
        "32b-h100x2": EngineSettings(
            Timing(
                step_base=0.013,
                prefill_token=0.000_065,
                decode_sequence=0.000_06,
                prefill_context=1.5e-9,
                decode_context=52e-9,
            ),
            cache_tokens=307_328,
        ),
        # 80 GB x 0.9 - 16 GB and 48 GB x 0.9 - 16 GB, at 131,072 bytes a token.
        "8b-h100": EngineSettings(TIMINGS["8b-h100"], cache_tokens=427_000),
        "8b-l40s": EngineSettings(TIMINGS["8b-l40s"], cache_tokens=207_000),
    }
)


def preset(name: str) -> EngineSettings:
    """The engine of that name; ValueError that lists the names when there is none."""
    try:
        return PRESETS[name]
    except KeyError:
        raise ValueError(f"unknown preset {name!r}: choose {', '.join(PRESETS)}") from None


def like(server: ServerSettings) -> EngineSettings:
    """The engine that a simulated model server of these settings has, without its jitter."""
    timing, scale = server.behaviour.timing, server.behaviour.time_scale
    return EngineSettings(
        Timing(
            step_base=timing.step_base * scale,
            prefill_token=timing.prefill_token * scale,
            decode_sequence=timing.decode_sequence * scale,
            prefill_context=timing.prefill_context * scale,
            decode_context=timing.decode_context * scale,
        ),
        cache_tokens=server.cache_tokens,
        max_batched_tokens=server.max_batched_tokens,
        max_sequences=server.max_num_seqs,
        cpu_cache_tokens=server.cpu_cache_tokens,
        cpu_load_rate=server.behaviour.cpu_load_rate / scale,
    )
