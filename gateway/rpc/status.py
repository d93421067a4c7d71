"""How a call ends: codes, and the field blocks that say so.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from enum import IntEnum
from typing import Final

from gateway.h2.headers import literal_block


class Code(IntEnum):
    """The codes that a server of ours gives."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class RpcError(Exception):
    """A call that can't go on; the peer is told the code and the message."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


_RESPONSE: Final = (
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b"identity"),
)
RESPONSE_BLOCK: Final = literal_block(_RESPONSE)
"""What comes before the first message."""
OK_BLOCK: Final = literal_block([(b"grpc-status", b"0")])
"""The end of a call that went well."""
NO_GRPC_BLOCK: Final = literal_block([(b":status", b"415"), (b"content-length", b"0")])
"""The answer to somebody who speaks HTTP/2, but not gRPC."""


def end_block(code: Code, message: str, *, begun: bool) -> bytes:
    """The fields that end a call; with those of a response when it has not ``begun``."""
    if code is Code.OK and begun:
        return OK_BLOCK
    fields = [(b"grpc-status", b"%d" % code)]
    if message:
        fields.append((b"grpc-message", percent_encoded(message)))
    return literal_block(fields if begun else [*_RESPONSE, *fields])


def percent_encoded(message: str) -> bytes:
    """A message for people, in the bytes that a field may have."""
    return b"".join(
        b"%c" % byte if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte
        for byte in message.encode()
    )
