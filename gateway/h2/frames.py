"""Frames of HTTP/2: their types, flags and errors, and how they look on the wire.

Every frame has nine bytes before its payload (RFC 9113 section 4.1)::

    length (24)  type (8)  flags (8)  reserved (1) stream (31)
"""

from enum import IntEnum
from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first."""

HEADER_BYTES: Final = 9
DEFAULT_FRAME_SIZE: Final = 16_384
"""The longest payload that may be sent to a peer that said nothing else."""
DEFAULT_WINDOW: Final = 65_535
"""Each window's size before anybody changed it."""
MAX_WINDOW: Final = 0x7FFF_FFFF

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6


class ErrorCode(IntEnum):
    """Why a stream or a connection ends (RFC 9113 section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class ConnectionFaultError(Exception):
    """The peer broke a rule that ends the whole connection, or did too much of something."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class StreamFaultError(Exception):
    """The peer broke a rule that ends one stream."""

    def __init__(self, stream_id: int, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.stream_id = stream_id
        self.code = code
        self.message = message


_HEAD = Struct(">HBBBL")  # the length's upper 16 bits, its lower 8, type, flags, stream
_SETTING = Struct(">HL")
_LONG = Struct(">L")
_GOAWAY = Struct(">LL")

unpack_head = _HEAD.unpack_from
unpack_long = _LONG.unpack_from
iter_settings = _SETTING.iter_unpack


def head(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The nine bytes before a payload of ``length`` bytes."""
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream_id)


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    payload = b"".join(_SETTING.pack(name, value) for name, value in values.items())
    return head(len(payload), SETTINGS, 0, 0) + payload


SETTINGS_ACK: Final = head(0, SETTINGS, ACK, 0)


def ping_ack(opaque: bytes) -> bytes:
    """The answer to a PING."""
    return head(8, PING, ACK, 0) + opaque


def rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    """End a stream at once."""
    return head(4, RST_STREAM, 0, stream_id) + _LONG.pack(code)


def window_update(stream_id: int, increment: int) -> bytes:
    """Allow ``increment`` bytes more; on the connection when ``stream_id`` is 0."""
    return head(4, WINDOW_UPDATE, 0, stream_id) + _LONG.pack(increment)


def goaway(last_stream_id: int, code: ErrorCode, message: str = "") -> bytes:
    """Say that no streams after ``last_stream_id`` are looked at."""
    debug = message.encode()
    return head(8 + len(debug), GOAWAY, 0, 0) + _GOAWAY.pack(last_stream_id, code) + debug
