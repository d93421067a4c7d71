"""A prefix cache of fixed-size blocks with LRU eviction, as engines with paged attention have it.

A block is blank, *pinned* by at least one sequence, or *idle*: cached, and free to be taken.
Blocks that hold a whole block of known tokens are named by their chain hash and can be shared;
a sequence's other blocks (the unfinished last one, and a second copy of a block that somebody
computed at the same time) are its own and only counted.

Behind the GPU's memory there may be a second tier, the CPU's: blocks that are evicted move
there, least recently used ones leave it, and what is found there is copied back when it is
acquired. A block that came back stays in the CPU's memory too, so its next eviction is free.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Protocol


class Tier(Enum):
    """A memory that holds blocks, by the name that engines give it in their events."""

    GPU = "GPU"
    CPU = "CPU"


class Listener(Protocol):
    """Whoever is told of every change to what can be found, in order."""

    def stored(self, block: int, tier: Tier) -> None:
        """The block can be found in a tier where it was not before."""

    def removed(self, block: int, tier: Tier) -> None:
        """The block left a tier."""

    def cleared(self) -> None:
        """Nothing can be found any more."""


class PrefixCache:
    """``capacity`` blocks, by chain hash. Pure bookkeeping: there is no data behind it.

    ``cpu_capacity`` is the size of the second tier in blocks, 0 for none.
    """

    def __init__(
        self, capacity: int, *, cpu_capacity: int = 0, listener: Listener | None = None
    ) -> None:
        self.capacity = capacity
        self.cpu_capacity = cpu_capacity
        self._listener = listener
        self._pins: dict[int, int] = {}  # hash -> how many sequences hold it
        self._idle: OrderedDict[int, None] = OrderedDict()  # least recently used first
        self._offloaded: OrderedDict[int, None] = OrderedDict()  # the CPU's, in the same order
        self._private = 0

    @property
    def pinned(self) -> int:
        """Blocks that live sequences hold."""
        return len(self._pins) + self._private

    @property
    def free(self) -> int:
        """Blocks that can be taken: blank ones, and idle ones at the price of what they hold."""
        return self.capacity - self.pinned

    @property
    def usage(self) -> float:
        """The share of blocks that are pinned, 0 to 1; idle blocks count as free."""
        return self.pinned / self.capacity

    @property
    def offloaded(self) -> int:
        """How many blocks the CPU's memory holds."""
        return len(self._offloaded)

    def __len__(self) -> int:
        """How many blocks of the GPU can be found by their hash."""
        return len(self._pins) + len(self._idle)

    def __contains__(self, block: int) -> bool:
        """Whether the GPU holds the block."""
        return block in self._pins or block in self._idle

    def match(self, chain: Sequence[int]) -> int:
        """How many leading blocks of the chain are cached, in either tier."""
        for index, block in enumerate(chain):
            if block not in self._pins and block not in self._idle and block not in self._offloaded:
                return index
        return len(chain)

    def to_load(self, cached: Sequence[int]) -> int:
        """How many of the blocks that `match` found only the CPU's memory holds."""
        if not self._offloaded:
            return 0
        return sum(block not in self for block in cached)

    def acquire(self, cached: Sequence[int], private: int) -> bool:
        """Pin blocks that `match` found and take ``private`` new ones, or do nothing at all.

        Those that only the CPU's memory holds are loaded into further new ones. Returns False,
        and changes nothing, when there are not enough free blocks.
        """
        woken = sum(block in self._idle for block in cached)
        loads = [block for block in cached if block not in self] if self._offloaded else []
        if woken + len(loads) + private > self.free:
            return False
        # What is to be loaded may not be evicted by what makes room for it.
        for block in loads:
            del self._offloaded[block]
        for block in cached:
            if block in self:
                self._idle.pop(block, None)
                self._pins[block] = self._pins.get(block, 0) + 1
        self._take(len(loads) + private, self.cpu_capacity - len(loads))
        for block in loads:
            self._offloaded[block] = None
            self.share(block)
        return True

    def share(self, block: int) -> bool:
        """Name one of the caller's private blocks; False when another copy has that name already.

        On False the block stays private.
        """
        if block in self:
            return False
        self._private -= 1
        self._pins[block] = 1
        if self._listener is not None:
            self._listener.stored(block, Tier.GPU)
        return True

    def release(self, shared: Iterable[int], private: int) -> None:
        """Give blocks back: ``shared`` in prompt order, so that a prompt's end is evicted first."""
        self._private -= private
        for block in reversed(tuple(shared)):
            holders = self._pins[block] - 1
            if holders:
                self._pins[block] = holders
            else:
                del self._pins[block]
                self._idle[block] = None

    def clear(self) -> bool:
        """Forget both tiers; False, and nothing changes, while blocks are pinned."""
        if self.pinned:
            return False
        self._idle.clear()
        self._offloaded.clear()
        if self._listener is not None:
            self._listener.cleared()
        return True

    def _take(self, count: int, cpu_room: int) -> None:
        blank = self.capacity - self.pinned - len(self._idle)
        for _ in range(count - blank):
            block, _ = self._idle.popitem(last=False)
            self._offload(block, cpu_room)
            if self._listener is not None:
                self._listener.removed(block, Tier.GPU)
        self._private += count

    def _offload(self, block: int, room: int) -> None:
        """Keep a block that leaves the GPU in the CPU's memory, which may hold ``room`` blocks."""
        if block in self._offloaded:
            self._offloaded.move_to_end(block)
            return
        if room <= 0:
            return
        while len(self._offloaded) >= room:
            oldest, _ = self._offloaded.popitem(last=False)
            if self._listener is not None:
                self._listener.removed(oldest, Tier.CPU)
        self._offloaded[block] = None
        if self._listener is not None:
            self._listener.stored(block, Tier.CPU)
