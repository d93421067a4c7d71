"""What became cached and what was evicted, with the tokens behind it, in order."""

from dataclasses import dataclass
from typing import TypeAlias

from bench.fleet.engine.cache import Tier
from bench.fleet.engine.sequence import Sequence
from bench.fleet.engine.tokens import Tokens


@dataclass(slots=True)
class Stored:
    """Blocks became resident in a tier, each continuing the one before.

    ``parent`` is the block that the first one continues (None: a prompt begins), ``tokens``
    are those of all blocks, one after the other. ``adapter`` and ``cache_salt`` are what keeps
    these blocks apart from others with the same tokens.
    """

    tier: Tier
    blocks: list[int]
    parent: int | None
    tokens: Tokens
    adapter: str | None
    cache_salt: str | None


@dataclass(slots=True, frozen=True)
class Removed:
    """A block left a tier."""

    tier: Tier
    block: int


@dataclass(slots=True, frozen=True)
class Cleared:
    """Both tiers are empty."""


Change: TypeAlias = Stored | Removed | Cleared


@dataclass(slots=True)
class _Block:
    """What is known of a block for as long as any tier holds it (``tiers`` of them)."""

    parent: int | None
    tokens: Tokens
    adapter: str | None
    cache_salt: str | None
    tiers: int = 0


class ChangeLog:
    """Listens to a cache, and keeps what changed until it is taken.

    The cache knows hashes only, so whoever fills a block says first what is in it (`describe`).
    """

    def __init__(self) -> None:
        self._blocks: dict[int, _Block] = {}
        self._changes: list[Change] = []

    def describe(self, sequence: Sequence, index: int) -> None:
        """Note what the block at ``index`` of a sequence holds; it is about to be shared."""
        block = sequence.chain[index]
        if block not in self._blocks:
            self._blocks[block] = _Block(
                parent=sequence.chain[index - 1] if index else None,
                tokens=sequence.block(index),
                adapter=sequence.model if sequence.adapter else None,
                cache_salt=sequence.cache_salt,
            )

    def stored(self, block: int, tier: Tier) -> None:
        """As `Listener` says; a block that continues the last one joins its event."""
        known = self._blocks[block]
        known.tiers += 1
        last = self._changes[-1] if self._changes else None
        if isinstance(last, Stored) and last.tier is tier and last.blocks[-1] == known.parent:
            last.blocks.append(block)
            last.tokens += known.tokens
            return
        tokens = known.tokens[:]  # a copy: others may join
        self._changes.append(
            Stored(tier, [block], known.parent, tokens, known.adapter, known.cache_salt)
        )

    def removed(self, block: int, tier: Tier) -> None:
        """As `Listener` says."""
        known = self._blocks[block]
        known.tiers -= 1
        if not known.tiers:
            del self._blocks[block]
        self._changes.append(Removed(tier, block))

    def cleared(self) -> None:
        """As `Listener` says."""
        self._blocks.clear()
        self._changes.append(Cleared())

    def take(self) -> list[Change]:
        """What changed since the last call."""
        changes, self._changes = self._changes, []
        return changes
