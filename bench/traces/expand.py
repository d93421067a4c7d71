"""From block ids to text: equal ids give equal text, so a router that hashes text sees the
sharing that the trace recorded.
"""

from functools import lru_cache
from random import Random

from bench.traces.mooncake import BLOCK_TOKENS, Row

BYTES_PER_TOKEN = 4
_BLOCK_BYTES = BLOCK_TOKENS * BYTES_PER_TOKEN
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@lru_cache(maxsize=4096)  # 8 MB; a hot block is expanded once
def block_text(block: int) -> str:
    """The text of a block: 2,048 pseudo-random bytes of three-letter words, seeded by its id."""
    dice = Random(block)
    words = ("".join(dice.choices(_LETTERS, k=3)) for _ in range(_BLOCK_BYTES // 4))
    return " ".join(words) + " "


def prompt_text(row: Row) -> str:
    """The prompt of a row, as long as the trace says at four bytes a token."""
    text = "".join(block_text(block) for block in row.hash_ids)
    return text[: row.input_length * BYTES_PER_TOKEN]
