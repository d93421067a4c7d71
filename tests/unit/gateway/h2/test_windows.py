"""Flow control: both windows, in both directions."""

from gateway.h2 import frames as f
from gateway.h2.frames import ErrorCode
from gateway.h2.headers import literal_block
from gateway.h2.limits import Limits
from tests.support.frames import Client, data, frame

ANSWER = literal_block([(b":status", b"200")])
END = literal_block([(b"grpc-status", b"0")])


def update(stream: int, increment: int) -> bytes:
    return frame(f.WINDOW_UPDATE, 0, stream, increment.to_bytes(4))


def sent_data(client: Client, stream: int) -> int:
    return sum(
        len(one.payload) for one in client.frames() if one.kind == f.DATA and one.stream == stream
    )


def test_data_keeps_to_both_windows() -> None:
    client = Client()
    heard = client.open()
    heard.stream.send_data(bytes(200_000))
    assert sent_data(client, 1) == 65_535
    client.say(update(1, 50_000))
    assert sent_data(client, 1) == 0  # the connection's window is shut
    client.say(update(0, 30_000))
    assert sent_data(client, 1) == 30_000
    client.say(update(0, 1_000_000))
    assert sent_data(client, 1) == 20_000  # the stream's is
    client.say(update(1, 1_000_000))
    assert sent_data(client, 1) == 200_000 - 65_535 - 50_000
    assert heard.stream.pending_bytes == 0


def test_trailers_wait_for_data() -> None:
    client = Client()
    heard = client.open(end=True)
    heard.stream.send_headers(ANSWER)
    heard.stream.send_data(bytes(70_000))
    heard.stream.send_end(END)
    assert not any(one.flags & f.END_STREAM for one in client.frames())
    client.say(update(0, 10_000) + update(1, 10_000))
    *_, last = client.frames()
    assert last.flags & f.END_STREAM
    assert client.connection.streams == {}


def test_windows_may_be_made_smaller_than_what_is_on_its_way() -> None:
    client = Client()
    client.say(update(0, 1_000_000))
    heard = client.open()
    heard.stream.send_data(bytes(60_000))
    client.frames()
    client.say(f.settings({f.INITIAL_WINDOW_SIZE: 1_000}))
    assert heard.stream.send_window == 1_000 - 60_000
    heard.stream.send_data(b"x" * 10)
    assert sent_data(client, 1) == 0
    client.say(update(1, 59_005))
    assert sent_data(client, 1) == 5
    assert client.open(3).stream.send_window == 1_000


def test_larger_initial_windows_open_those_of_streams_that_wait() -> None:
    client = Client()
    client.say(update(0, 1_000_000))
    client.open().stream.send_data(bytes(100_000))
    assert sent_data(client, 1) == 65_535
    client.say(f.settings({f.INITIAL_WINDOW_SIZE: 200_000}))
    assert sent_data(client, 1) == 100_000 - 65_535


def test_frames_are_as_long_as_the_peer_allows() -> None:
    client = Client()
    client.say(update(0, 1_000_000) + f.settings({f.INITIAL_WINDOW_SIZE: 1_000_000}))
    client.frames()
    client.open().stream.send_data(bytes(40_000))
    assert [len(one.payload) for one in client.frames()] == [16_384, 16_384, 7_232]
    client.say(f.settings({f.MAX_FRAME_SIZE: 30_000}))
    client.frames()
    client.heard[1].stream.send_data(bytes(40_000))
    assert [len(one.payload) for one in client.frames()] == [30_000, 10_000]


def test_waiting_streams_take_turns() -> None:
    client = Client()
    client.say(f.settings({f.INITIAL_WINDOW_SIZE: 1_000_000}))
    first, second = client.open(1), client.open(3)
    first.stream.send_data(bytes(100_000))
    second.stream.send_data(bytes(100_000))
    client.frames()
    client.say(update(0, 20_000))
    client.say(update(0, 20_000))
    streams = {one.stream for one in client.frames() if one.kind == f.DATA}
    assert streams == {1, 3}


def test_our_windows_are_opened_again_while_they_are_used() -> None:
    limits = Limits(stream_window=100_000, connection_window=150_000)
    client = Client(limits)
    client.open()
    opened = {0: 0, 1: 0}
    for _ in range(40):
        client.say(data(1, bytes(10_000)))
        for one in client.frames():
            assert one.kind == f.WINDOW_UPDATE
            opened[one.stream] += int.from_bytes(one.payload)
    assert opened[1] >= 300_000
    assert opened[0] >= 300_000


def test_data_beyond_a_stream_window_ends_the_stream() -> None:
    client = Client(Limits(stream_window=65_535, send_backlog=0))
    heard = client.open()
    for _ in range(5):
        client.say(data(1, bytes(16_000)))
    assert heard.cuts == [ErrorCode.FLOW_CONTROL_ERROR]


def test_data_beyond_the_connection_window_ends_the_connection() -> None:
    client = Client(Limits(connection_window=65_535, max_frame=1 << 20))
    client.open()
    client.say(data(1, bytes(70_000)))
    assert client.fault() is ErrorCode.FLOW_CONTROL_ERROR


def test_a_peer_that_does_not_read_can_not_make_us_hold_more_than_its_window() -> None:
    limits = Limits(stream_window=100_000, send_backlog=50_000)
    client = Client(limits)
    heard = client.open()
    sent = 0
    while not heard.cuts and sent < 10_000_000:  # everything comes back, and nothing is read
        client.say(data(1, bytes(10_000)))
        sent += 10_000
        heard.stream.send_data(bytes(10_000))
        assert heard.stream.pending_bytes < 65_535 + limits.stream_window + limits.send_backlog
    assert heard.cuts == [ErrorCode.FLOW_CONTROL_ERROR]


def test_a_window_held_shut_is_opened_when_the_peer_reads() -> None:
    client = Client(Limits(stream_window=100_000, send_backlog=10_000))
    heard = client.open()
    heard.stream.send_data(bytes(100_000))
    client.say(data(1, bytes(60_000)))
    assert not any(one.kind == f.WINDOW_UPDATE and one.stream for one in client.frames())
    client.say(update(0, 100_000) + update(1, 100_000))
    opened = [one for one in client.frames() if one.kind == f.WINDOW_UPDATE and one.stream]
    assert [int.from_bytes(one.payload) for one in opened] == [60_000]


def test_a_full_socket_holds_data_back() -> None:
    client = Client()
    heard = client.open()
    client.connection.pause()
    heard.stream.send_data(b"x" * 100)
    assert sent_data(client, 1) == 0
    client.connection.resume()
    assert sent_data(client, 1) == 100


def test_what_is_sent_outside_of_receiving_wakes_the_shell() -> None:
    client = Client()
    heard = client.open()
    before = client.woken
    heard.stream.send_data(b"x")
    assert client.woken > before
