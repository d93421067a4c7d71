from array import array
from itertools import product

import pytest

from routing.prefix.chain import BLOCK_TOKENS, token_chain
from routing.prefix.tokens import blocks_of, continued, root_of, token_salt

IDS = list(range(100, 260))


def test_it_is_the_chain_of_token_prompts_for_any_block_size() -> None:
    assert blocks_of(b"salt", IDS, BLOCK_TOKENS) == token_chain(b"salt", IDS)
    chain = blocks_of(b"salt", IDS, 16)
    assert isinstance(chain, array)
    assert chain.typecode == "Q"
    assert len(set(chain)) == len(chain) == 10


def test_a_trailing_part_of_a_block_is_dropped() -> None:
    assert blocks_of(b"", IDS[:47], 16) == blocks_of(b"", IDS[:32], 16)
    assert len(blocks_of(b"", IDS[:15], 16)) == 0


def test_a_chain_continues_after_any_of_its_blocks() -> None:
    whole = blocks_of(b"salt", IDS, 16)
    assert continued(whole[2], IDS[48:], 16) == list(whole[3:])
    assert continued(root_of(b"salt"), IDS, 16) == list(whole)


def test_salts_tell_every_pair_of_adapter_and_cache_salt_apart() -> None:
    parts = (None, "", "a", "b", "-", "1:a", "a-", "\0", "é")
    salts = {token_salt(adapter, salt) for adapter, salt in product(parts, parts)}
    assert len(salts) == len(parts) ** 2


def test_an_extra_separates_its_block_and_all_that_continue_it() -> None:
    plain = continued(1, IDS, 16)
    extras = [b""] * 10
    assert continued(1, IDS, 16, extras) == plain
    extras[3] = b"a picture"
    marked = continued(1, IDS, 16, extras)
    assert marked[:3] == plain[:3]
    assert not set(marked[3:]) & set(plain)
    extras[3] = b"another one"
    assert not set(continued(1, IDS, 16, extras)[3:]) & set(marked)


def test_an_extra_is_not_taken_for_more_token_ids() -> None:
    extra = array("I", IDS[16:32]).tobytes()
    assert continued(1, IDS[:16], 16, [extra]) != continued(1, IDS[:32], 32)


@pytest.mark.parametrize("bad", [-1, 1 << 32, 1.5, None])
def test_an_id_that_is_none_is_named(bad: object) -> None:
    ids: list[int] = [1, 2, bad]  # type: ignore[list-item]
    with pytest.raises(ValueError, match="index 2"):
        blocks_of(b"", ids, 1)


def test_arguments_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="block_tokens"):
        blocks_of(b"", IDS, 0)
    with pytest.raises(ValueError, match="extras"):
        continued(1, IDS, 16, [b""])
