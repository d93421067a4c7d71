"""What an engine counts, in plain numbers: `bench.fleet.metrics` gives them their names."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.fleet.engine.sequence import Sequence as TokenSequence


def _floats(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split()))


# vLLM's own buckets, in seconds.
TTFT_BOUNDS = _floats(
    ".001 .005 .01 .02 .04 .06 .08 .1 .25 .5 .75 1 2.5 5 7.5 10 20 40 80 160 640 2560"
)
ITL_BOUNDS = _floats(".01 .025 .05 .075 .1 .15 .2 .3 .4 .5 .75 1 2.5 5 7.5 10 20 40 80")
REQUEST_BOUNDS = _floats(".3 .5 .8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680")
STEP_BOUNDS = tuple(float(2**power) for power in range(15))


def token_bounds(most: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, 50, ... up to ``most``."""
    bounds = []
    power = 1
    while power <= most:
        bounds += [float(power * digit) for digit in (1, 2, 5) if power * digit <= most]
        power *= 10
    return tuple(bounds)


class Histogram:
    """Counts of observations at or below each bound, and their sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)


def _seconds() -> Histogram:
    return Histogram(REQUEST_BOUNDS)


@dataclass(slots=True)
class Stats:
    """Counters and histograms of one engine since it started; times in seconds."""

    context_length: int
    prompt_tokens: int = 0
    prompt_tokens_cached: int = 0
    generation_tokens: int = 0
    prefix_queried_tokens: int = 0
    prefix_hit_tokens: int = 0
    external_queried_tokens: int = 0
    external_hit_tokens: int = 0
    received_tokens: int = 0
    """Prompt tokens whose KV came from another server."""
    preemptions: int = 0
    rejected: int = 0
    finished: Counter[str] = field(default_factory=Counter)
    time_to_first_token: Histogram = field(default_factory=lambda: Histogram(TTFT_BOUNDS))
    inter_token_latency: Histogram = field(default_factory=lambda: Histogram(ITL_BOUNDS))
    time_per_output_token: Histogram = field(default_factory=lambda: Histogram(ITL_BOUNDS))
    end_to_end: Histogram = field(default_factory=_seconds)
    queue: Histogram = field(default_factory=_seconds)
    inference: Histogram = field(default_factory=_seconds)
    prefill: Histogram = field(default_factory=_seconds)
    decode: Histogram = field(default_factory=_seconds)
    step_tokens: Histogram = field(default_factory=lambda: Histogram(STEP_BOUNDS))
    request_prompt_tokens: Histogram = field(init=False)
    request_generation_tokens: Histogram = field(init=False)

    def __post_init__(self) -> None:
        self.request_prompt_tokens = Histogram(token_bounds(self.context_length))
        self.request_generation_tokens = Histogram(token_bounds(self.context_length))

    def admitted(self, sequence: TokenSequence, *, offloading: bool) -> None:
        """A sequence left the waiting queue for the first time.

        As in vLLM, the second tier (``offloading``) is asked for what the first one lacks.
        """
        local = sequence.cached_tokens - sequence.loaded_tokens - sequence.received_tokens
        self.prefix_queried_tokens += len(sequence.prompt)
        self.prefix_hit_tokens += local
        self.received_tokens += sequence.received_tokens
        self.external_hit_tokens += sequence.received_tokens
        if sequence.received_tokens and not offloading:
            self.external_queried_tokens += len(sequence.prompt) - local
        if offloading:
            self.external_queried_tokens += len(sequence.prompt) - local
            self.external_hit_tokens += sequence.loaded_tokens

    def prefilled(self, sequence: TokenSequence) -> None:
        """The whole prompt is computed."""
        self.prompt_tokens += len(sequence.prompt)
        self.prompt_tokens_cached += sequence.cached_tokens

    def token(self, sequence: TokenSequence, now: float) -> None:
        """A token was sampled at ``now``; the sequence's times still are those before it."""
        self.generation_tokens += 1
        if sequence.last_token_at is None:
            self.time_to_first_token.observe(now - sequence.arrival)
        else:
            self.inter_token_latency.observe(now - sequence.last_token_at)

    def ended(self, sequence: TokenSequence, now: float) -> None:
        """A sequence ended; as in vLLM, an aborted one is in no histogram of whole requests."""
        assert sequence.finish is not None
        self.finished[sequence.finish] += 1
        if sequence.finish == "abort":
            return
        assert sequence.scheduled_at is not None
        self.end_to_end.observe(now - sequence.arrival)
        self.queue.observe(sequence.scheduled_at - sequence.arrival)
        self.request_prompt_tokens.observe(len(sequence.prompt))
        self.request_generation_tokens.observe(sequence.generated)
        if sequence.first_token_at is None or sequence.last_token_at is None:
            return  # it only pooled
        self.inference.observe(sequence.last_token_at - sequence.scheduled_at)
        self.prefill.observe(sequence.first_token_at - sequence.scheduled_at)
        decode = sequence.last_token_at - sequence.first_token_at
        self.decode.observe(decode)
        if sequence.generated > 1:
            self.time_per_output_token.observe(decode / (sequence.generated - 1))
