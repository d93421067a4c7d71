"""What a hostile peer can't do to an HTTP/2 connection."""

import pytest

from gateway.h2 import frames as f
from gateway.h2.connection import Phase
from gateway.h2.frames import ErrorCode
from gateway.h2.headers import literal_block
from gateway.h2.limits import Limits
from tests.support.frames import REQUEST, Client, data, frame

ANSWER = literal_block([(b":status", b"200")])
END = literal_block([(b"grpc-status", b"0")])


def update(stream: int, increment: int) -> bytes:
    return frame(f.WINDOW_UPDATE, 0, stream, increment.to_bytes(4))


def flood(client: Client, said: bytes, count: int = 200_000) -> ErrorCode | None:
    for _ in range(count // 100):
        client.say(said * 100)
        if client.connection.phase is Phase.CLOSED:
            break
    return client.fault()


@pytest.mark.parametrize(
    "said",
    [
        frame(f.PING, 0, 0, bytes(8)),
        f.settings({}),
        frame(f.PRIORITY, 0, 1, bytes(5)),
        frame(0x42, 0, 0, b""),
        frame(f.DATA, 0, 1, b""),
        frame(f.DATA, f.PADDED, 1, b"\0"),
    ],
)
def test_frames_without_work_are_bounded(said: bytes) -> None:
    client = Client(Limits(idle_frames=1_000))
    client.open()
    assert flood(client, said, 2_000) is ErrorCode.ENHANCE_YOUR_CALM


def test_frames_without_work_at_a_fair_rate_go_on_for_ever() -> None:
    client = Client(Limits(idle_frames=10, idle_rate=1.0))
    for second in range(1_000):
        client.now = float(second)
        client.say(frame(f.PING, 0, 0, bytes(8)))
    assert client.fault() is None


def test_rapid_resets_are_bounded() -> None:
    client = Client(Limits(resets=100, reset_rate=0.0))
    stream = 1
    while client.connection.phase is not Phase.CLOSED and stream < 10_000:
        client.open(stream)
        client.say(frame(f.RST_STREAM, 0, stream, bytes(4)))
        stream += 2
    assert stream // 2 == 101
    assert client.fault() is ErrorCode.ENHANCE_YOUR_CALM
    assert client.connection.streams == {}


def test_resets_of_answered_streams_are_not_counted() -> None:
    client = Client(Limits(resets=100, reset_rate=0.0))
    for stream in range(1, 1_001, 2):
        client.open(stream).stream.send_headers(ANSWER)
        client.say(frame(f.RST_STREAM, 0, stream, bytes(4)))
    assert client.fault() is None


def test_streams_that_break_rules_count_as_reset() -> None:
    client = Client(Limits(resets=100, reset_rate=0.0))
    for stream in range(1, 401, 2):
        client.say(frame(f.HEADERS, f.END_HEADERS, stream, client.block(REQUEST[1:])))
    assert client.fault() is ErrorCode.ENHANCE_YOUR_CALM


def test_continuations_are_bounded_in_number_and_size() -> None:
    client = Client()
    client.say(frame(f.HEADERS, 0, 1, b""))
    assert flood(client, frame(f.CONTINUATION, 0, 1, b"")) is ErrorCode.ENHANCE_YOUR_CALM
    client = Client(Limits(max_header_list=10_000))
    client.say(frame(f.HEADERS, 0, 1, bytes(6_000)) + frame(f.CONTINUATION, 0, 1, bytes(6_000)))
    assert client.fault() is ErrorCode.ENHANCE_YOUR_CALM


def test_a_small_block_that_unfolds_into_a_large_list() -> None:
    client = Client(Limits(max_header_list=4_096), settle=False)
    client.say(f.PREFACE + f.settings({}))
    bomb = (*REQUEST, *((("x-bomb", "x" * 3_000),) * 200))
    client.say(frame(f.HEADERS, f.END_HEADERS, 1, client.block(bomb)))
    assert client.fault() is ErrorCode.COMPRESSION_ERROR


def test_streams_beyond_the_limit_are_refused_and_the_rest_go_on() -> None:
    client = Client(Limits(max_streams=2))
    client.open(1)
    client.open(3)
    client.say(frame(f.HEADERS, f.END_HEADERS, 5, client.block()))
    [refused] = client.frames()
    assert (refused.stream, refused.code) == (5, ErrorCode.REFUSED_STREAM)
    client.say(data(1, b"fine"))
    assert client.heard[1].data_ == b"fine"


def test_what_is_remembered_of_streams_that_were_cut_is_bounded() -> None:
    client = Client(Limits(max_streams=10, resets=10_000))
    for stream in range(1, 2_001, 2):
        client.open(stream).stream.reset(ErrorCode.CANCEL)
        client.frames()
    assert len(client.connection._cut) <= 10
