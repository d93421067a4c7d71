"""How a response's body is delimited on its way to the client.

The body arrives with the endpoint's framing taken off and leaves with one of these. One
read becomes one chunk, so re-framing costs a few bytes and no copy beyond the write's own;
in return nothing the endpoint wrote between chunks (extensions, trailers) gets through, and
an interrupted event stream can always be ended with an event that says so.
"""

from enum import Enum
from typing import Final

from gateway.proxy.heads import Headers

_SEPARATORS: Final = (b"\n\n", b"\r\n\r\n")
_LONGEST_HELD: Final = 65_536
_CHUNK_HEADS: Final = [b"%x\r\n" % size for size in range(1024)]  # a token's event is shorter


class Framing(Enum):
    """RFC 9112 section 6.3, as used towards clients."""

    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"
    NONE = "none"

    def frame(self, data: bytes) -> bytes:
        """A piece of the body as it goes on the wire."""
        if self is not Framing.CHUNKED:
            return data
        size = len(data)
        head = _CHUNK_HEADS[size] if size < len(_CHUNK_HEADS) else b"%x\r\n" % size
        return b"".join((head, data, b"\r\n"))

    @property
    def end(self) -> bytes:
        """What follows the last piece."""
        return b"0\r\n\r\n" if self is Framing.CHUNKED else b""


def choose(
    status: int, headers: Headers, *, chunked_ok: bool, bodiless: bool
) -> tuple[Framing, bytes]:
    """The framing of a response and the header line that announces it.

    ``bodiless``: it answers a HEAD, so a length is stated and no body follows.
    """
    for name, value in headers:
        if name == b"content-length":
            line = b"content-length: %b\r\n" % value
            if bodiless or status == 304:
                return Framing.NONE, line
            if status != 204:
                return Framing.LENGTH, line
    if bodiless or status in {204, 304}:
        return Framing.NONE, b""
    if chunked_ok:
        return Framing.CHUNKED, b"transfer-encoding: chunked\r\n"
    return Framing.CLOSE, b""


def _end_of_last(separator: bytes, data: bytes) -> int:
    at = data.rfind(separator)
    return at + len(separator) if at >= 0 else 0


class EventAligner:
    """Lets through whole server-sent events only.

    So whenever an endpoint dies, what the client has ends between two events, and an error
    event can follow. Pieces nearly always are whole events: then this is one comparison.
    """

    __slots__ = ("held", "torn")

    def __init__(self) -> None:
        self.held = b""
        self.torn = False  # an overlong event went out in part: no event may follow it

    def align(self, data: bytes) -> bytes:
        """The whole events in what is held plus ``data``; the rest is held."""
        if self.held:
            data, self.held = self.held + data, b""
        if data.endswith(_SEPARATORS):
            self.torn = False
            return data
        cut = max(_end_of_last(separator, data) for separator in _SEPARATORS)
        if len(data) - cut > _LONGEST_HELD:
            self.torn = True
            return data
        self.held = data[cut:]
        if cut:
            self.torn = False
        return data[:cut]

    def rest(self) -> bytes:
        """What is held at the regular end of the stream."""
        held, self.held = self.held, b""
        return held
