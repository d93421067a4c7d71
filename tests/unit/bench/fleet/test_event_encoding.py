"""The three forms of events, field by field."""

from typing import Any

import msgspec
import pytest

from bench.fleet.engine.cache import Tier
from bench.fleet.engine.changes import Cleared, Removed, Stored
from bench.fleet.engine.tokens import tokens_of
from bench.fleet.events.encoding import Encoder
from bench.fleet.settings import EventEncoding, HashForm, KvEventSettings

BIG = (1 << 63) + 5
TWO = Stored(Tier.GPU, [BIG, 7], None, tokens_of((1, 2, 3, 4)), None, None)


def encoded(*changes: Any, **settings: Any) -> list[Any]:
    """The events, with blocks of two tokens and hashes as they are."""
    encoder = Encoder(KvEventSettings(**settings), block_size=2, mask=settings.pop("mask", 0))
    batch = msgspec.msgpack.decode(encoder.batch(changes, 12.5))
    assert (batch[0], batch[2]) == (12.5, 0)
    events: list[Any] = batch[1]
    return events


def test_maps() -> None:
    assert encoded(TWO, Removed(Tier.CPU, 9), Cleared()) == [
        {
            "type": "BlockStored",
            "block_hashes": [BIG, 7],
            "parent_block_hash": None,
            "token_ids": [1, 2, 3, 4],
            "block_size": 2,
            "lora_id": None,
            "medium": "GPU",
            "lora_name": None,
            "extra_keys": [None, None],
            "group_idx": 0,
            "kv_cache_spec_kind": "full_attention",
        },
        {"type": "BlockRemoved", "block_hashes": [9], "medium": "CPU", "group_idx": 0},
        {"type": "AllBlocksCleared"},
    ]


def test_arrays() -> None:
    offloaded = Stored(Tier.CPU, [7], BIG, tokens_of((3, 4)), None, None)
    events = encoded(TWO, offloaded, Removed(Tier.GPU, 7), Cleared(), encoding=EventEncoding.ARRAY)
    assert events == [
        ["BlockStored", [BIG, 7], None, [1, 2, 3, 4], 2, None, "GPU", None, [None, None]],
        ["BlockStored", [7], None, [], 0, None, "CPU"],
        ["BlockRemoved", [7], "GPU"],
        ["AllBlocksCleared"],
    ]


def test_sglang_says_one_block_an_event_with_signed_hashes() -> None:
    offloaded = Stored(Tier.CPU, [7], BIG, tokens_of((3, 4)), "ada", "s")
    signed = BIG - (1 << 64)
    events = encoded(TWO, offloaded, Removed(Tier.GPU, 7), encoding=EventEncoding.SGLANG)
    assert events == [
        ["BlockStored", [signed], None, [1, 2], 2, None, "GPU"],
        ["BlockStored", [7], signed, [3, 4], 2, None, "GPU"],
        ["BlockStored", [7], signed, [3, 4], 2, None, "CPU_PINNED"],
        ["BlockRemoved", [7], "GPU"],
    ]


def test_hashes_as_bytes_end_with_the_number() -> None:
    stored, removed = encoded(
        Stored(Tier.GPU, [7], BIG, tokens_of((1, 2)), None, None),
        Removed(Tier.GPU, 7),
        hashes=HashForm.BYTES,
    )
    assert len(stored["block_hashes"][0]) == 32
    assert stored["parent_block_hash"][-8:] == BIG.to_bytes(8, "big")
    assert removed["block_hashes"] == stored["block_hashes"]


@pytest.mark.parametrize("encoding", [EventEncoding.MAP, EventEncoding.ARRAY])
def test_adapter_and_salt_are_extra_keys_the_salt_of_the_first_block_only(
    encoding: EventEncoding,
) -> None:
    tokens = tokens_of((1, 2, 3, 4))
    events = encoded(
        Stored(Tier.GPU, [1, 2], None, tokens, "ada", "s"),
        Stored(Tier.GPU, [3, 4], 2, tokens, "ada", "s"),
        Stored(Tier.GPU, [5, 6], None, tokens, None, "s"),
        Stored(Tier.GPU, [8, 9], None, tokens, "bob", None),
        encoding=encoding,
    )

    def keys(event: Any) -> object:
        return event["extra_keys"] if encoding is EventEncoding.MAP else event[8]

    def adapter(event: Any) -> tuple[object, object]:
        return (
            (event["lora_id"], event["lora_name"])
            if encoding is EventEncoding.MAP
            else (event[5], event[7])
        )

    assert [keys(event) for event in events] == [
        [["ada", "s"], ["ada"]],
        [["ada"], ["ada"]],
        [["s"], None],
        [["bob"], ["bob"]],
    ]
    assert [adapter(event) for event in events] == [
        (1, "ada"),
        (1, "ada"),
        (None, None),
        (2, "bob"),
    ]


def test_the_mask_gives_a_block_another_name_on_every_publisher() -> None:
    one, other = (
        msgspec.msgpack.decode(Encoder(KvEventSettings(), 2, mask).batch((TWO,), 0.0))[1][0]
        for mask in (3, 4)
    )
    assert not set(one["block_hashes"]) & set(other["block_hashes"])
    assert one["token_ids"] == other["token_ids"]


def test_sglang_has_no_hashes_as_bytes() -> None:
    with pytest.raises(msgspec.ValidationError, match="sglang"):
        msgspec.convert({"encoding": "sglang", "hashes": "bytes"}, KvEventSettings)
