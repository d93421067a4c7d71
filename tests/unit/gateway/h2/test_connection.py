"""The HTTP/2 connection: the rules of RFC 9113."""

import pytest

from gateway.h2 import frames as f
from gateway.h2.connection import Phase
from gateway.h2.frames import ErrorCode
from gateway.h2.headers import literal_block
from gateway.h2.limits import Limits
from gateway.h2.stream import State
from tests.support.frames import REQUEST, Client, data, frame

ANSWER = literal_block([(b":status", b"200")])
END = literal_block([(b"grpc-status", b"0")])


def update(stream: int, increment: int) -> bytes:
    return frame(f.WINDOW_UPDATE, 0, stream, increment.to_bytes(4))


def test_settings_come_first_and_allow_no_dynamic_table() -> None:
    client = Client(Limits(stream_window=1 << 17, connection_window=1 << 20), settle=False)
    settings, window = client.frames()
    pairs = dict(f.iter_settings(settings.payload))
    assert settings.kind == f.SETTINGS
    assert pairs[f.HEADER_TABLE_SIZE] == 0
    assert pairs[f.INITIAL_WINDOW_SIZE] == 1 << 17
    assert (window.kind, window.stream) == (f.WINDOW_UPDATE, 0)
    assert int.from_bytes(window.payload) == (1 << 20) - 65_535


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"])
def test_who_does_not_speak_http2_is_told_so(said: bytes) -> None:
    client = Client(settle=False)
    client.say(said)
    assert client.fault() is ErrorCode.PROTOCOL_ERROR
    assert client.connection.drained


def test_the_first_frame_must_be_settings() -> None:
    client = Client(settle=False)
    client.say(f.PREFACE + frame(f.PING, 0, 0, b"12345678"))
    assert client.fault() is ErrorCode.PROTOCOL_ERROR


def test_bytes_may_come_one_by_one() -> None:
    client = Client(settle=False)
    client.encoder.header_table_size = 0
    for byte in (
        f.PREFACE
        + f.settings({})
        + frame(f.SETTINGS, f.ACK, 0)
        + frame(f.HEADERS, f.END_HEADERS, 1, client.block())
        + data(1, b"hello", end=True)
    ):
        client.say(bytes([byte]))
    assert client.heard[1].data_ == b"hello"
    assert client.heard[1].ended == 1


def test_a_stream_from_its_first_frame_to_its_last() -> None:
    client = Client()
    heard = client.open()
    assert heard.block.path == b"/test.Echo/Echo"
    client.say(data(1, b"question", end=True))
    assert heard.stream.state is State.HALF_CLOSED_REMOTE
    heard.stream.send_headers(ANSWER)
    heard.stream.send_data(b"answer")
    heard.stream.send_end(END)
    headers, answer, trailers = client.frames()
    assert (headers.kind, headers.flags) == (f.HEADERS, f.END_HEADERS)
    assert (answer.kind, answer.payload) == (f.DATA, b"answer")
    assert (trailers.kind, trailers.flags) == (f.HEADERS, f.END_HEADERS | f.END_STREAM)
    assert client.connection.streams == {}
    assert heard.cuts == []


def test_a_peer_that_goes_on_after_our_end_is_told_that_nobody_listens() -> None:
    client = Client()
    heard = client.open()
    heard.stream.send_headers(ANSWER)
    heard.stream.send_end(END)
    *_, reset = client.frames()
    assert (reset.kind, reset.code) == (f.RST_STREAM, ErrorCode.NO_ERROR)
    client.say(data(1, b"late"))
    assert client.fault() is None


def test_trailers_end_a_stream() -> None:
    client = Client()
    heard = client.open()
    block = client.block((("x-checksum", "1"),))
    client.say(frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, 1, block))
    assert heard.ended == 1


def test_headers_and_data_with_padding_and_priority() -> None:
    client = Client()
    payload = b"\x03" + bytes(5) + client.block() + bytes(3)
    client.say(frame(f.HEADERS, f.END_HEADERS | f.PADDED | f.WITH_PRIORITY, 1, payload))
    client.say(frame(f.DATA, f.PADDED, 1, b"\x02hello\0\0"))
    assert client.heard[1].data_ == b"hello"
    client.say(frame(f.DATA, f.PADDED, 1, b"\x05abcd"))
    assert client.fault() is ErrorCode.PROTOCOL_ERROR


def test_a_block_in_many_frames() -> None:
    client = Client()
    block = client.block()
    client.say(frame(f.HEADERS, 0, 1, block[:3]))
    client.say(frame(f.CONTINUATION, 0, 1, block[3:7]))
    assert client.heard == {}
    client.say(frame(f.CONTINUATION, f.END_HEADERS, 1, block[7:]))
    assert client.heard[1].block.path == b"/test.Echo/Echo"


@pytest.mark.parametrize(
    "between", [data(1, b"x"), frame(f.PING, 0, 0, bytes(8)), frame(f.CONTINUATION, 0, 3, b"")]
)
def test_nothing_may_come_between_the_frames_of_a_block(between: bytes) -> None:
    client = Client()
    client.say(frame(f.HEADERS, 0, 1, client.block()) + between)
    assert client.fault() is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "fields",
    [
        REQUEST[1:],  # no method
        (*REQUEST, (":path", "/late")),
        (*REQUEST, ("connection", "close")),
        (*REQUEST, ("te", "gzip")),
        (REQUEST[0], *REQUEST),  # a method twice
        (("host", "x"), *REQUEST),  # a regular field before the pseudo fields
        (*REQUEST, ("x-value", "a\r\nb")),
    ],
)
def test_malformed_requests_end_their_stream_only(fields: tuple[tuple[str, str], ...]) -> None:
    client = Client()
    client.say(frame(f.HEADERS, f.END_HEADERS, 1, client.block(fields)))
    [reset] = client.frames()
    assert (reset.kind, reset.stream, reset.code) == (f.RST_STREAM, 1, ErrorCode.PROTOCOL_ERROR)
    assert client.heard == {}
    assert client.open(3).block.path


def test_a_field_name_in_capitals_is_malformed() -> None:
    client = Client()
    raw = b"".join(
        [client.block(), b"\x00\x01X\x01y"]  # the encoder would write a small letter
    )
    client.say(frame(f.HEADERS, f.END_HEADERS, 1, raw))
    assert client.frames()[0].code is ErrorCode.PROTOCOL_ERROR


def test_a_block_that_can_not_be_read_ends_the_connection() -> None:
    client = Client()
    client.say(frame(f.HEADERS, f.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"))
    assert client.fault() is ErrorCode.COMPRESSION_ERROR


def test_equal_blocks_are_read_once_and_still_right_while_a_table_is_in_use() -> None:
    client = Client(settle=False)
    client.say(f.PREFACE + f.settings({}))
    for stream in (1, 3, 5):  # indexed fields: equal blocks mean different things at first
        block = client.block((*REQUEST, ("x-number", str(stream))))
        client.say(frame(f.HEADERS, f.END_HEADERS, stream, block))
        assert client.heard[stream].block.fields[b"x-number"] == b"%d" % stream
    client.say(frame(f.SETTINGS, f.ACK, 0))
    client.encoder.header_table_size = 0
    client.open(7)
    assert client.open(9).block is client.open(11).block


def test_a_peer_that_keeps_its_table_after_it_agreed_not_to() -> None:
    client = Client(settle=False)
    client.say(f.PREFACE + f.settings({}) + frame(f.SETTINGS, f.ACK, 0))
    client.say(frame(f.HEADERS, f.END_HEADERS, 1, client.block()))
    assert client.fault() is ErrorCode.COMPRESSION_ERROR


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (data(1, b"x"), ErrorCode.PROTOCOL_ERROR),
        (frame(f.RST_STREAM, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (update(1, 1), ErrorCode.PROTOCOL_ERROR),
        (frame(f.HEADERS, f.END_HEADERS, 2, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(f.HEADERS, f.END_HEADERS, 0, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(f.CONTINUATION, f.END_HEADERS, 1, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(f.PUSH_PROMISE, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (frame(f.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
        (frame(f.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (frame(f.PING, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(f.SETTINGS, 0, 1, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(f.SETTINGS, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(f.SETTINGS, f.ACK, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
        (f.settings({f.ENABLE_PUSH: 2}), ErrorCode.PROTOCOL_ERROR),
        (f.settings({f.MAX_FRAME_SIZE: 1}), ErrorCode.PROTOCOL_ERROR),
        (f.settings({f.INITIAL_WINDOW_SIZE: 1 << 31}), ErrorCode.FLOW_CONTROL_ERROR),
        (update(0, 0), ErrorCode.PROTOCOL_ERROR),
        (update(0, f.MAX_WINDOW), ErrorCode.FLOW_CONTROL_ERROR),
        (frame(f.WINDOW_UPDATE, 0, 0, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(f.RST_STREAM, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(f.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (frame(f.GOAWAY, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(f.PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
        (f.head(1 << 19, f.DATA, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
    ],
)
def test_what_ends_a_connection(said: bytes, code: ErrorCode) -> None:
    client = Client()
    client.say(said)
    assert client.fault() is code
    assert client.connection.phase is Phase.CLOSED


def test_frames_on_a_stream_whose_peer_has_ended_it() -> None:
    client = Client()
    heard = client.open(end=True)
    client.say(data(1, b"more"))
    assert heard.cuts == [ErrorCode.STREAM_CLOSED]
    [reset] = client.frames()
    assert reset.code is ErrorCode.STREAM_CLOSED


def test_frames_on_a_stream_that_both_have_ended() -> None:
    client = Client()
    heard = client.open(end=True)
    heard.stream.send_headers(ANSWER)
    heard.stream.send_end(END)
    client.frames()
    client.say(frame(f.HEADERS, f.END_HEADERS, 1, client.block()))
    assert client.fault() is ErrorCode.STREAM_CLOSED


def test_stream_numbers_only_grow() -> None:
    client = Client()
    client.open(5)
    client.say(frame(f.HEADERS, f.END_HEADERS, 3, client.block()))
    assert client.fault() is ErrorCode.STREAM_CLOSED


def test_a_reset_is_told_and_ends_the_stream() -> None:
    client = Client()
    heard = client.open()
    client.say(frame(f.RST_STREAM, 0, 1, ErrorCode.CANCEL.to_bytes(4)))
    assert heard.cuts == [ErrorCode.CANCEL]
    heard.stream.send_data(b"nobody hears this")
    heard.stream.send_end(END)
    assert client.frames() == []


def test_the_end_of_the_connection_is_told_to_every_stream() -> None:
    client = Client()
    first, second = client.open(1), client.open(3)
    client.connection.lost()
    assert first.cuts == second.cuts == [ErrorCode.CANCEL]
    assert client.connection.drained


def test_unknown_frames_and_settings_are_passed_over() -> None:
    client = Client()
    client.say(frame(0x42, 0xFF, 77, b"what"))
    client.say(f.settings({0x99: 1}))
    client.say(frame(f.PRIORITY, 0, 9, bytes(5)))
    assert client.fault() is None


def test_pings_are_answered_and_settings_acknowledged() -> None:
    client = Client()
    client.say(frame(f.PING, 0, 0, b"abcdefgh") + f.settings({}))
    ping, settings = client.frames()
    assert (ping.kind, ping.flags, ping.payload) == (f.PING, f.ACK, b"abcdefgh")
    assert (settings.kind, settings.flags) == (f.SETTINGS, f.ACK)


def test_draining_takes_what_is_on_its_way_and_lets_it_end() -> None:
    client = Client()
    first = client.open(1)
    client.connection.drain()
    warning, ping = client.frames()
    assert int.from_bytes(warning.payload[:4]) == f.MAX_WINDOW
    second = client.open(3)  # it had not heard of it
    client.say(frame(f.PING, f.ACK, 0, ping.payload))
    [final] = client.frames()
    assert int.from_bytes(final.payload[:4]) == 3
    client.say(frame(f.HEADERS, f.END_HEADERS, 5, client.block()))
    assert 5 not in client.heard
    for heard in (first, second):
        assert not client.connection.drained
        heard.stream.send_headers(ANSWER)
        heard.stream.send_end(END)
    assert client.connection.drained


def test_a_peer_that_leaves_keeps_its_streams() -> None:
    client = Client()
    heard = client.open()
    client.say(frame(f.GOAWAY, 0, 0, bytes(8)))
    assert not client.connection.drained
    heard.stream.send_headers(ANSWER)
    heard.stream.send_end(END)
    assert client.connection.drained
