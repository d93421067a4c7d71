"""What comes after the choice: responses, and every way in which a stream can end."""

from collections.abc import Callable

import pytest

from tests.support.gateways import chat
from tests.support.processing import CHAT, Envoy, Reply
from tests.support.processors import ProcessorUnderTest, processor

A, B, C = "10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"
URLS = [f"http://{address}" for address in (A, B, C)]
BODY = chat("x" * 200_000)


@pytest.fixture
def made() -> ProcessorUnderTest:
    return processor(URLS)


def kinds(replies: list[Reply]) -> list[str]:
    return [reply.kind for reply in replies]


def ask(envoy: Envoy, *, streamed: bool = False) -> None:
    envoy.request()
    envoy.body(chat(streamed=streamed), ends=True)


def test_heads_only_is_answered_and_the_streams_end_ends_it(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made)
    ask(envoy, streamed=True)
    [reply] = envoy.response(content_type="text/event-stream")
    assert reply.fields == {"x-inferway-endpoint": A.encode()}
    assert not reply.skips_response_body
    assert made.in_flight == 1
    envoy.close()
    [record] = made.records
    assert (record.status, record.reason, record.endpoint) == (200, "", A)


def test_full_duplex_responses_come_back_chunk_by_chunk(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made, response="FULL_DUPLEX_STREAMED")
    ask(envoy, streamed=True)
    envoy.response(content_type="text/event-stream")
    event = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
    usage = (
        b'data: {"choices":[],"usage":{"prompt_tokens":40,"completion_tokens":9,'
        b'"prompt_tokens_details":{"cached_tokens":16}}}\n\ndata: [DONE]\n\n'
    )
    for piece in (event, event * 2_000, usage):
        replies = envoy.response_body(piece)
        assert b"".join(reply.chunk for reply in replies) == piece
        assert not any(reply.ends for reply in replies)
    [last] = envoy.response_body(b"", ends=True)
    assert (last.chunk, last.ends) == (b"", True)
    assert made.in_flight == 0
    envoy.close()
    [record] = made.records
    assert (record.prompt_tokens, record.cached_tokens, record.completion_tokens) == (40, 16, 9)
    assert record.ttft is not None
    assert record.output_events == 2_003


def test_full_duplex_responses_may_end_with_trailers(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made, response="FULL_DUPLEX_STREAMED")
    ask(envoy)
    envoy.response()
    [chunk] = envoy.response_body(b"{}")
    assert not chunk.ends
    [trailers] = envoy.response_trailers()
    assert trailers.kind == "response_trailers"
    assert made.in_flight == 0
    envoy.close()


@pytest.mark.parametrize("mode", ["STREAMED", "BUFFERED", "BUFFERED_PARTIAL"])
def test_bodies_that_nobody_learns_from_are_declined(made: ProcessorUnderTest, mode: str) -> None:
    envoy = Envoy(made, response=mode)
    ask(envoy)
    [reply] = envoy.response()
    assert reply.skips_response_body
    [body] = envoy.response_body(b"{}", ends=True)  # an Envoy that does not allow it sends it
    assert body.changed_body is None
    envoy.close()


@pytest.mark.parametrize("mode", ["STREAMED", "BUFFERED"])
def test_bodies_that_are_learned_from_stay_as_they_are(mode: str) -> None:
    made = processor(URLS, learn=1.0)
    envoy = Envoy(made, "BUFFERED", mode)
    envoy.request({**CHAT, "accept-encoding": "gzip"})
    [choice] = envoy.body(chat(), ends=True)
    assert "accept-encoding" in choice.removed
    [reply] = envoy.response()
    assert not reply.skips_response_body
    [body] = envoy.response_body(b'{"usage":{"prompt_tokens":7,"completion_tokens":10}}', ends=True)
    assert body.changed_body is None
    envoy.close()
    assert made.records[0].completion_tokens == 10


def test_a_response_that_is_only_a_head(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made, response="FULL_DUPLEX_STREAMED")
    ask(envoy)
    envoy.response(204, ends=True)
    assert made.in_flight == 0
    envoy.close()
    assert made.records[0].status == 204


def test_a_failing_endpoint_counts_in_its_breaker(made: ProcessorUnderTest) -> None:
    for _ in range(15):
        envoy = Envoy(made)
        ask(envoy)
        envoy.response(500, ends=True)
        envoy.close()
    assert {state.breaker.circuit.value for state in made.router.fleet} == {"open"}
    assert made.records[0].reason == "status_500"


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "BUFFERED"])
@pytest.mark.parametrize("steps", range(6))
def test_a_stream_may_end_at_any_point(made: ProcessorUnderTest, mode: str, steps: int) -> None:
    envoy = Envoy(made, mode, "FULL_DUPLEX_STREAMED")
    script: list[Callable[[], object]] = [
        envoy.request,
        lambda: envoy.body(chat(streamed=True), ends=True),
        lambda: envoy.response(content_type="text/event-stream"),
        lambda: envoy.response_body(b"data: x\n\n"),
        lambda: envoy.response_body(b"data: [DONE]\n\n", ends=True),
    ]
    for step in script[:steps]:
        step()
    envoy.close()
    assert len(made.records) == (1 if steps else 0)
    if 0 < steps < 3 or steps == 4:
        assert made.records[0].status == 499


def test_the_client_left_before_its_body_was_whole(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made)
    envoy.request()
    envoy.body(b"x" * 1_000)
    assert made.context.held_bytes == 1_000
    envoy.close()
