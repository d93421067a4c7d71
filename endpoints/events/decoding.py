"""KV-cache event messages as engines publish them, read into three kinds of events.

A message's payload is msgpack: a batch ``[unix seconds, [event, ...], data-parallel rank]``, its
rank left out by some, or the same as a map ``{ts, events, data_parallel_rank}``. An event is

- a map with its tag under ``type`` (vLLM since mid 2026), or
- an array that begins with its tag (vLLM before, SGLang), trailing defaults left out.

Both may come mixed in one batch. Block hashes are unsigned or signed 64-bit integers, or bytes
of which the last eight count, big-endian; here they are unsigned integers. Engines add fields
and events as they go: unknown fields are ignored, unknown events skipped and named, and one
malformed event does not cost the rest of its batch.

Nearly all messages are uniform, so two typed decoders are tried first; whatever they refuse
is read piece by piece. Field names and order follow vLLM's ``distributed/kv_events.py``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeAlias, TypeVar, cast

import msgspec
from msgspec import Meta, Struct

_T = TypeVar("_T")
_Hash: TypeAlias = Annotated[int, Meta(ge=0)]
_U64 = (1 << 64) - 1


class BlockStored(Struct, tag="BlockStored", gc=False):
    """Blocks became resident, each continuing the one before; ``token_ids`` of all of them.

    ``parent_block_hash`` is the block that the first one continues (None: a prompt begins).
    ``extra_keys`` has one entry a block: what went into its hash besides the token ids.
    ``group_idx`` and ``kv_cache_spec_*`` tell of which group of layers the blocks are, in
    models whose layers cache differently. ``medium`` is the memory, ``locality`` is REMOTE
    for blocks that lie elsewhere.
    """

    block_hashes: list[_Hash]
    parent_block_hash: _Hash | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None = None
    medium: str | None = None
    lora_name: str | None = None
    extra_keys: list[Any] | None = None
    group_idx: int | None = None
    kv_cache_spec_kind: str | None = None
    kv_cache_spec_sliding_window: int | None = None
    locality: str | None = None


class BlockRemoved(Struct, tag="BlockRemoved", gc=False):
    """Blocks left a memory."""

    block_hashes: list[_Hash]
    medium: str | None = None
    group_idx: int | None = None
    locality: str | None = None


class AllBlocksCleared(Struct, tag="AllBlocksCleared", gc=False):
    """The whole cache is empty."""


Event: TypeAlias = BlockStored | BlockRemoved | AllBlocksCleared


class Batch(Struct, array_like=True, gc=False):
    """The events of one message, in order.

    ``ts`` is the publisher's clock in Unix seconds. ``unknown`` has the tags of the events
    that were skipped, ``malformed`` says what is wrong with each that could not be read.
    """

    ts: float
    events: list[BlockStored | BlockRemoved | AllBlocksCleared]
    data_parallel_rank: int | None = None
    unknown: tuple[str, ...] = ()
    malformed: tuple[str, ...] = ()


class _StoredRow(BlockStored, tag="BlockStored", array_like=True, gc=False):
    pass


class _RemovedRow(BlockRemoved, tag="BlockRemoved", array_like=True, gc=False):
    pass


class _ClearedRow(AllBlocksCleared, tag="AllBlocksCleared", array_like=True, gc=False):
    pass


class _MapBatch(Struct, array_like=True, gc=False):
    # Only what the wire may say: fields of ours behind it could be set from outside.
    ts: float
    events: list[BlockStored | BlockRemoved | AllBlocksCleared]
    data_parallel_rank: int | None = None


class _RowBatch(Struct, array_like=True, gc=False):
    ts: float
    events: list[_StoredRow | _RemovedRow | _ClearedRow]
    data_parallel_rank: int | None = None


_maps = msgspec.msgpack.Decoder(_MapBatch)
_rows = msgspec.msgpack.Decoder(_RowBatch)
_anything = msgspec.msgpack.Decoder()


def decode(payload: bytes) -> Batch:
    """The batch in a message's payload. Raises ValueError for what is no batch at all."""
    try:
        found = _maps.decode(payload)
        return Batch(found.ts, found.events, found.data_parallel_rank)
    except msgspec.DecodeError:
        pass
    try:
        rows = _rows.decode(payload)
        return Batch(rows.ts, cast("list[Event]", rows.events), rows.data_parallel_rank)
    except msgspec.DecodeError:
        return _piece_by_piece(payload)


def _piece_by_piece(payload: bytes) -> Batch:
    try:
        found = _anything.decode(payload)
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"no msgpack: {error}") from None
    if isinstance(found, dict):
        ts, events = found.get("ts"), found.get("events")
        rank = found.get("data_parallel_rank")
    elif isinstance(found, list) and len(found) >= 2:
        ts, events = found[0], found[1]
        rank = found[2] if len(found) > 2 else None
    else:
        raise ValueError("neither an array [ts, events, rank] nor a map of these")
    if not isinstance(ts, int | float) or not isinstance(events, list):
        raise ValueError("the batch has no time stamp or no list of events")
    read: list[Event] = []
    unknown: list[str] = []
    malformed: list[str] = []
    for event in events:
        try:
            fields = _fields(event)
            tag = fields.get("type")
            reader = _READERS.get(tag) if isinstance(tag, str) else None
            if reader is None:
                unknown.append(str(tag)[:80])
            else:
                read.append(reader(fields))
        except (ValueError, OverflowError) as error:
            malformed.append(str(error))
    rank = rank if isinstance(rank, int) else None
    return Batch(float(ts), read, rank, tuple(unknown), tuple(malformed))


def _fields(event: object) -> dict[str, Any]:
    """An event's fields by name."""
    if isinstance(event, dict):
        return event
    if not isinstance(event, list) or not event:
        raise ValueError(f"an event is {type(event).__name__}, neither an array nor a map")
    names = _ORDER.get(event[0], ()) if isinstance(event[0], str) else ()
    return {"type": event[0], **dict(zip(names, event[1:], strict=False))}


def _stored(fields: dict[str, Any]) -> BlockStored:
    parent = fields.get("parent_block_hash")
    tokens, size = fields.get("token_ids"), fields.get("block_size")
    if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
        raise ValueError("BlockStored: token_ids is no list of integers")
    if type(size) is not int:
        raise ValueError("BlockStored: block_size is no integer")
    return BlockStored(
        block_hashes=_hashes("BlockStored", fields),
        parent_block_hash=None if parent is None else block_hash(parent),
        token_ids=tokens,
        block_size=size,
        lora_id=_or_none(fields, "lora_id", int),
        medium=_or_none(fields, "medium", str),
        lora_name=_or_none(fields, "lora_name", str),
        extra_keys=_or_none(fields, "extra_keys", list),
        group_idx=_or_none(fields, "group_idx", int),
        kv_cache_spec_kind=_or_none(fields, "kv_cache_spec_kind", str),
        kv_cache_spec_sliding_window=_or_none(fields, "kv_cache_spec_sliding_window", int),
        locality=_or_none(fields, "locality", str),
    )


def _removed(fields: dict[str, Any]) -> BlockRemoved:
    return BlockRemoved(
        block_hashes=_hashes("BlockRemoved", fields),
        medium=_or_none(fields, "medium", str),
        group_idx=_or_none(fields, "group_idx", int),
        locality=_or_none(fields, "locality", str),
    )


def _cleared(_: dict[str, Any]) -> AllBlocksCleared:
    return AllBlocksCleared()


_READERS: Mapping[str, Callable[[dict[str, Any]], Event]] = {
    "BlockStored": _stored,
    "BlockRemoved": _removed,
    "AllBlocksCleared": _cleared,
}
_ORDER: Mapping[str, Sequence[str]] = {
    "BlockStored": BlockStored.__struct_fields__,
    "BlockRemoved": BlockRemoved.__struct_fields__,
}


def block_hash(value: object) -> int:
    """An engine's block hash as an unsigned 64-bit integer; ValueError when it is none."""
    if type(value) is int:
        return value & _U64
    if isinstance(value, bytes):
        return int.from_bytes(value[-8:], "big")
    raise ValueError(f"a block hash is {type(value).__name__}, neither an integer nor bytes")


def _hashes(tag: str, fields: dict[str, Any]) -> list[int]:
    hashes = fields.get("block_hashes")
    if not isinstance(hashes, list):
        raise ValueError(f"{tag}: block_hashes is no list")
    return [block_hash(value) for value in hashes]


def _or_none(fields: dict[str, Any], name: str, kind: type[_T]) -> _T | None:
    """A field that may be missing; what is not of its kind is another version's and ignored."""
    value = fields.get(name)
    return value if type(value) is kind else None
