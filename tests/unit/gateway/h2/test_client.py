"""The client's side of a connection, against the server's and against frames written by hand."""

from dataclasses import dataclass, field

import pytest

from gateway.h2 import frames as f
from gateway.h2.client import ClientConnection, NoStreamError
from gateway.h2.connection import Phase
from gateway.h2.frames import ErrorCode
from gateway.h2.headers import literal_block
from gateway.h2.limits import Limits
from gateway.h2.stream import State

REQUEST = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")]
OK = literal_block([(b":status", b"200")])


@dataclass
class Seen:
    """What came for one request."""

    heads: list[list[tuple[bytes, bytes]]] = field(default_factory=list)
    body: bytes = b""
    ended: bool = False
    code: ErrorCode | None = None

    def fields(self, fields: list[tuple[bytes, bytes]]) -> None:
        self.heads.append(fields)

    def data(self, data: bytes) -> None:
        self.body += data

    def end(self) -> None:
        self.ended = True

    def cut(self, code: ErrorCode) -> None:
        self.code = code


def client(**limits: int) -> ClientConnection:
    made = ClientConnection(Limits(**limits), lambda: None)
    made.receive(f.settings({}), 0.0)
    return made


def said(connection: ClientConnection) -> bytes:
    return b"".join(bytes(piece) for piece in connection.take())


def headers(stream_id: int, block: bytes, *, end: bool = False) -> bytes:
    flags = f.END_HEADERS | (f.END_STREAM if end else 0)
    return f.head(len(block), f.HEADERS, flags, stream_id) + block


def data(stream_id: int, payload: bytes, *, end: bool = False) -> bytes:
    return f.head(len(payload), f.DATA, f.END_STREAM if end else 0, stream_id) + payload


def test_the_preface_comes_first_and_no_table_is_used() -> None:
    connection = client()
    connection.open(REQUEST, Seen())
    out = said(connection)
    assert out.startswith(f.PREFACE)
    at = out.index(f.SETTINGS_ACK) + len(f.SETTINGS_ACK)
    length, kind, flags = out[at + 2], out[at + 3], out[at + 4]
    assert (kind, flags) == (f.HEADERS, f.END_HEADERS)
    block = out[at + 9 : at + 9 + length]
    assert block[:1] == b"\x20"  # a dynamic table of size 0, for peers that want it smaller


def test_a_request_and_its_response_with_trailers() -> None:
    connection, seen = client(), Seen()
    stream = connection.open(REQUEST, seen)
    stream.send_data(b"body")
    stream.send_end(b"")
    assert said(connection).endswith(data(1, b"body") + data(1, b"", end=True))
    trailers = literal_block([(b"x-end", b"1")])
    connection.receive(headers(1, OK) + data(1, b"answer"), 0.0)
    connection.receive(headers(1, trailers, end=True), 0.0)
    assert seen.heads == [[(b":status", b"200")], [(b"x-end", b"1")]]
    assert (seen.body, seen.ended, seen.code) == (b"answer", True, None)
    assert not connection.streams
    assert connection.open(REQUEST, Seen()).id == 3


def test_windows_of_the_peer_are_kept() -> None:
    connection, seen = client(), Seen()
    connection.receive(f.settings({f.INITIAL_WINDOW_SIZE: 10}), 0.0)
    stream = connection.open(REQUEST, seen)
    said(connection)
    stream.send_data(b"x" * 25)
    stream.send_end(b"")
    assert said(connection) == data(1, b"x" * 10)
    connection.receive(f.window_update(1, 10), 0.0)
    assert said(connection) == data(1, b"x" * 10)
    connection.receive(f.window_update(1, 10), 0.0)
    assert said(connection) == data(1, b"x" * 5) + data(1, b"", end=True)


def test_a_held_stream_gets_no_window() -> None:
    connection, seen = client(stream_window=100), Seen()
    stream = connection.open(REQUEST, seen)
    connection.receive(headers(1, OK), 0.0)
    said(connection)
    connection.hold(stream)
    connection.receive(data(1, b"x" * 80), 0.0)
    assert f.window_update(1, 80) not in said(connection)
    connection.release(stream)
    assert f.window_update(1, 80) in said(connection)
    connection.hold(stream)
    connection.receive(data(1, b"x" * 101), 0.0)  # more than it may
    assert seen.code is ErrorCode.FLOW_CONTROL_ERROR


def test_the_peers_limit_of_streams_is_kept() -> None:
    connection = client()
    connection.receive(f.settings({f.MAX_CONCURRENT_STREAMS: 1}), 0.0)
    connection.open(REQUEST, Seen())
    assert not connection.free
    with pytest.raises(NoStreamError):
        connection.open(REQUEST, Seen())


def test_goaway_refuses_what_the_peer_did_not_take() -> None:
    connection = client()
    first, second = Seen(), Seen()
    connection.open(REQUEST, first)
    connection.open(REQUEST, second)
    connection.receive(f.goaway(1, ErrorCode.NO_ERROR), 0.0)
    assert (first.code, second.code) == (None, ErrorCode.REFUSED_STREAM)
    assert not connection.free
    connection.receive(headers(1, OK, end=True), 0.0)
    assert first.ended
    connection.streams.pop(1, None)
    assert connection.drained


def test_a_reset_tells_why() -> None:
    connection, seen = client(), Seen()
    connection.open(REQUEST, seen)
    connection.receive(f.rst_stream(1, ErrorCode.REFUSED_STREAM), 0.0)
    assert seen.code is ErrorCode.REFUSED_STREAM


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (headers(3, OK), ErrorCode.PROTOCOL_ERROR),  # a stream that we never opened
        (data(3, b"x"), ErrorCode.PROTOCOL_ERROR),
        (headers(2, OK), ErrorCode.PROTOCOL_ERROR),  # one that only a server could
        (headers(1, b"\xff\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
        (f.head(4, f.PUSH_PROMISE, 0, 1) + b"\0\0\0\2", ErrorCode.PROTOCOL_ERROR),
        (f.head(0, f.CONTINUATION, 0, 1), ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_faults_end_the_connection(frames: bytes, code: ErrorCode) -> None:
    connection, seen = client(), Seen()
    connection.open(REQUEST, seen)
    connection.receive(frames, 0.0)
    assert connection.phase is Phase.CLOSED
    assert connection.fault is not None
    assert connection.fault.code is code
    assert seen.code is ErrorCode.CANCEL


def test_a_lost_socket_ends_every_stream() -> None:
    connection, seen = client(), Seen()
    stream = connection.open(REQUEST, seen)
    connection.lost()
    assert seen.code is ErrorCode.CANCEL
    assert stream.state is State.CLOSED
    stream.send_data(b"late")  # nobody listens, and nothing breaks
    stream.send_end(b"")
