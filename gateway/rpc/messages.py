"""Messages on a stream: five bytes before each, whether it is compressed and how long it is."""

from struct import Struct
from typing import Final

from gateway.rpc.status import Code, RpcError

_PREFIX: Final = Struct(">BL")
_PREFIX_BYTES: Final = 5

_unpack = _PREFIX.unpack_from


def framed(message: bytes) -> bytes:
    """A message as it goes on the wire, not compressed."""
    return _PREFIX.pack(0, len(message)) + message


class Deframer:
    """Finds messages in bytes as they come. ``longest``: bytes that a message may have."""

    __slots__ = ("_have", "_longest", "_need", "_pieces")

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = _PREFIX_BYTES  # bytes until something can be said

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that ``data`` makes whole. `RpcError` for one that can't be taken."""
        self._have += len(data)
        if self._have < self._need:
            self._pieces.append(data)
            return []
        if self._pieces:
            self._pieces.append(data)
            data = b"".join(self._pieces)
            self._pieces = []
        found = []
        at, size = 0, len(data)
        while size - at >= _PREFIX_BYTES:
            end = at + _PREFIX_BYTES + self._length(data, at)
            if end > size:
                break
            found.append(data[at + _PREFIX_BYTES : end])
            at = end
        rest = data[at:]
        self._have = len(rest)
        self._need = _PREFIX_BYTES
        if rest:
            self._pieces.append(rest)
            if self._have >= _PREFIX_BYTES:
                self._need += self._length(rest, 0)
        return found

    def _length(self, data: bytes, at: int) -> int:
        compressed, length = _unpack(data, at)
        if compressed:
            raise RpcError(Code.UNIMPLEMENTED, "messages must not be compressed")
        if length > self._longest:
            raise RpcError(
                Code.RESOURCE_EXHAUSTED,
                f"a message of {length} bytes is longer than {self._longest}",
            )
        return int(length)

    @property
    def held(self) -> int:
        """Bytes that wait for the rest of their message."""
        return self._have

    @property
    def whole(self) -> bool:
        """Whether no message is begun and not ended."""
        return not self._have
