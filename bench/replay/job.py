"""One request in a simulated engine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Fetch = Callable[[int, float], float | None]
"""Reads so many tokens' KV from another engine, from now on; when it is there, None: it is gone."""


@dataclass(slots=True, eq=False)
class Job:
    """A prompt and its answer; ``chain`` has one hash for each whole block of the prompt.

    ``number`` is the caller's. The rest is the engine's: ``cached_tokens`` is what its first
    admission found (None before), ``generated`` counts as of when it began to decode.

    ``hold``: when it is done its blocks stay pinned, for another engine to read, until
    `Engine.free`. ``fetch``: its prompt was computed elsewhere and is read from there at its first
    admission; one token is computed here, as vLLM does. None: everything is computed here.
    """

    number: int
    chain: Sequence[int]
    prompt_tokens: int
    output_tokens: int
    hold: bool = False
    fetch: Fetch | None = None
    cached_tokens: int | None = None
    preemptions: int = 0
    computed: int = 0
    generated: int = 0
    expected_tokens: int = 0  # to compute, as the cache was when it came
    shared: list[int] = field(default_factory=list)  # its blocks that can be found
    private: int = 0  # and those that can't
    named: int = 0  # blocks of the chain that it shared, or found shared by others
    ready_at: float = 0.0  # when what it loads is there
    admission: int = -1
    decoding_since: int = -1  # the engine's step count; -1: it doesn't decode

    @property
    def length(self) -> int:
        """Tokens of the prompt and of what was generated before it began to decode."""
        return self.prompt_tokens + self.generated
