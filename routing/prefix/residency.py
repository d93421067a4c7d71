"""Who holds which block in which memory, exactly as the engines report it.

Where `routing.prefix.index.PrefixIndex` believes what requests suggest, this view knows: engines
that publish their cache's changes tell each block that they store and remove. Blocks are named
by the hashes of `routing.prefix.tokens`, so that one prompt's chain is looked up for the whole
fleet at once.

Each endpoint has a *slot*, a bit. A table a tier maps a block's hash to the set of its holders
as one integer of such bits, so that walking a prompt costs one look and, where the set changes,
one ``&`` a block, however many endpoints there are. Consecutive blocks that got their holders
together share one integer object, which the walk recognises by identity.

An endpoint's view is dropped in O(1): its slot is retired, never matches again, and its bits
are taken out of the tables in slices (`Residency.sweep`, and with every store). Only then is
the slot given to another.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence, Set
from enum import IntEnum
from heapq import heappop, heappush
from itertools import compress
from typing import NamedTuple

from routing.prefix.walk import runs, runs_anywhere
from routing.request import Chain

# What things weigh, rounded up to the allocator's 16 bytes: hash tables at the sparse end of
# what they reach under steady insertion and deletion (a slot in three used), each hash as an
# integer of its own. A set of several holders is charged to every block that has one.
BLOCK_BYTES = 80 + 48
"""A distinct block in a tier: its entry in the tier's table and its hash."""
HOLDING_BYTES = 80 + 48
"""A holder of a block: an entry in the endpoint's own table and, at worst, its hash again."""
SLOT_BYTES = 1024
"""An endpoint without blocks."""

_SWEEP_AHEAD = 16  # retired holdings given back with each store, besides one for each block


class Tier(IntEnum):
    """Where a block lies, from the nearest to the farthest."""

    GPU = 0
    CPU = 1
    DISK = 2
    SHARED = 3
    """Outside the endpoint's machine, or at a place nobody knows."""


class Held(NamedTuple):
    """Tokens of one prompt that an endpoint holds, as leading runs without a hole.

    ``gpu_tokens`` lie in the GPU's memory; ``reachable_tokens`` lie in some tier, so they need
    not be computed again (they are never fewer).
    """

    gpu_tokens: int
    reachable_tokens: int


class _Slot:
    """One view of one endpoint: its bit, and per tier how many copies of each block it has."""

    __slots__ = ("bit", "block_tokens", "held", "incomplete", "index")

    def __init__(self, index: int, bit: int) -> None:
        self.index = index
        self.bit = bit
        self.block_tokens: int | None = None
        self.incomplete = False
        self.held: tuple[dict[int, int], ...] = ({}, {}, {}, {})

    @property
    def blocks(self) -> int:
        return sum(len(held) for held in self.held)


class Residency:
    """The blocks that engines report as resident, within a hard byte budget.

    ``feeder_bytes`` is what the caller keeps besides for each block of each holder (the
    engine's own name of it, say); it is charged to the same budget. A store that would
    exceed the budget keeps the blocks that still fit and marks the endpoint as incomplete:
    nothing that is known is thrown out for it, since what a cache still holds stays useful.
    (An endpoint itself is never refused: with a full view, each further one adds `SLOT_BYTES`.)
    """

    def __init__(self, byte_budget: int, feeder_bytes: int = 0) -> None:
        if byte_budget <= 0:
            raise ValueError(f"byte_budget must be positive, not {byte_budget}")
        if feeder_bytes < 0:
            raise ValueError(f"feeder_bytes must not be negative, not {feeder_bytes}")
        self.byte_budget = byte_budget
        self.dropped = 0
        """Blocks that were reported but not kept, for lack of memory."""
        self._holding_bytes = HOLDING_BYTES + feeder_bytes
        self._tables: tuple[dict[int, int], ...] = ({}, {}, {}, {})
        self._holdings = 0  # (endpoint, tier, block) triples, those of retired slots included
        self._several = 0  # table entries with more than one holder
        self._slots: dict[str, _Slot] = {}
        self._names: list[str] = []  # by slot index
        self._bits: list[int] = []  # by slot index: the one object for "only this holder"
        self._free: list[int] = []  # a heap of slot indices, so that sets stay short
        self._retired: deque[_Slot] = deque()
        self._live_by_size: dict[int, int] = {}  # tokens a block -> live slots of that size

    # -- what is known ---------------------------------------------------------------------

    @property
    def sizes(self) -> Set[int]:
        """The block sizes, in tokens, that endpoints report in now."""
        return self._live_by_size.keys()

    @property
    def bytes_used(self) -> int:
        """Memory of everything held, by the weights at the top of this module."""
        return (
            sum(len(table) for table in self._tables) * BLOCK_BYTES
            + self._holdings * self._holding_bytes
            + self._several * self._set_bytes()
            + len(self._bits) * SLOT_BYTES
        )

    def __len__(self) -> int:
        """Distinct blocks in all tiers together; one in two tiers counts twice."""
        return sum(len(table) for table in self._tables)

    def blocks(self, endpoint: str) -> int:
        """Blocks that the endpoint holds, all tiers together; one in two tiers counts twice."""
        slot = self._slots.get(endpoint)
        return 0 if slot is None else slot.blocks

    def blocks_in(self, endpoint: str, tier: Tier) -> int:
        """Blocks that the endpoint holds in one tier."""
        slot = self._slots.get(endpoint)
        return 0 if slot is None else len(slot.held[tier])

    def size_of(self, endpoint: str) -> int | None:
        """Tokens in a block of the endpoint; None while it has not told."""
        slot = self._slots.get(endpoint)
        return None if slot is None else slot.block_tokens

    def covers(self, endpoint: str) -> bool:
        """Whether the endpoint reports its cache: holding nothing is then known, not guessed."""
        return endpoint in self._slots

    def incomplete(self, endpoint: str) -> bool:
        """Whether the endpoint may hold, or may have lost, more than is known here."""
        slot = self._slots.get(endpoint)
        return slot is not None and slot.incomplete

    def look(self, chains: Mapping[int, Chain]) -> dict[str, Held]:
        """What each endpoint holds of a prompt; only the endpoints that hold any of it.

        ``chains`` has the prompt in each block size that matters (`sizes`): tokens a block ->
        chain. An endpoint is matched with the chain of its own size.
        """
        found: dict[str, Held] = {}
        lower = [table for table in self._tables[1:] if table]
        for size, live in self._live_by_size.items():
            chain = chains.get(size)
            if chain is None:
                continue
            near = runs(self._tables[Tier.GPU], chain, live)
            if not lower:
                for holders, blocks in near:
                    held = Held(blocks * size, blocks * size)
                    found.update(dict.fromkeys(self._named(holders), held))
                continue
            in_gpu: dict[str, int] = {}
            for holders, blocks in near:
                in_gpu.update(dict.fromkeys(self._named(holders), blocks))
            for holders, blocks in runs_anywhere((self._tables[0], *lower), chain, live):
                reachable = blocks * size
                for name in self._named(holders):
                    found[name] = Held(in_gpu.get(name, 0) * size, reachable)
        return found

    # -- what engines report ---------------------------------------------------------------

    def stored(self, endpoint: str, block_tokens: int, hashes: Sequence[int], tier: Tier) -> int:
        """The endpoint holds these blocks now; returns how many of them, from the first, are kept.

        A block that it holds already counts as a second copy (of another rank, or another group
        of layers): it stays until as many are removed. Raises ValueError when the
        endpoint's blocks were of another size and are not all gone yet.
        """
        slot = self._reporting(endpoint)
        if slot.block_tokens != block_tokens:
            self._resize(endpoint, slot, block_tokens)
        if self._retired:
            self.sweep(len(hashes) + _SWEEP_AHEAD)
        room = self._room()
        if room < len(hashes):
            self.dropped += len(hashes) - room
            slot.incomplete = True
            hashes = hashes[:room]
        kept = len(hashes)
        held = slot.held[tier]
        fresh = dict.fromkeys(hashes, 1)
        if len(fresh) < kept or not held.keys().isdisjoint(fresh):
            for block in hashes:
                held[block] = held.get(block, 0) + 1
            # Its bit tells what was held before: the counts are ahead of the tables now.
            get, bit = self._tables[tier].get, slot.bit
            fresh = {block: 1 for block in fresh if not get(block, 0) & bit}
        else:
            held.update(fresh)
        self._holdings += len(fresh)
        table = self._tables[tier]
        if table.keys().isdisjoint(fresh):
            table.update(dict.fromkeys(fresh, slot.bit))
        else:
            self._join(table, fresh, slot.bit)
        return kept

    def removed(self, endpoint: str, hashes: Iterable[int], tier: Tier) -> None:
        """The endpoint lost one copy of each of these blocks; unknown ones don't matter."""
        slot = self._reporting(endpoint)
        held = slot.held[tier]
        table = self._tables[tier]
        for block in hashes:
            copies = held.get(block)
            if copies is None:
                continue
            if copies > 1:
                held[block] = copies - 1
                continue
            del held[block]
            self._leave(table, block, slot.bit)

    def follow(self, endpoint: str) -> None:
        """The endpoint reports its cache, even if it holds nothing yet."""
        self._reporting(endpoint)

    def cleared(self, endpoint: str) -> None:
        """The endpoint holds nothing any more; what it reports from now on is complete."""
        slot = self._slots.get(endpoint)
        if slot is None:
            self._reporting(endpoint)
            return
        if slot.blocks:
            size = slot.block_tokens
            self._retire(endpoint, slot)
            if not self._free and self.bytes_used + SLOT_BYTES > self.byte_budget:
                self.sweep(self._holdings)  # no room for one more slot: have this one back at once
            slot = self._reporting(endpoint)
            if size is not None:
                self._resize(endpoint, slot, size)
        slot.incomplete = False

    def mark_incomplete(self, endpoint: str) -> None:
        """Reports of the endpoint were missed: what is known of it may be wrong."""
        self._reporting(endpoint).incomplete = True

    def forget(self, endpoint: str) -> None:
        """The endpoint left, or reports no more. It never matches again."""
        slot = self._slots.get(endpoint)
        if slot is not None:
            self._retire(endpoint, slot)

    def sweep(self, max_blocks: int) -> int:
        """Give back up to ``max_blocks`` blocks of views that were dropped; returns how many."""
        swept = 0
        while self._retired:
            slot = self._retired[0]
            for table, held in zip(self._tables, slot.held, strict=True):
                while held:
                    if swept >= max_blocks:
                        return swept
                    self._leave(table, held.popitem()[0], slot.bit)
                    swept += 1
            self._retired.popleft()
            heappush(self._free, slot.index)
        return swept

    # -- slots -----------------------------------------------------------------------------

    def _reporting(self, endpoint: str) -> _Slot:
        slot = self._slots.get(endpoint)
        if slot is None:
            if self._free:
                index = heappop(self._free)
                self._names[index] = endpoint
            else:
                index = len(self._bits)
                self._bits.append(1 << index)
                self._names.append(endpoint)
            slot = self._slots[endpoint] = _Slot(index, self._bits[index])
            while self._retired and self.bytes_used > self.byte_budget:
                self.sweep(_SWEEP_AHEAD)
        return slot

    def _retire(self, endpoint: str, slot: _Slot) -> None:
        del self._slots[endpoint]
        self._take_size(slot)
        self._retired.append(slot)

    def _resize(self, endpoint: str, slot: _Slot, block_tokens: int) -> None:
        if block_tokens < 1:
            raise ValueError(f"block_tokens of {endpoint!r} must be positive, not {block_tokens}")
        if slot.blocks:
            raise ValueError(
                f"{endpoint!r} reports blocks of {block_tokens} tokens but holds some of "
                f"{slot.block_tokens}; call cleared() first"
            )
        self._take_size(slot)
        slot.block_tokens = block_tokens
        self._live_by_size[block_tokens] = self._live_by_size.get(block_tokens, 0) | slot.bit

    def _take_size(self, slot: _Slot) -> None:
        if slot.block_tokens is not None:
            left = self._live_by_size[slot.block_tokens] ^ slot.bit
            if left:
                self._live_by_size[slot.block_tokens] = left
            else:
                del self._live_by_size[slot.block_tokens]

    def _named(self, holders: int) -> Iterable[str]:
        """The endpoints of a set of slots."""
        if holders.bit_count() <= _FEW:
            names: list[str] = []
            while holders:
                last = holders.bit_length() - 1
                names.append(self._names[last])
                holders ^= self._bits[last]
            return names
        digits = bin(holders)[:1:-1].encode().translate(_AS_FLAGS)
        return compress(self._names, digits)

    # -- tables ----------------------------------------------------------------------------

    def _join(self, table: dict[int, int], blocks: Iterable[int], bit: int) -> None:
        """Enter a holder at blocks some of which have other holders."""
        before, after, first_other = -1, 0, False
        for block in blocks:
            holders = table.get(block)
            if holders is None:
                table[block] = bit
                continue
            if holders is not before:
                before, after = holders, holders | bit
                first_other = not holders & (holders - 1)
            if first_other:
                self._several += 1
            table[block] = after

    def _leave(self, table: dict[int, int], block: int, bit: int) -> None:
        """Take a holder off a block; a block that nobody holds goes."""
        self._holdings -= 1
        left = table[block] ^ bit
        if not left:
            del table[block]
        elif left & (left - 1):
            table[block] = left
        else:
            self._several -= 1
            table[block] = self._bits[left.bit_length() - 1]

    def _room(self) -> int:
        """How many more blocks surely fit, whoever else holds them."""
        left = self.byte_budget - self.bytes_used
        return max(0, left // (BLOCK_BYTES + self._holding_bytes + self._set_bytes()))

    def _set_bytes(self) -> int:
        """What a set of several holders weighs at most."""
        return 48 + len(self._bits) // 30 * 4


_FEW = 8  # holders up to which naming them one by one is faster
_AS_FLAGS = bytes.maketrans(b"01", b"\0\1")
