"""Processing messages in any order and mode: nothing is ever left behind, and no body changes."""

from collections.abc import Callable
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.extproc.wire import WireError
from tests.support.gateways import chat
from tests.support.processing import CHAT, Envoy, Reply
from tests.support.processors import processor

URLS = [f"http://10.0.0.{number}:8000" for number in range(1, 4)]
REQUEST_MODES = ("NONE", "STREAMED", "BUFFERED", "BUFFERED_PARTIAL", "FULL_DUPLEX_STREAMED")
BODIES = (b"", b"x", b"{", chat("hello"), chat("hello", streamed=True), chat()[:20], bytes(70_000))

STEPS: tuple[Callable[[Envoy, bytes, bool], object], ...] = (
    lambda envoy, _body, ends: envoy.request(ends=ends),
    lambda envoy, _body, ends: envoy.request({**CHAT, ":method": "GET"}, ends=ends),
    lambda envoy, body, ends: envoy.body(body, ends=ends),
    lambda envoy, _body, _ends: envoy.trailers(),
    lambda envoy, body, ends: envoy.response(
        503 if len(body) == 1 else 200, ends=ends, served="10.0.0.2:8000"
    ),
    lambda envoy, body, ends: envoy.response_body(body, ends=ends),
    lambda envoy, _body, _ends: envoy.response_trailers(),
)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(REQUEST_MODES),
    st.sampled_from(REQUEST_MODES),
    st.booleans(),
    st.lists(
        st.tuples(st.integers(0, len(STEPS) - 1), st.sampled_from(BODIES), st.booleans()),
        max_size=8,
    ),
)
def test_any_messages_in_any_order_leave_nothing_behind(
    request: str, response: str, ahead: bool, steps: list[tuple[int, bytes, bool]]
) -> None:
    made = processor(URLS, policy="predicted_time", learn=0.5, max_body_bytes=100_000)
    envoy = Envoy(made, request, response, ahead=ahead)
    for step, body, ends in steps:
        with suppress(WireError):
            STEPS[step](envoy, body, ends)
    envoy.close()  # asserts that no ledger, budget or gauge holds anything
    assert len(made.records) == bool(steps)


@settings(deadline=None)
@given(
    st.sampled_from(["STREAMED", "BUFFERED", "BUFFERED_PARTIAL", "FULL_DUPLEX_STREAMED"]),
    st.text(max_size=2_000),
    st.lists(st.integers(1, 900), max_size=8),
    st.booleans(),
)
def test_a_body_comes_back_as_it_went_in(
    mode: str, prompt: str, cuts: list[int], trailers: bool
) -> None:
    text = prompt.encode("unicode_escape").decode()
    body = chat(text.replace("\\", "/").replace('"', "'"))
    made = processor(URLS)
    envoy = Envoy(made, mode, "FULL_DUPLEX_STREAMED", ahead=True)
    replies: list[Reply] = envoy.request()
    at = 0
    for cut in () if mode.startswith("BUFFERED") else cuts:
        replies += envoy.body(body[at : at + cut])
        at += cut
    replies += envoy.body(body[at:], ends=not trailers)
    if trailers:
        replies += envoy.trailers()
    kinds = [reply.kind for reply in replies]
    assert kinds[0] == "request_headers"
    assert (kinds[-1] == "request_trailers") == trailers
    bodies = [reply for reply in replies if reply.kind == "request_body"]
    if mode == "FULL_DUPLEX_STREAMED":
        assert b"".join(reply.chunk for reply in bodies) == body
        assert [reply.ends for reply in bodies][-1:] == [not trailers]
    else:
        assert all(reply.changed_body is None for reply in bodies)
    assert sum(reply.destination is not None for reply in bodies + replies[:1]) == 1
    for piece in (b"", b"x" * 5, bytes(130_000)):
        envoy.response()
        back = envoy.response_body(piece)
        assert b"".join(reply.chunk for reply in back) == piece
    envoy.close()
