"""The HTTP/2 connection under any bytes, any fragmentation, any order of frames."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.h2 import frames as f
from gateway.h2.connection import Phase
from gateway.h2.headers import literal_block
from gateway.h2.limits import Limits
from gateway.h2.stream import State
from gateway.rpc.messages import Deframer, framed
from tests.support.frames import Client, Frame, data, frame

END = literal_block([(b"grpc-status", b"0")])


@given(st.lists(st.binary(max_size=300), max_size=20), st.integers(0, 1 << 32))
def test_any_bytes_end_in_a_clean_state(pieces: list[bytes], seed: int) -> None:
    dice = random.Random(seed)
    client = Client()
    client.open()
    for piece in pieces:
        kind = dice.choice([None, *range(11)])
        said = piece if kind is None else frame(kind, dice.getrandbits(8), dice.randrange(8), piece)
        client.say(said)
    client.connection.lost()
    assert client.connection.streams == {}
    for heard in client.heard.values():
        assert heard.stream.state is State.CLOSED
        assert heard.ended + len(heard.cuts) >= 1


@given(st.lists(st.integers(1, 50), max_size=40), st.binary(max_size=5_000))
def test_fragmentation_changes_nothing(cuts: list[int], body: bytes) -> None:
    said = b"".join(data(1, body[at : at + 700]) for at in range(0, len(body), 700)) + data(
        1, b"", end=True
    )
    client = Client()
    client.open()
    at = 0
    for cut in cuts:
        client.say(said[at : at + cut])
        at += cut
    client.say(said[at:])
    assert client.heard[1].data_ == body
    assert client.heard[1].ended == 1


class _Peer:
    """A peer that grants windows as it likes and checks that nobody goes beyond them."""

    def __init__(self) -> None:
        self.client = Client(Limits(stream_window=1 << 20))
        self.windows = {0: 65_535}
        self.got: dict[int, bytes] = {}
        self.ended: set[int] = set()

    def collect(self) -> None:
        for one in self.client.frames():
            self._take(one)

    def _take(self, one: Frame) -> None:
        if one.kind == f.DATA:
            self.windows[0] -= len(one.payload)
            self.windows[one.stream] -= len(one.payload)
            assert self.windows[0] >= 0
            assert self.windows[one.stream] >= 0
            assert one.stream not in self.ended
            self.got[one.stream] += one.payload
        elif one.kind == f.HEADERS and one.flags & f.END_STREAM:
            self.ended.add(one.stream)

    def grant(self, stream: int, size: int) -> None:
        if stream and stream not in self.client.connection.streams:
            return
        self.windows[stream] += size
        self.client.say(frame(f.WINDOW_UPDATE, 0, stream, size.to_bytes(4)))


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.integers(0, 3), st.integers(0, 90_000)),
            st.tuples(st.just("grant"), st.integers(0, 4), st.integers(1, 90_000)),
            st.tuples(st.just("pause"), st.just(0), st.just(0)),
            st.tuples(st.just("resume"), st.just(0), st.just(0)),
        ),
        max_size=60,
    )
)
def test_windows_are_never_overdrawn_and_everything_arrives(
    steps: list[tuple[str, int, int]],
) -> None:
    peer = _Peer()
    streams = []
    for number in (1, 3, 5, 7):
        streams.append(peer.client.open(number, end=True).stream)
        peer.windows[number] = 65_535
        peer.got[number] = b""
    sent = dict.fromkeys(peer.got, b"")
    for step, which, size in steps:
        if step == "send":
            piece = bytes([which + 1]) * size
            sent[streams[which].id] += piece
            streams[which].send_data(piece)
        elif step == "grant":
            peer.grant(0 if which == 4 else streams[which].id, size)
        elif step == "pause":
            peer.client.connection.pause()
        else:
            peer.client.connection.resume()
        peer.collect()
    for stream in streams:
        stream.send_end(END)
    peer.client.connection.resume()
    peer.grant(0, 1 << 30)
    for stream in streams:
        peer.grant(stream.id, 1 << 29)
    peer.collect()
    assert peer.got == sent
    assert peer.ended == set(sent)
    assert peer.client.connection.phase is Phase.OPEN
    assert peer.client.connection.streams == {}


@given(st.lists(st.binary(max_size=2_000), max_size=20), st.integers(1, 700))
def test_messages_come_out_as_they_went_in(messages: list[bytes], size: int) -> None:
    wire = b"".join(map(framed, messages))
    deframer = Deframer(2_000)
    found = []
    for at in range(0, len(wire), size):
        found += deframer.feed(wire[at : at + size])
    assert found == messages
    assert deframer.whole


@given(
    st.lists(st.tuples(st.from_regex(rb"[a-z-]{1,200}", fullmatch=True), st.binary(max_size=400)))
)
def test_literal_blocks_are_what_hpack_reads(fields: list[tuple[bytes, bytes]]) -> None:
    client = Client()
    found = client.decoder.decode(literal_block(fields), raw=True)
    assert [(bytes(name), bytes(value)) for name, value in found] == fields
