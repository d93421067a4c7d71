"""An HTTP/2 client that says exactly what a test wants, for `gateway.h2.Connection`."""

from dataclasses import dataclass, field

from hpack import Decoder, Encoder

from gateway.h2 import frames as f
from gateway.h2.connection import Connection
from gateway.h2.frames import ErrorCode
from gateway.h2.headers import Block
from gateway.h2.limits import Limits
from gateway.h2.stream import Stream

REQUEST = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/test.Echo/Echo"),
    (":authority", "test"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
)


@dataclass
class Frame:
    """A frame that the server sent."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> ErrorCode:
        """Of RST_STREAM and GOAWAY."""
        start = 4 if self.kind == f.GOAWAY else 0
        return ErrorCode(int.from_bytes(self.payload[start : start + 4]))


@dataclass
class Heard:
    """What a stream's receiver was told."""

    stream: Stream
    block: Block
    data_: bytes = b""
    ended: int = 0
    cuts: list[ErrorCode] = field(default_factory=list)

    def data(self, data: bytes) -> None:
        assert not self.ended
        self.data_ += data

    def end(self) -> None:
        self.ended += 1

    def cut(self, code: ErrorCode) -> None:
        self.cuts.append(code)


class Client:
    """The client's end, without sockets."""

    def __init__(self, limits: Limits | None = None, *, settle: bool = True) -> None:
        self.heard: dict[int, Heard] = {}
        self.woken = 0
        self.now = 0.0
        self.connection = Connection(limits or Limits(), self._open, self._wake)
        self.encoder = Encoder()
        self.decoder = Decoder()
        self._rest = b""
        self.sent: list[Frame] = []
        if settle:
            self.say(f.PREFACE + f.settings({}))
            self.say(frame(f.SETTINGS, f.ACK, 0))
            self.encoder.header_table_size = 0
            self.frames()

    def _open(self, stream: Stream, block: Block) -> Heard:
        heard = self.heard[stream.id] = Heard(stream, block)
        return heard

    def _wake(self) -> None:
        self.woken += 1

    def say(self, data: bytes) -> None:
        """Send bytes."""
        self.connection.receive(data, self.now)

    def frames(self) -> list[Frame]:
        """What the server sent since the last time."""
        data = self._rest + b"".join(self.connection.take())
        found = []
        while len(data) >= 9:
            length = int.from_bytes(data[:3])
            if len(data) < 9 + length:
                break
            stream = int.from_bytes(data[5:9]) & 0x7FFFFFFF
            found.append(Frame(data[3], data[4], stream, data[9 : 9 + length]))
            data = data[9 + length :]
        self._rest = data
        return found

    def block(self, fields: tuple[tuple[str, str], ...] = REQUEST) -> bytes:
        """Fields, encoded."""
        return self.encoder.encode(fields)

    def open(self, stream: int = 1, *, end: bool = False) -> Heard:
        """Open a stream."""
        flags = f.END_HEADERS | (f.END_STREAM if end else 0)
        self.say(frame(f.HEADERS, flags, stream, self.block()))
        return self.heard[stream]

    def fault(self) -> ErrorCode | None:
        """The code of the GOAWAY that ended the connection; None when nothing did."""
        codes = [one.code for one in self.frames() if one.kind == f.GOAWAY]
        return codes[-1] if codes else None


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame's bytes."""
    return f.head(len(payload), kind, flags, stream) + payload


def data(stream: int, payload: bytes, *, end: bool = False) -> bytes:
    """A DATA frame."""
    return frame(f.DATA, f.END_STREAM if end else 0, stream, payload)
