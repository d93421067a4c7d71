"""One prompt and its answer, as the scheduler sees them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from bench.fleet.engine.output import Output
from bench.fleet.engine.tokens import Tokens, chain, chain_root, tokens_of

Finish = Literal["stop", "length", "abort"]


@dataclass(slots=True, eq=False)
class Sequence:
    """A prompt with its decided answer; times are the engine's clock, in seconds.

    ``model`` is the adapter's name when ``adapter``. ``notify`` is called whenever a token was
    generated or the sequence finished; it may not raise.
    """

    prompt: Tokens
    output: Output
    model: str
    adapter: bool
    arrival: float
    block_size: int
    cache_salt: str | None = None
    notify: Callable[[], None] = lambda: None

    external: int = 0
    """Prompt tokens whose keys and values came from another server, and wait for blocks."""
    keep: "Callable[[Sequence], None] | None" = None
    """Takes the blocks over when the sequence ended well, instead of their being given back."""
    told_aborted: bool = False
    """Its answer says that it was aborted: a fault on purpose."""
    reported_cached: int | None = None
    """Cached tokens as its usage tells them, when that is not what the cache had."""
    received_tokens: int = 0
    """Tokens that the last admission had from another server."""

    computed: int = 0
    """Tokens whose keys and values are in the cache."""
    generated: int = 0
    cached_tokens: int = 0
    """Prompt tokens that the first admission found in the cache, in either tier."""
    loaded_tokens: int = 0
    """Tokens that the last admission brought back from the CPU's memory."""
    finish: Finish | None = None
    scheduled_at: float | None = None
    first_token_at: float | None = None
    last_token_at: float | None = None
    preemptions: int = 0

    shared: list[int] = field(default_factory=list)
    """Hashes of the cache blocks it holds, in order."""
    private: int = 0
    """Blocks it holds that have no name in the cache."""
    chain: list[int] = field(init=False)
    """Hashes of its whole blocks: the prompt's, then the answer's as it grows."""

    def __post_init__(self) -> None:
        self.chain = chain(self.prompt, self.block_size, chain_root(self.model, self.cache_salt))

    @property
    def length(self) -> int:
        """Tokens so far: the prompt and what was generated."""
        return len(self.prompt) + self.generated

    @property
    def remaining(self) -> int:
        """Tokens to compute before the next one can be sampled; 1 while decoding."""
        return self.length - self.computed

    @property
    def prefilling(self) -> bool:
        """Whether prompt tokens (or, after a preemption, lost ones) are still to be computed."""
        return self.remaining > 1 or self.generated == 0

    @property
    def held(self) -> int:
        """Cache blocks it holds."""
        return len(self.shared) + self.private

    def blocks_for(self, tokens: int) -> int:
        """How many blocks hold so many tokens."""
        return -(-tokens // self.block_size)

    def extend_chain(self) -> None:
        """Hash the blocks that generated tokens have filled."""
        size = self.block_size
        while (len(self.chain) + 1) * size <= self.length:
            root = self.chain[-1] if self.chain else chain_root(self.model, self.cache_salt)
            self.chain += chain(self.block(len(self.chain)), size, root)

    def block(self, index: int) -> Tokens:
        """The tokens of the whole block at ``index``."""
        start, end = index * self.block_size, (index + 1) * self.block_size
        if end <= len(self.prompt):
            return self.prompt[start:end]
        return tokens_of(self.token(position) for position in range(start, end))

    def token(self, index: int) -> int:
        """The token at ``index`` of prompt and answer together."""
        prompt = len(self.prompt)
        return self.prompt[index] if index < prompt else self.output.token(index - prompt)
