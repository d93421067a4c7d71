from array import array
from itertools import pairwise

import pytest
from xxhash import xxh3_64_intdigest

from routing.prefix.chain import BLOCK_BYTES, BLOCK_TOKENS, text_chain, token_chain


def text(blocks: int) -> bytes:
    return b"".join(i.to_bytes(2, "big") * (BLOCK_BYTES // 2) for i in range(blocks))


def test_a_chain_is_an_array_of_one_unsigned_hash_a_block() -> None:
    chain = text_chain(b"salt", text(5))
    assert isinstance(chain, array)
    assert chain.typecode == "Q"
    assert len(chain) == 5
    assert len(set(chain)) == 5


@pytest.mark.parametrize("length", [0, 1, BLOCK_BYTES - 1])
def test_less_than_a_block_is_an_empty_chain(length: int) -> None:
    assert text_chain(b"salt", b"x" * length) == array("Q")
    assert token_chain(b"salt", [1] * min(length, BLOCK_TOKENS - 1)) == array("Q")


def test_a_trailing_partial_block_is_dropped() -> None:
    assert text_chain(b"s", text(3) + b"rest") == text_chain(b"s", text(3))
    ids = list(range(3 * BLOCK_TOKENS))
    assert token_chain(b"s", [*ids, 7]) == token_chain(b"s", ids)


def test_chains_agree_in_exactly_the_shared_leading_blocks() -> None:
    one, other = bytearray(text(8)), bytearray(text(8))
    other[5 * BLOCK_BYTES] ^= 1
    left, right = text_chain(b"s", bytes(one)), text_chain(b"s", bytes(other))
    assert left[:5] == right[:5]
    assert all(a != b for a, b in zip(left[5:], right[5:], strict=True))


def test_equal_blocks_at_different_places_hash_differently() -> None:
    assert all(a != b for a, b in pairwise(text_chain(b"s", b"x" * BLOCK_BYTES * 4)))


def test_the_salt_separates_everything() -> None:
    assert not set(text_chain(b"model-a", text(4))) & set(text_chain(b"model-b", text(4)))
    ids = list(range(4 * BLOCK_TOKENS))
    assert not set(token_chain(b"model-a", ids)) & set(token_chain(b"model-b", ids))


def test_text_and_token_ids_with_equal_bytes_are_different_prompts() -> None:
    ids = [0] * BLOCK_TOKENS
    assert token_chain(b"s", ids) != text_chain(b"s", bytes(BLOCK_BYTES))


def test_any_sequence_of_ids_gives_the_same_chain() -> None:
    ids = range(2 * BLOCK_TOKENS)
    assert token_chain(b"s", ids) == token_chain(b"s", list(ids)) == token_chain(b"s", tuple(ids))


@pytest.mark.parametrize("bad", [-1, 1 << 32, 1 << 70])
def test_an_id_out_of_range_is_named_by_its_index(bad: int) -> None:
    with pytest.raises(ValueError, match=f"index 3 is {bad}"):
        token_chain(b"s", [1, 2, 3, bad, 5])


@pytest.mark.parametrize("bad", [1.5, "7", None])
def test_an_id_that_is_no_integer_is_named_by_its_index(bad: object) -> None:
    ids: list[int] = [1, 2]
    ids.append(bad)  # type: ignore[arg-type]  # what untyped JSON can hold
    with pytest.raises(ValueError, match=f"index 2 is {type(bad).__name__}"):
        token_chain(b"s", ids)


@pytest.mark.parametrize("blocks", [63, 64, 65, 127, 128, 200, 300])
def test_remembered_spans_give_the_hashes_of_the_formula(blocks: int) -> None:
    def by_formula(salt: bytes, data: bytes) -> list[int]:
        before, chain = xxh3_64_intdigest(salt, 0), []
        for at in range(0, len(data) - BLOCK_BYTES + 1, BLOCK_BYTES):
            before = xxh3_64_intdigest(data[at : at + BLOCK_BYTES], before)
            chain.append(before)
        return chain

    data = text(blocks) + b"tail"
    for salt in (b"one", b"other"):
        for _ in range(2):  # unknown, then remembered
            assert list(text_chain(salt, data)) == by_formula(salt, data)
    changed = data[:100] + b"!" + data[101:]
    assert list(text_chain(b"one", changed)) == by_formula(b"one", changed)
