import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.events.decoding import AllBlocksCleared, BlockRemoved, BlockStored, decode
from endpoints.events.media import tier_of
from routing.prefix.residency import Tier
from tests.support.event_messages import CLEARED, batch, removed, row, stored

BIG = (1 << 64) - 5


def encode(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def test_maps_and_arrays_say_the_same() -> None:
    events = [
        stored([1, BIG], 7, lora_name="a", group_idx=0, kv_cache_spec_kind="full_attention"),
        removed([BIG], group_idx=0),
        CLEARED,
    ]
    maps = decode(batch(*events))
    rows = decode(batch(*map(row, events)))
    mixed = decode(batch(events[0], row(events[1]), events[2]))
    for found in (maps, rows, mixed):
        first, second, third = found.events
        assert isinstance(first, BlockStored)
        assert first.block_hashes == [1, BIG]
        assert first.parent_block_hash == 7
        assert first.lora_name == "a"
        assert first.kv_cache_spec_kind == "full_attention"
        assert isinstance(second, BlockRemoved)
        assert (second.block_hashes, second.group_idx) == ([BIG], 0)
        assert isinstance(third, AllBlocksCleared)
        assert (found.ts, found.data_parallel_rank) == (100.0, 0)
        assert not found.unknown
        assert not found.malformed


@pytest.mark.parametrize(
    "payload",
    [
        encode([1.5, [stored([1])]]),
        encode([1.5, [stored([1])], None]),
        encode([1.5, [stored([1])], 0, "of a later version"]),
        encode({"ts": 1.5, "events": [stored([1])], "data_parallel_rank": 0}),
        encode({"ts": 1.5, "events": [row(stored([1]))]}),
        encode([1.5, [["BlockStored", [1], None, [4, 5, 6, 7], 4]]]),
        encode([1.5, [["BlockStored", [1], None, [4, 5, 6, 7], 4, None]], 3]),
        encode([1.5, [stored([1], ownership="x", session_id="y", copies=2)]]),
        encode([1.5, [[*row(stored([1], group_idx=0)), None, None, "new", {"x": 1}]]]),
        # SGLang: metadata of its own under the same tag, where vLLM has the adapter's name
        encode([1.5, [["BlockStored", [1], None, [4, 5, 6, 7], 4, None, "GPU", {"x": 1}]], 0]),
    ],
)
def test_every_form_of_a_batch_is_read(payload: bytes) -> None:
    found = decode(payload)
    (event,) = found.events
    assert isinstance(event, BlockStored)
    assert event.block_hashes == [1]
    assert event.token_ids == [4, 5, 6, 7]
    assert event.parent_block_hash is None
    assert found.ts == 1.5


@pytest.mark.parametrize("shape", [lambda event: event, row])
def test_hashes_are_integers_of_64_bits_whatever_their_form(shape: type) -> None:
    wide = b"\xaa" * 24 + (BIG).to_bytes(8, "big")
    found = decode(batch(shape(stored([wide, -5], b"\x01" * 16)), shape(removed([-5, wide]))))
    first, second = found.events
    assert isinstance(first, BlockStored)
    assert isinstance(second, BlockRemoved)
    assert first.block_hashes == [BIG, BIG]
    assert first.parent_block_hash == 0x0101010101010101
    assert second.block_hashes == [BIG, BIG]


def test_an_unknown_event_is_skipped_and_named() -> None:
    for odd in ({"type": "BlockMigrated", "to": 3}, ["BlockMigrated", 3], {"no": "type"}, [7]):
        found = decode(batch(stored([1]), odd, removed([1])))
        assert len(found.events) == 2
        assert len(found.unknown) == 1
    assert decode(batch(["BlockMigrated"])).unknown == ("BlockMigrated",)


@pytest.mark.parametrize(
    "odd",
    [
        stored([1], tokens=[1]) | {"token_ids": ["x"]},
        stored([1]) | {"token_ids": None},
        stored([1]) | {"block_hashes": 3},
        stored([1]) | {"block_hashes": [1.5]},
        stored([1]) | {"parent_block_hash": "x"},
        stored([1]) | {"block_size": None},
        {"type": "BlockRemoved"},
        ["BlockStored", [1]],
        17,
        [],
    ],
)
def test_a_malformed_event_does_not_cost_the_rest_of_its_batch(odd: object) -> None:
    found = decode(batch(removed([1]), odd, removed([2])))
    assert len(found.events) == 2
    assert len(found.malformed) == 1


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", b"GET /", encode(7), encode([1.0]), encode(["x", []]), encode([1.0, {}])],
)
def test_what_is_no_batch_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"msgpack|array|batch"):
        decode(payload)


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=9)
    | st.sampled_from(["BlockStored", "BlockRemoved", "AllBlocksCleared"]),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(
            st.text(max_size=3) | st.sampled_from(["type", "block_hashes", "events", "ts"]), inner
        )
    ),
    max_leaves=20,
)


@given(JUNK.map(encode) | st.binary(max_size=60))
def test_anything_is_read_or_refused(payload: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode(payload)


@given(st.lists(JUNK, max_size=4))
def test_any_events_leave_the_batch_readable(events: list[object]) -> None:
    found = decode(batch(*events))
    assert len(found.events) + len(found.unknown) + len(found.malformed) == len(events)


def test_media_are_tiers_in_any_case_of_letters() -> None:
    assert tier_of(None) is tier_of("GPU") is tier_of("gpu") is tier_of("") is Tier.GPU
    assert tier_of("CPU") is tier_of("CPU_PINNED") is Tier.CPU
    assert tier_of("DISK") is Tier.DISK
    assert tier_of("EXTERNAL") is tier_of("shared") is tier_of("STORAGE") is Tier.SHARED
    assert tier_of("GPU", "REMOTE") is Tier.SHARED
    assert tier_of("GPU", "LOCAL") is Tier.GPU
    assert tier_of("tape") is None
