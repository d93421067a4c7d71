"""Changes of a cache as the messages that engines publish.

A batch is a msgpack array ``[unix seconds, [event, ...], data-parallel rank]``. Names and order
of an event's fields follow vLLM's ``distributed/kv_events.py`` and SGLang's
``disaggregation/kv_events.py``:

- ``map``: ``{"type": "BlockStored", "block_hashes": [...], "parent_block_hash": ..., ...}``;
- ``array``: ``["BlockStored", hashes, parent, token_ids, block_size, lora_id, medium, lora_name,
  extra_keys]``; what enters the CPU's memory is only named, without tokens, as vLLM's
  offloading did then;
- ``sglang``: ``["BlockStored", [hash], parent, token_ids, block_size, lora_id, medium]``, one
  block an event.

``extra_keys`` has an entry a block: the adapter's name, for a prompt's first block followed by
the cache salt, or nil when there is neither.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any, TypeAlias

import msgspec

from bench.fleet.engine.cache import Tier
from bench.fleet.engine.changes import Change, Cleared, Removed, Stored
from bench.fleet.settings import EventEncoding, HashForm, KvEventSettings

_Hash: TypeAlias = int | bytes
_Event: TypeAlias = dict[str, Any] | list[Any]

_RANK = 0
_SGLANG_MEDIA = {Tier.GPU: "GPU", Tier.CPU: "CPU_PINNED"}

_encode = msgspec.msgpack.Encoder().encode


class Encoder:
    """One publisher's way to say things.

    ``mask`` (64 bits) makes its hashes its own: engines seed theirs at random, so a block has
    another name on every replica, and nobody may compare them.
    """

    def __init__(self, settings: KvEventSettings, block_size: int, mask: int) -> None:
        self.mask = mask
        self._settings = settings
        self._block_size = block_size
        self._adapter_ids: dict[str, int] = {}

    def batch(self, changes: Iterable[Change], now: float) -> bytes:
        """The payload of one message; ``now`` in Unix seconds."""
        match self._settings.encoding:
            case EventEncoding.MAP:
                events = [self._map(change) for change in changes]
            case EventEncoding.ARRAY:
                events = [self._array(change) for change in changes]
            case EventEncoding.SGLANG:
                events = [event for change in changes for event in self._sglang(change)]
        return _encode([now, events, _RANK])

    def _map(self, change: Change) -> _Event:
        match change:
            case Stored():
                return {
                    "type": "BlockStored",
                    "block_hashes": self._hashes(change.blocks),
                    "parent_block_hash": self._parent(change.parent),
                    "token_ids": list(change.tokens),
                    "block_size": self._block_size,
                    "lora_id": self._adapter_id(change.adapter),
                    "medium": change.tier.value,
                    "lora_name": change.adapter,
                    "extra_keys": _extra_keys(change),
                    "group_idx": 0,
                    "kv_cache_spec_kind": "full_attention",
                }
            case Removed():
                return {
                    "type": "BlockRemoved",
                    "block_hashes": self._hashes((change.block,)),
                    "medium": change.tier.value,
                    "group_idx": 0,
                }
            case Cleared():
                return {"type": "AllBlocksCleared"}

    def _array(self, change: Change) -> _Event:
        match change:
            case Stored(tier=Tier.CPU):
                return ["BlockStored", self._hashes(change.blocks), None, [], 0, None, "CPU"]
            case Stored():
                return [
                    "BlockStored",
                    self._hashes(change.blocks),
                    self._parent(change.parent),
                    list(change.tokens),
                    self._block_size,
                    self._adapter_id(change.adapter),
                    change.tier.value,
                    change.adapter,
                    _extra_keys(change),
                ]
            case Removed():
                return ["BlockRemoved", self._hashes((change.block,)), change.tier.value]
            case Cleared():
                return ["AllBlocksCleared"]

    def _sglang(self, change: Change) -> Iterator[_Event]:
        match change:
            case Stored():
                size = self._block_size
                parent = change.parent
                for index, block in enumerate(change.blocks):
                    tokens = list(change.tokens[index * size : (index + 1) * size])
                    yield [
                        "BlockStored",
                        [self._hash(block)],
                        self._parent(parent),
                        tokens,
                        size,
                        None,
                        _SGLANG_MEDIA[change.tier],
                    ]
                    parent = block
            case Removed():
                yield ["BlockRemoved", [self._hash(change.block)], _SGLANG_MEDIA[change.tier]]
            case Cleared():
                yield ["AllBlocksCleared"]

    def _parent(self, block: int | None) -> _Hash | None:
        return None if block is None else self._hash(block)

    def _hashes(self, blocks: Sequence[int]) -> list[_Hash]:
        return [self._hash(block) for block in blocks]

    def _hash(self, block: int) -> _Hash:
        name = block ^ self.mask
        if self._settings.hashes is HashForm.BYTES:
            short = name.to_bytes(8, "big")
            return sha256(short).digest()[:24] + short
        if self._settings.encoding is EventEncoding.SGLANG and name >> 63:
            return name - (1 << 64)
        return name

    def _adapter_id(self, name: str | None) -> int | None:
        """A number for each adapter in the order of their first use, from 1."""
        if name is None:
            return None
        return self._adapter_ids.setdefault(name, len(self._adapter_ids) + 1)


def _extra_keys(change: Stored) -> list[list[str] | None]:
    adapter = [] if change.adapter is None else [change.adapter]
    keys = [adapter or None] * len(change.blocks)
    if change.cache_salt is not None and change.parent is None:
        keys[0] = [*adapter, change.cache_salt]
    return keys
