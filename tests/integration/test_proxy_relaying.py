"""What goes through the proxy arrives as it should: requests byte for byte, answers as framed."""

import asyncio
import itertools

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.gateways import chat, post, read_response, running_proxy, send, until
from tests.support.upstreams import (
    SSE_HEAD,
    Received,
    Upstream,
    chunk,
    event,
    stream,
    unary,
)


async def test_a_unary_answer_comes_back_with_its_endpoint_named() -> None:
    async with Upstream(unary(b'{"id":"x"}')) as upstream, running_proxy([upstream.url]) as proxy:
        answer = await send(proxy.port, post("/v1/chat/completions", chat()))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b'{"id":"x"}')
    assert f"x-inferway-endpoint: 127.0.0.1:{upstream.port}\r\n".encode() in answer


async def test_the_body_reaches_the_endpoint_byte_for_byte() -> None:
    body = (
        b'{ "messages":[ {"content":"\\u00e9\\n \xc3\xa9","role":"user"}],'
        b'"x":1e3,\t"model":"sim-8b"}'
    )
    async with Upstream(unary()) as upstream, running_proxy([upstream.url]) as proxy:
        await send(proxy.port, post("/v1/chat/completions", body))
    assert upstream.received[0].body == body


async def test_fields_end_at_this_hop_or_pass_as_they_should() -> None:
    fields = (
        b"Connection: keep-alive, X-Private\r\nX-Private: 1\r\nTE: trailers\r\n"
        b"Authorization: Bearer k\r\nX-Custom: kept \r\nAccept-Encoding: gzip\r\n"
        b"x-prefiller-host-port: evil:1\r\nX-Request-Id: mine-7\r\n"
    )
    async with Upstream(unary()) as upstream, running_proxy([upstream.url]) as proxy:
        answer = await send(proxy.port, post("/v1/chat/completions", chat(), fields))
    seen = upstream.received[0].fields
    assert seen[b"authorization"] == b"Bearer k"
    assert seen[b"x-custom"] == b"kept"
    assert seen[b"x-request-id"] == b"mine-7"
    assert seen[b"host"] == f"127.0.0.1:{upstream.port}".encode()
    assert not {b"x-private", b"te", b"accept-encoding", b"x-prefiller-host-port"} & seen.keys()
    assert b"x-request-id: mine-7\r\n" in answer


async def test_a_stream_is_relayed_while_it_is_produced() -> None:
    gate = asyncio.Event()

    async def script(_: Upstream, __: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD + chunk(event("first")))
        await gate.wait()
        writer.write(chunk(event("second")) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async with Upstream(script) as upstream, running_proxy([upstream.url]) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(post("/v1/chat/completions", chat(streamed=True)))
        early = await asyncio.wait_for(reader.readuntil(b"first"), 5)
        assert b"text/event-stream" in early
        gate.set()
        late = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)
        assert b"second" in late and b"[DONE]" in late
        writer.close()


async def test_counts_come_from_the_stream() -> None:
    async with Upstream(stream(tokens=5)) as upstream, running_proxy([upstream.url]) as proxy:
        await send(proxy.port, post("/v1/chat/completions", chat(streamed=True)))
        await until(lambda: bool(proxy.records))
    record = proxy.records[0]
    assert (record.status, record.reason) == (200, "")
    assert (record.prompt_tokens, record.cached_tokens, record.completion_tokens) == (40, 16, 5)
    assert record.ttft is not None and 0 < record.ttft <= record.duration


async def test_pipelined_requests_are_answered_in_order_on_one_connection() -> None:
    async def script(_: Upstream, request: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02 if b"slow" in request.body else 0)
        await unary(request.body)(_, request, writer)

    bodies = [chat("slow"), chat("b"), chat("c")]
    async with Upstream(script) as upstream, running_proxy([upstream.url]) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"".join(post("/v1/chat/completions", body) for body in bodies))
        for body in bodies:
            assert (await asyncio.wait_for(read_response(reader), 5)).endswith(body)
        writer.close()


async def test_a_chunked_request_body_is_forwarded_whole() -> None:
    body = chat("chunked")
    wire = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n"
        + chunk(body[:7])
        + chunk(body[7:])
        + b"0\r\n\r\n"
    )
    async with Upstream(unary()) as upstream, running_proxy([upstream.url]) as proxy:
        assert (await send(proxy.port, wire)).startswith(b"HTTP/1.1 200")
    assert upstream.received[0].body == body
    assert upstream.received[0].fields[b"content-length"] == str(len(body)).encode()


async def test_an_http_1_0_client_gets_a_stream_delimited_by_close() -> None:
    wire = post("/v1/chat/completions", chat(streamed=True)).replace(b"HTTP/1.1", b"HTTP/1.0")
    async with Upstream(stream(tokens=2)) as upstream, running_proxy([upstream.url]) as proxy:
        answer = await send(proxy.port, wire, close=True)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower() and b"connection: close" in head
    assert body.startswith(b"data: ") and body.endswith(b"data: [DONE]\n\n")


async def test_a_response_that_ends_with_its_connection_is_complete() -> None:
    async def script(_: Upstream, __: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"a":')
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(b"1}")
        await writer.drain()
        writer.close()

    async with Upstream(script) as upstream, running_proxy([upstream.url]) as proxy:
        answer = await send(proxy.port, post("/v1/completions", b'{"model":"sim-8b","prompt":"x"}'))
        await until(lambda: bool(proxy.records))
    assert b"".join(answer.partition(b"\r\n\r\n")[2].split(b"\r\n")[1::2]).startswith(b'{"a":1}')
    assert proxy.records[0].reason == ""


async def test_expect_continue_is_answered_before_the_body() -> None:
    body = chat()
    head = post("/v1/chat/completions", body, b"Expect: 100-continue\r\n").removesuffix(body)
    async with Upstream(unary()) as upstream, running_proxy([upstream.url]) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(head)
        interim = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await asyncio.wait_for(read_response(reader), 5)).startswith(b"HTTP/1.1 200")
        writer.close()
    assert b"expect" not in upstream.received[0].fields


async def test_a_slow_reader_pauses_the_endpoint_instead_of_filling_memory() -> None:
    sent = 0
    piece = b"x" * 65536

    async def script(_: Upstream, __: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.transport.set_write_buffer_limits(high=65536)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (len(piece) * 1600))
        for _piece in range(1600):
            writer.write(piece)
            await writer.drain()
            sent += len(piece)

    async with Upstream(script) as upstream, running_proxy([upstream.url]) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, limit=65536)
        writer.write(post("/v1/completions", b'{"model":"sim-8b","prompt":"x"}'))
        await until(lambda: sent > 0)
        settled = -1
        while settled != sent:  # until it moves no more
            settled = sent
            await asyncio.sleep(0.2)
        # What lies in socket buffers of four ends is the kernel's; 100 MB would be ours.
        assert sent < 40_000_000
        head = await reader.readuntil(b"\r\n\r\n")
        total = 0
        while total < len(piece) * 1600:
            total += len(await asyncio.wait_for(reader.read(1 << 20), 10))
        assert head.startswith(b"HTTP/1.1 200") and total == len(piece) * 1600
        writer.close()


async def test_models_are_answered_by_the_gateway() -> None:
    async with Upstream(unary()) as upstream, running_proxy([upstream.url]) as proxy:
        answer = await send(proxy.port, b"GET /v1/models HTTP/1.1\r\nhost: g\r\n\r\n")
    assert b'"id":"sim-8b"' in answer
    assert not upstream.received


@pytest.mark.parametrize(
    ("wire", "status", "reason"),
    [
        (post("/v1/chat/completions", b'{"model":"nope","messages":[]}'), 404, "unknown_model"),
        (post("/v1/chat/completions", b'{"model":'), 400, "invalid_json"),
        (post("/v1/nothing/../chat/completions", chat()), 400, "invalid_path"),
        (b"GET /metrics HTTP/1.1\r\nhost: g\r\n\r\n", 404, "unknown_path"),
        (b"NONSENSE\r\n\r\n", 400, "invalid_http"),
        (
            post("/v1/chat/completions", chat(), b"x: %b\r\n" % (b"y" * 70_000)),
            431,
            "header_too_large",
        ),
        (
            b"POST /v1/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 99999999999\r\n\r\n",
            413,
            "body_too_large",
        ),
    ],
)
async def test_what_cannot_be_served_is_refused_with_a_reason(
    wire: bytes, status: int, reason: str
) -> None:
    async with Upstream(unary()) as upstream, running_proxy([upstream.url]) as proxy:
        answer = await send(proxy.port, wire)
        await until(lambda: bool(proxy.records))
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b'"error"' in answer
    assert proxy.records[0].reason == reason
    assert not upstream.received


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cuts=st.lists(st.integers(0, 600), max_size=12), streamed=st.booleans())
def test_any_split_of_the_request_gives_the_same_upstream_bytes(
    cuts: list[int], streamed: bool
) -> None:
    body = chat("split me " * 30, streamed=streamed)
    wire = post("/v1/chat/completions", body, b"x-request-id: fixed\r\nX-A: b\r\n")
    edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]

    async def run() -> tuple[Received, Received]:
        script = stream(3) if streamed else unary()
        async with Upstream(script) as upstream, running_proxy([upstream.url]) as proxy:
            whole = await send(proxy.port, wire)
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            for start, end in itertools.pairwise(edges):
                writer.write(wire[start:end])
                await writer.drain()
                await asyncio.sleep(0)
            split = await asyncio.wait_for(read_response(reader), 10)
            writer.close()
        assert split == whole
        return upstream.received[0], upstream.received[1]

    first, second = uvloop.run(run())
    assert first.head == second.head
    assert first.body == second.body == body
