"""A prefix cache of fixed-size blocks with LRU eviction, as engines with paged attention have it.

A block is blank, *pinned* by at least one sequence, or *idle*: cached, and free to be taken.
Blocks that hold a whole block of known tokens are named by their chain hash and can be shared;
a sequence's other blocks (the unfinished last one, and a second copy of a block that somebody
computed at the same time) are its own and only counted.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence


class PrefixCache:
    """``capacity`` blocks, by chain hash. Pure bookkeeping: there is no data behind it."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._pins: dict[int, int] = {}  # hash -> how many sequences hold it
        self._idle: OrderedDict[int, None] = OrderedDict()  # least recently used first
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

    def __len__(self) -> int:
        """How many blocks can be found by their hash."""
        return len(self._pins) + len(self._idle)

    def __contains__(self, block: int) -> bool:
        return block in self._pins or block in self._idle

    def match(self, chain: Sequence[int]) -> int:
        """How many leading blocks of the chain are cached."""
        for index, block in enumerate(chain):
            if block not in self._pins and block not in self._idle:
                return index
        return len(chain)

    def acquire(self, cached: Sequence[int], private: int) -> bool:
        """Pin blocks that `match` found and take ``private`` new ones, or do nothing at all.

        Returns False, and changes nothing, when there are not enough free blocks.
        """
        woken = sum(block in self._idle for block in cached)
        if woken + private > self.free:
            return False
        for block in cached:
            self._idle.pop(block, None)
            self._pins[block] = self._pins.get(block, 0) + 1
        self._take(private)
        return True

    def share(self, block: int) -> bool:
        """Name one of the caller's private blocks; False when another copy has that name already.

        On False the block stays private.
        """
        if block in self:
            return False
        self._private -= 1
        self._pins[block] = 1
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
        """Forget everything that is idle; False, and nothing changes, while blocks are pinned."""
        if self.pinned:
            return False
        self._idle.clear()
        return True

    def _take(self, count: int) -> None:
        blank = self.capacity - self.pinned - len(self._idle)
        for _ in range(count - blank):
            self._idle.popitem(last=False)
        self._private += count
