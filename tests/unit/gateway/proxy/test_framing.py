"""Event streams leave in whole events, whatever pieces they arrive in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.framing import EventAligner, Framing, choose

EVENTS = [b"data: one\n\n", b"event: x\r\ndata: two\r\n\r\n", b": ping\n\n", b"data: [DONE]\n\n"]


@given(st.data())
def test_whatever_the_pieces_nothing_is_lost_and_only_whole_events_leave(
    data: st.DataObject,
) -> None:
    wire = b"".join(data.draw(st.lists(st.sampled_from(EVENTS), min_size=1, max_size=8)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=10)))
    ends = {0}
    for separator in (b"\n\n", b"\r\n\r\n"):
        at = wire.find(separator)
        while at >= 0:
            ends.add(at + len(separator))
            at = wire.find(separator, at + 1)
    aligner = EventAligner()
    out = b""
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        out += aligner.align(wire[start:end])
        assert len(out) in ends
        assert wire.startswith(out)
    assert out + aligner.rest() == wire


def test_an_overlong_event_is_let_through_and_marks_the_stream_torn() -> None:
    aligner = EventAligner()
    assert aligner.align(b"data: " + b"x" * 70_000) != b""
    assert aligner.torn
    assert aligner.align(b"y\n\n") == b"y\n\n"
    assert not aligner.torn


LENGTH = [(b"content-length", b"5")]


@pytest.mark.parametrize(
    ("status", "headers", "chunked_ok", "bodiless", "framing", "line"),
    [
        (200, LENGTH, True, False, Framing.LENGTH, b"content-length: 5\r\n"),
        (200, LENGTH, True, True, Framing.NONE, b"content-length: 5\r\n"),
        (200, [], True, False, Framing.CHUNKED, b"transfer-encoding: chunked\r\n"),
        (200, [], False, False, Framing.CLOSE, b""),
        (200, [], True, True, Framing.NONE, b""),
        (204, LENGTH, True, False, Framing.NONE, b""),
        (304, LENGTH, True, False, Framing.NONE, b"content-length: 5\r\n"),
    ],
)
def test_the_framing_follows_the_response_and_the_request(
    status: int,
    headers: list[tuple[bytes, bytes]],
    chunked_ok: bool,
    bodiless: bool,
    framing: Framing,
    line: bytes,
) -> None:
    chosen = choose(status, headers, chunked_ok=chunked_ok, bodiless=bodiless)
    assert chosen == (framing, line)


def test_only_chunked_framing_adds_bytes() -> None:
    assert Framing.CHUNKED.frame(b"abc") + Framing.CHUNKED.end == b"3\r\nabc\r\n0\r\n\r\n"
    assert Framing.LENGTH.frame(b"abc") + Framing.LENGTH.end == b"abc"
