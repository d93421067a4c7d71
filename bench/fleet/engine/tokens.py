"""A tokenizer without a vocabulary: four bytes of UTF-8 are a token.

A token's id is its four bytes as an unsigned 32-bit number, little-endian. Texts that begin
alike therefore begin with the same tokens, any text survives a round trip, and 200 KB are
tokenised in microseconds. A text whose length is no multiple of four is filled up with the byte
FF, which occurs in no UTF-8; special tokens are made of such bytes and stand for no text.
"""

import codecs
import sys
from array import array
from collections.abc import Iterable
from typing import TypeAlias

from xxhash import xxh3_64_intdigest

Tokens: TypeAlias = "array[int]"
"""Token ids: ``array('I')``, 32 bits each."""


BYTES_PER_TOKEN = 4
VOCABULARY_SIZE = 2**32

_FILL = b"\xff"
_NOT_TEXT = bytes(range(0xF8, 0x100))


def _special(mark: int) -> int:
    return int.from_bytes(_FILL * 3 + bytes([mark]), "little")


MESSAGE_START = _special(0xFE)
MESSAGE_END = _special(0xFD)
SEPARATOR = _special(0xFC)


def tokens_of(ids: Iterable[int] = ()) -> Tokens:
    """Tokens from their ids; OverflowError for one that is not in the vocabulary."""
    return array("I", ids)


def encode(text: str) -> Tokens:
    """The tokens of a text; an empty text has none."""
    data = text.encode(errors="replace")
    return from_bytes(data + _FILL * (-len(data) % BYTES_PER_TOKEN))


def from_bytes(data: bytes) -> Tokens:
    """Tokens from whole groups of four bytes."""
    tokens = array("I")
    tokens.frombytes(data)
    if sys.byteorder == "big":
        tokens.byteswap()
    return tokens


def to_bytes(tokens: Iterable[int]) -> bytes:
    """The bytes of the text that tokens stand for; special tokens and filling give none."""
    return b"".join(
        token.to_bytes(BYTES_PER_TOKEN, "little").translate(None, _NOT_TEXT) for token in tokens
    )


def decode(tokens: Iterable[int]) -> str:
    """The text of tokens; bytes that are no UTF-8 become U+FFFD."""
    return to_bytes(tokens).decode(errors="replace")


class StreamDecoder:
    """Text as tokens arrive: a character that is not whole yet waits for the next token.

    ``visible_bytes`` ends the text early, in the middle of a token if need be.
    """

    def __init__(self, visible_bytes: int | None = None) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._left = visible_bytes

    def decode(self, token: int, *, last: bool) -> str:
        """The characters that this token completes."""
        data = to_bytes((token,))
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        return self._decoder.decode(data, last)


def chain(tokens: Tokens, block_size: int, root: int) -> list[int]:
    """Hash a prompt's whole blocks: hash i covers ``root`` and all tokens up to block i's end."""
    view = memoryview(tokens)
    hashes = []
    for end in range(block_size, len(tokens) + 1, block_size):
        root = xxh3_64_intdigest(view[end - block_size : end], seed=root)
        hashes.append(root)
    return hashes


def chain_root(model: str, cache_salt: str | None) -> int:
    """Where chains begin that may share blocks: same model or adapter, and same salt."""
    return xxh3_64_intdigest(b"\xff".join((model.encode(), (cache_salt or "").encode())))
