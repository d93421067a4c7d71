"""Field blocks: read by the `hpack` library, once for each distinct block; written as constants.

We allow peers no dynamic table (SETTINGS_HEADER_TABLE_SIZE 0) and use none ourselves. From the
moment a peer obeys, what a block means depends on its bytes alone, so equal blocks, which is what
a proxy sends for one stream after another, are read from a dictionary. Our own blocks are made
when the program starts or, with a message for people in them, in a few operations.
"""

from collections.abc import Iterable
from typing import NamedTuple

from hpack import Decoder
from hpack.exceptions import HPACKError

from gateway.h2.frames import ConnectionFaultError, ErrorCode

_CACHED_BLOCKS = 256

_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_NEEDED = (b":method", b":scheme", b":path")
_OF_CONNECTIONS = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)


class Block(NamedTuple):
    """What a field block says. ``problem``: why it is malformed; empty when it is not."""

    fields: dict[bytes, bytes]
    """By name; of several with one name the last."""
    problem: str = ""
    trailing: bool = False
    """It has no pseudo fields: the block of a stream's end."""

    @property
    def path(self) -> bytes:
        """The request's path; empty in trailers."""
        return self.fields.get(b":path", b"")


class BlockReader:
    """Reads the blocks of one connection, in the order in which they come."""

    def __init__(self, max_list: int) -> None:
        self._decoder = Decoder(max_list)
        self._known: dict[bytes, Block] = {}

    def forbid_table(self) -> None:
        """The peer has acknowledged that it may use no dynamic table."""
        self._decoder.max_allowed_table_size = 0

    def read(self, block: bytes) -> Block:
        """What a block says. A block that can't be read ends the connection, as it must."""
        stateless = self._decoder.header_table_size == 0
        if stateless and (known := self._known.get(block)) is not None:
            return known
        try:
            found = _checked(self._decoder.decode(block, raw=True))
        except (HPACKError, ValueError) as error:
            raise ConnectionFaultError(ErrorCode.COMPRESSION_ERROR, str(error)) from error
        if stateless and self._decoder.header_table_size == 0:
            if len(self._known) >= _CACHED_BLOCKS:
                self._known.clear()
            self._known[block] = found
        return found


def _checked(fields: Iterable[tuple[bytes, bytes]]) -> Block:
    """RFC 9113 sections 8.2 and 8.3: names, pseudo fields first and once, nothing of HTTP/1."""
    found: dict[bytes, bytes] = {}
    regular = False
    for name, value in fields:
        if name[:1] == b":":
            if regular or name in found or name not in _PSEUDO:
                return Block(found, f"the pseudo field {name!r} is out of place")
        else:
            regular = True
            if not name or name != name.lower() or name in _OF_CONNECTIONS:
                return Block(found, f"the field {name!r} has no place in HTTP/2")
            if name == b"te" and value != b"trailers":
                return Block(found, "te is not trailers")
        if b"\r" in value or b"\n" in value or b"\0" in value:
            return Block(found, f"the field {name!r} has a control byte")
        found[name] = value
    if not any(name in found for name in _PSEUDO):
        return Block(found, trailing=True)
    missing = [name for name in _NEEDED if not found.get(name)]
    return Block(found, f"{missing[0]!r} is missing" if missing else "")


def literal_block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A block of literal fields, not indexed and not Huffman coded (RFC 7541 section 6.2.2)."""
    pieces = []
    for name, value in fields:
        if (name, value) == (b":status", b"200"):
            pieces.append(b"\x88")  # entry 8 of the static table
        else:
            pieces += (b"\x00", _text(name), _text(value))
    return b"".join(pieces)


def _text(text: bytes) -> bytes:
    """A length in a prefix of seven bits (RFC 7541 section 5.1), and the bytes."""
    length = len(text)
    if length < 127:
        return bytes((length,)) + text
    length -= 127
    prefix = bytearray(b"\x7f")
    while length >= 128:
        prefix.append(length & 127 | 128)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + text
