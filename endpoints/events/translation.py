"""From one publisher's block hashes to ours.

An engine's hashes depend on its algorithm, its seed and its version, so they serve only as
names here: of each block that a publisher announces, our own hash is computed from its token
ids and remembered under the engine's hash, for as long as the engine keeps the block. So

- the block that an event continues, and the blocks that it removes, are found by name;
- blocks that continue a block that was never announced can't be placed, and are counted;
- events without token ids (vLLM's offloading says only "these are in CPU memory now") name
  blocks that were announced before.

In models whose layers cache differently each group of layers tells its own events. Only groups
with full attention keep whole prefixes: the others (sliding windows, state-space layers) are
left out, as their blocks say nothing of what can be reused.
"""

from collections.abc import Iterable, Sequence

import msgspec

from endpoints.events.decoding import AllBlocksCleared, BlockRemoved, BlockStored, Event
from endpoints.events.health import FeedHealth, count_name
from endpoints.events.media import tier_of
from routing.prefix.residency import Residency, Tier
from routing.prefix.tokens import continued, root_of, token_salt

HOLDING_BYTES = 80 + 48 + 48
"""What a translator keeps for each block in each tier: a dict entry and two hashes."""

_FULL = frozenset({"full_attention", "mla_attention", "sink_full_attention"})


class Translator:
    """Applies one publisher's events to the view of ``endpoint`` in ``residency``.

    ``alone``: no other publisher (of another data-parallel rank) reports for that endpoint, so
    clearing ours clears the endpoint.
    """

    def __init__(
        self, endpoint: str, residency: Residency, health: FeedHealth, *, alone: bool = True
    ) -> None:
        self._endpoint = endpoint
        self._residency = residency
        self._health = health
        self._alone = alone
        self._known: tuple[dict[int, int], ...] = tuple({} for _ in Tier)
        self._copies: tuple[dict[int, int], ...] = tuple({} for _ in Tier)  # where more than one
        self._skipped_groups: set[int] = set()

    def __len__(self) -> int:
        """Engine hashes remembered, all tiers together."""
        return sum(len(known) for known in self._known)

    def apply(self, events: Iterable[Event]) -> None:
        """Apply events in order. Removals in a row are applied together."""
        gone: list[int] = []
        gone_from = Tier.GPU
        for event in events:
            if isinstance(event, BlockRemoved):
                if event.group_idx is not None and event.group_idx in self._skipped_groups:
                    continue
                tier = self._tier(event)
                if tier is not gone_from and gone:
                    self._remove(gone, gone_from)
                    gone = []
                gone_from = tier
                gone += event.block_hashes
                continue
            if gone:
                self._remove(gone, gone_from)
                gone = []
            if isinstance(event, BlockStored):
                self._store(event)
            elif isinstance(event, AllBlocksCleared):
                self.clear()
        if gone:
            self._remove(gone, gone_from)

    def clear(self) -> None:
        """The engine's cache is empty, or nothing of it is known any more."""
        if self._alone:
            self._residency.cleared(self._endpoint)
        else:
            for tier, known, copies in zip(Tier, self._known, self._copies, strict=True):
                ours = [*known.values()]
                ours += [known[name] for name, more in copies.items() for _ in range(more)]
                self._residency.removed(self._endpoint, ours, tier)
        for table in (*self._known, *self._copies):
            table.clear()
        self._skipped_groups.clear()

    # -- storing ---------------------------------------------------------------------------

    def _store(self, event: BlockStored) -> None:
        health = self._health
        names = event.block_hashes
        if not names:
            return
        health.stored_events += 1
        if self._of_other_kind(event):
            health.unsupported_groups += 1
            if event.group_idx is not None:
                self._skipped_groups.add(event.group_idx)
            return
        tier = self._tier(event)
        if not event.token_ids:
            self._store_known(names, tier)
            return
        size = self._residency.size_of(self._endpoint)
        if len(event.token_ids) != len(names) * event.block_size:
            health.misshapen_events += 1
        elif size is not None and size != event.block_size and self._has_blocks():
            health.other_block_size += 1
            health.foreign_block_tokens = event.block_size
        else:
            parent = self._parent(event)
            if parent is not None:
                blocks = self._chain(event, parent)
                if blocks is not None:
                    self._keep(names, blocks, event.block_size, tier)
                    return
            else:
                health.unknown_parents += 1
        health.unplaced_blocks += len(names)

    def _has_blocks(self) -> bool:
        return self._residency.blocks(self._endpoint) > 0

    def _keep(self, names: Sequence[int], blocks: list[int], size: int, tier: Tier) -> None:
        """Tell the view, and remember the names of what it kept."""
        kept = self._residency.stored(self._endpoint, size, blocks, tier)
        self._health.stored_blocks += kept
        if kept < len(blocks):
            self._health.unplaced_blocks += len(blocks) - kept
            names, blocks = names[:kept], blocks[:kept]
        known = self._known[tier]
        fresh = dict(zip(names, blocks, strict=True))
        if len(fresh) == kept and known.keys().isdisjoint(fresh):
            known.update(fresh)
            return
        copies = self._copies[tier]
        for name, block in zip(names, blocks, strict=True):
            before = known.get(name)
            if before is None:
                known[name] = block
                continue
            copies[name] = copies.get(name, 0) + 1
            if before != block:  # one name for two contents: only the first can be found again
                self._residency.removed(self._endpoint, (block,), tier)
                self._residency.stored(self._endpoint, size, (before,), tier)

    def _store_known(self, names: Sequence[int], tier: Tier) -> None:
        """Blocks that were announced before are in this tier now, too."""
        found = [(name, block) for name in names if (block := self._find(name)) is not None]
        missing = len(names) - len(found)
        if missing:
            self._health.unknown_parents += 1
            self._health.unplaced_blocks += missing
        size = self._residency.size_of(self._endpoint)
        if found and size is not None:
            self._keep([name for name, _ in found], [block for _, block in found], size, tier)

    def _parent(self, event: BlockStored) -> int | None:
        """Our hash of what the event continues; None when that was never announced."""
        name = event.parent_block_hash
        if name is not None:
            parent = self._find(name)
            if parent is not None or name != 0:
                return parent
        # No parent. (Some publishers write 0 for it; no engine's hash is 0 in practice.)
        return root_of(token_salt(_adapter(event), _cache_salt(event)))

    def _find(self, name: int) -> int | None:
        for known in self._known:
            block = known.get(name)
            if block is not None:
                return block
        return None

    def _chain(self, event: BlockStored, parent: int) -> list[int] | None:
        """Our hashes of the event's blocks; None, counted, when the token ids are none."""
        keys = event.extra_keys
        try:
            if keys is None or not any(keys):
                return continued(parent, event.token_ids, event.block_size)
            return continued(parent, event.token_ids, event.block_size, _extras(event, keys))
        except ValueError as error:
            self._health.malformed_events += 1
            self._health.last_problem = str(error)
            return None

    def _of_other_kind(self, event: BlockStored) -> bool:
        """Whether the event is of a group of layers that does not keep whole prefixes."""
        kind = event.kv_cache_spec_kind
        if kind is None:
            # Versions that number the groups but don't tell their kind: the first is taken.
            return event.kv_cache_spec_sliding_window is not None or event.group_idx not in {
                None,
                0,
            }
        return kind not in _FULL

    # -- removing --------------------------------------------------------------------------

    def _remove(self, names: Iterable[int], tier: Tier) -> None:
        known, copies = self._known[tier], self._copies[tier]
        gone: list[int] = []
        for name in names:
            if copies and name in copies:
                block = known[name]
                copies[name] -= 1
                if not copies[name]:
                    del copies[name]
                gone.append(block)
            else:
                left = known.pop(name, None)
                if left is not None:
                    gone.append(left)
        self._health.removed_blocks += len(gone)
        self._residency.removed(self._endpoint, gone, tier)

    def _tier(self, event: BlockStored | BlockRemoved) -> Tier:
        """The event's tier; an unknown medium counts as the farthest, so it's never overrated."""
        tier = tier_of(event.medium, event.locality)
        if tier is None:
            count_name(self._health.unknown_media, str(event.medium)[:80])
            return Tier.SHARED
        return tier


def _adapter(event: BlockStored) -> str | None:
    """The LoRA adapter; versions that number adapters get a name that no request can give."""
    if event.lora_name is not None or event.lora_id is None:
        return event.lora_name
    return f"\0{event.lora_id}"


def _cache_salt(event: BlockStored) -> str | None:
    """The request's cache salt: the only extra of a prompt's first block besides the adapter."""
    if event.extra_keys:
        first = _own_keys(event, event.extra_keys[0])
        if len(first) == 1 and isinstance(first[0], str):
            return first[0]
    return None


def _own_keys(event: BlockStored, keys: object) -> list[object]:
    """A block's extra keys without the adapter's name, which leads each of them."""
    listed = list(keys) if isinstance(keys, list | tuple) else [] if keys is None else [keys]
    if listed and event.lora_name is not None and listed[0] == event.lora_name:
        del listed[0]
    return listed


def _extras(event: BlockStored, keys: Sequence[object]) -> list[bytes]:
    """What each block was computed from besides token ids, adapter and cache salt, in bytes."""
    own = [_own_keys(event, of_block) for of_block in keys]
    if event.parent_block_hash in {None, 0} and _cache_salt(event) is not None:
        own[0] = []  # it is in the root already
    own += [[]] * (len(event.block_hashes) - len(own))
    return [msgspec.msgpack.encode(of_block) if of_block else b"" for of_block in own]
