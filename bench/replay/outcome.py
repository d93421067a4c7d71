"""What a replay gives: what became of every request, and of every endpoint over time."""

from msgspec import Struct


class RequestOutcome(Struct, frozen=True, gc=False):
    """One request, in seconds of virtual time.

    ``first_token_at`` and ``finished_at`` are None when it did not get so far before the end
    of the replay (an honest loss, counted as such). ``predicted_cached``: what the router
    believed to be cached when it chose; ``cached``: what the engine found, of a split request the
    one that computed the prompt. ``prefill_endpoint``: that one, -1 when it was not split;
    ``moved_tokens``: whose KV moved; ``expired``: it was dropped before it could.
    """

    arrived_at: float
    endpoint: int
    prompt_tokens: int
    output_tokens: int
    cached: int
    predicted_cached: float
    predicted_ttft: float | None
    first_token_at: float | None
    finished_at: float | None
    prefill_endpoint: int = -1
    moved_tokens: int = 0
    expired: bool = False
    split_reason: str = ""

    @property
    def ttft(self) -> float | None:
        """Seconds to the first token."""
        return None if self.first_token_at is None else self.first_token_at - self.arrived_at

    @property
    def tpot(self) -> float | None:
        """Mean seconds between output tokens; None below two of them."""
        if self.finished_at is None or self.first_token_at is None or self.output_tokens < 2:
            return None
        return (self.finished_at - self.first_token_at) / (self.output_tokens - 1)


class Sample(Struct, frozen=True, gc=False):
    """One endpoint at one moment: requests running and waiting, share of its KV pinned."""

    at: float
    endpoint: int
    running: int
    waiting: int
    kv_usage: float


class Replay(Struct, frozen=True):
    """One policy on one workload. ``wall_seconds``: what the simulation itself took."""

    policy: str
    workload: str
    endpoints: int
    speed: float
    seed: int
    requests: list[RequestOutcome]
    samples: list[Sample]
    decision_seconds: float
    wall_seconds: float
    gaps: dict[int, int] = {}
    """Times between two tokens of a sequence: tokens by bucket of `bench.replay.engine`."""
