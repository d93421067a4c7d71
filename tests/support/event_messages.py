"""Messages as engines write them."""

from collections.abc import Sequence
from typing import Any

import msgspec

SIZE = 4
"""Tokens in a block of these tests."""


def stored(
    hashes: Sequence[int | bytes],
    parent: int | bytes | None = None,
    tokens: Sequence[int] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A vLLM event as a map; the tokens default to ones made from the hashes."""
    ids = tokens_of(*hashes) if tokens is None else list(tokens)
    return {
        "type": "BlockStored",
        "block_hashes": list(hashes),
        "parent_block_hash": parent,
        "token_ids": ids,
        "block_size": SIZE,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
    } | more


def removed(hashes: Sequence[int | bytes], **more: Any) -> dict[str, Any]:
    return {"type": "BlockRemoved", "block_hashes": list(hashes), "medium": "GPU"} | more


CLEARED = {"type": "AllBlocksCleared"}

_ORDER = (
    "block_hashes",
    "parent_block_hash",
    "token_ids",
    "block_size",
    "lora_id",
    "medium",
    "lora_name",
    "extra_keys",
    "group_idx",
    "kv_cache_spec_kind",
    "kv_cache_spec_sliding_window",
)


def row(event: dict[str, Any]) -> list[Any]:
    """The same event as an array, trailing fields that are absent left out."""
    names = _ORDER if event["type"] == "BlockStored" else ("block_hashes", "medium", "group_idx")
    values = [event.get(name) for name in names]
    while values and names[len(values) - 1] not in event:
        values.pop()
    return [event["type"], *values]


def tokens_of(*hashes: int | bytes) -> list[int]:
    """Token ids of blocks, different for different hashes."""
    numbers = [one if isinstance(one, int) else int.from_bytes(one[-8:], "big") for one in hashes]
    return [number % 1_000_003 * SIZE + place for number in numbers for place in range(SIZE)]


def batch(*events: Any, ts: float = 100.0, rank: int | None = 0) -> bytes:
    return msgspec.msgpack.encode([ts, list(events), rank])
