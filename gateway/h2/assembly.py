"""Bytes to frames, and the frames of a field block to the block."""

from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.h2 import frames as f
from gateway.h2.frames import ConnectionFaultError, ErrorCode
from gateway.h2.limits import Limits

_FIRST: Final = len(f.PREFACE) + f.HEADER_BYTES


class FrameReader:
    """Finds frames in bytes as they come; ``frame`` is told of each: type, flags, stream, payload.

    ``longest``: bytes that a payload may have. `stop` from within ``frame`` ends the reading.
    """

    def __init__(self, longest: int, frame: Callable[[int, int, int, bytes], None]) -> None:
        self.begun = False
        """The peer has shown that it speaks HTTP/2."""
        self._longest = longest
        self._frame = frame
        self._rest = b""
        self._stopped = False

    def feed(self, data: bytes) -> None:
        """Take bytes. Raises `ConnectionFaultError`, also what ``frame`` raises."""
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        if not self.begun:
            if not self._begins(data):
                self._rest = data
                return
            at = len(f.PREFACE)
        while size - at >= f.HEADER_BYTES:
            upper, lower, kind, flags, stream_id = f.unpack_head(data, at)
            length = upper << 8 | lower
            if length > self._longest:
                raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "the frame is too long")
            start = at + f.HEADER_BYTES
            end = start + length
            if end > size:
                break
            at = end
            self._frame(kind, flags, stream_id & f.MAX_WINDOW, data[start:end])
            if self._stopped:
                return
        self._rest = data[at:] if at else data

    def stop(self) -> None:
        """Read no more."""
        self._stopped = True
        self._rest = b""

    def _begins(self, data: bytes) -> bool:
        """Whether the connection's preface is there: the fixed bytes, then SETTINGS."""
        if not f.PREFACE.startswith(data[: len(f.PREFACE)]):
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "this is not HTTP/2")
        if len(data) < _FIRST:
            return False
        if data[len(f.PREFACE) + 3] != f.SETTINGS:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "no SETTINGS after the preface")
        self.begun = True
        return True


class Encoded(NamedTuple):
    """A whole field block as it came; ``ends``: it ends its stream, too."""

    stream_id: int
    block: bytes
    ends: bool


class BlockAssembly:
    """A field block that HEADERS begin and CONTINUATIONs finish (RFC 9113 section 6.10)."""

    def __init__(self, limits: Limits) -> None:
        self.stream_id = 0
        """The stream whose block is under way; 0: none is."""
        self._limits = limits
        self._block = bytearray()
        self._ends = False
        self._continuations = 0

    def headers(self, flags: int, stream_id: int, payload: bytes) -> Encoded | None:
        """HEADERS came; the block, if it is whole."""
        if flags & f.PADDED:
            payload = unpadded(payload)
        if flags & f.WITH_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "HEADERS are too short")
            payload = payload[5:]
        ends = bool(flags & f.END_STREAM)
        if flags & f.END_HEADERS:
            return Encoded(stream_id, payload, ends)
        self.stream_id = stream_id
        self._block[:] = payload
        self._ends = ends
        self._continuations = 0
        self._check_size()
        return None

    def continuation(self, flags: int, payload: bytes) -> Encoded | None:
        """CONTINUATION came; the block, if it is whole."""
        if not self.stream_id:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._block += payload
        self._continuations += 1
        if self._continuations > self._limits.max_continuations:
            raise ConnectionFaultError(ErrorCode.ENHANCE_YOUR_CALM, "too many CONTINUATION frames")
        self._check_size()
        if not flags & f.END_HEADERS:
            return None
        whole = Encoded(self.stream_id, bytes(self._block), self._ends)
        self.stream_id = 0
        self._block.clear()
        return whole

    def _check_size(self) -> None:
        if len(self._block) > self._limits.max_header_list:
            raise ConnectionFaultError(ErrorCode.ENHANCE_YOUR_CALM, "the field block is too long")


def unpadded(payload: bytes) -> bytes:
    """Without the padding, whose length comes first (section 6.1)."""
    if not payload or payload[0] >= len(payload):
        raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "the padding is longer than the frame")
    return payload[1 : len(payload) - payload[0]]
