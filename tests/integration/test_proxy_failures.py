"""Parts fail: what was not relayed is not lost, nothing is sent twice, all is given back."""

import asyncio
import socket

import pytest

from tests.support.faults import closed_port, silent
from tests.support.gateways import ProxyUnderTest, chat, post, running_proxy, send, until
from tests.support.upstreams import (
    SSE_HEAD,
    Received,
    Script,
    Upstream,
    chunk,
    event,
    stream,
    unary,
)

STREAMED = post("/v1/chat/completions", chat(streamed=True))
UNARY = post("/v1/chat/completions", chat())


def say_then_reset(said: bytes) -> Script:
    """Say some bytes and cut the connection."""

    async def script(_: Upstream, __: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.transport.abort()

    return script


async def test_an_unreachable_endpoint_is_skipped() -> None:
    async with Upstream(unary()) as good:
        urls = [f"http://127.0.0.1:{closed_port()}", good.url]
        async with running_proxy(urls) as proxy:
            answers = [await send(proxy.port, UNARY) for _ in range(4)]
            assert proxy.in_flight == 0
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
    assert "connect_failed" in [reason for record in proxy.records for reason in record.retries]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n",
        SSE_HEAD,
        SSE_HEAD + chunk(b'data: {"error":{"message":"engine died"}}\n\n'),
        SSE_HEAD + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n",
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1x\r\n\r\n",
        b"garbage\r\n\r\n",
    ],
)
@pytest.mark.parametrize("wire", [UNARY, STREAMED])
async def test_until_a_byte_is_relayed_the_next_endpoint_takes_over(
    said: bytes, wire: bytes
) -> None:
    good_script = stream(3) if wire is STREAMED else unary()
    async with Upstream(say_then_reset(said)) as bad, Upstream(good_script) as good:
        async with running_proxy([bad.url, good.url]) as proxy:
            answers = [await send(proxy.port, wire) for _ in range(2)]
            await until(lambda: len(proxy.records) == 2)
            assert proxy.in_flight == 0
    assert len(good.received) == 2
    assert len(bad.received) == 1
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"error" not in answer
    assert sum(record.attempts for record in proxy.records) == 3


@pytest.mark.parametrize("torn", [b"", b"7\r\ndata: {", b'ff\r\ndata: {"cho'])
async def test_a_stream_that_breaks_ends_with_an_error_event_and_is_not_sent_again(
    torn: bytes,
) -> None:
    script = say_then_reset(SSE_HEAD + chunk(event("one")) + torn)
    async with Upstream(script) as bad, Upstream(stream(3)) as good:
        async with running_proxy([bad.url, good.url]) as proxy:
            answer = await send(proxy.port, STREAMED)
            await until(lambda: bool(proxy.records))
            assert proxy.in_flight == 0
    assert not good.received
    payload = answer.partition(b"\r\n\r\n")[2]
    lines = [line for line in payload.split(b"\n") if line.startswith(b"data: ")]
    assert b"one" in lines[0]
    assert lines[1].startswith(b'data: {"error":')
    assert lines[2] == b"data: [DONE]"
    assert payload.endswith(b"0\r\n\r\n")
    assert proxy.records[0].reason == "upstream_closed"


async def test_a_unary_answer_that_breaks_is_cut_not_completed() -> None:
    said = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"a"'
    async with Upstream(say_then_reset(said)) as bad, Upstream(unary()) as good:
        async with running_proxy([bad.url, good.url]) as proxy:
            answer = await send(proxy.port, UNARY, close=True)
            assert proxy.in_flight == 0
    assert answer.endswith(b'{"a"')
    assert not good.received


async def test_when_no_endpoint_is_left_the_client_gets_an_honest_error() -> None:
    async with running_proxy([f"http://127.0.0.1:{closed_port()}"]) as proxy:
        first = await send(proxy.port, UNARY)
        second = await send(proxy.port, UNARY)
        assert proxy.in_flight == 0
    assert first.startswith(b"HTTP/1.1 502")
    assert second.startswith(b"HTTP/1.1 503")
    assert b"retry-after:" in second


async def test_a_kept_alive_connection_that_died_is_replaced_without_blame() -> None:
    async def script(upstream: Upstream, request: Received, writer: asyncio.StreamWriter) -> None:
        if len(upstream.received) == 2:
            writer.transport.abort()
        else:
            await unary()(upstream, request, writer)

    async with Upstream(script) as upstream, running_proxy([upstream.url]) as proxy:
        await send(proxy.port, UNARY)
        answer = await send(proxy.port, UNARY)
        assert answer.startswith(b"HTTP/1.1 200")
        assert proxy.records[-1].retries == ()
        assert (len(upstream.received), upstream.connections) == (3, 2)


async def first_byte(proxy: ProxyUnderTest, upstream: Upstream) -> None:
    """Until the endpoint has the request."""
    await until(lambda: bool(upstream.received))
    assert proxy.in_flight == 1


@pytest.mark.parametrize("phase", ["head", "body", "waiting", "streaming"])
@pytest.mark.parametrize("reset", [True, False])
async def test_a_client_that_leaves_frees_everything(phase: str, reset: bool) -> None:
    script = stream(tokens=10_000, gap=0.005) if phase == "streaming" else silent
    async with Upstream(script) as upstream, running_proxy([upstream.url]) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        wire = STREAMED
        if phase == "head":
            wire = wire[:20]
        elif phase == "body":
            wire = wire[:-5]
        writer.write(wire)
        await writer.drain()
        if phase in {"waiting", "streaming"}:
            await first_byte(proxy, upstream)
        if phase == "streaming":
            await reader.readuntil(b"t3 ")
        await until(lambda: proxy.server.connections == 1)
        left = asyncio.get_running_loop().time()
        if reset:
            writer.transport.abort()
        else:
            writer.close()
        await until(lambda: upstream.open == 0 and proxy.server.connections == 0)
        assert proxy.in_flight == 0
        if phase in {"waiting", "streaming"}:
            assert proxy.records[0].reason == "client_gone"
            assert proxy.records[0].status == 499
            # Freed by the event itself, not by a timer: the 0.25 s tick plays no part.
            assert proxy.records[0].duration < 5
            assert asyncio.get_running_loop().time() - left < 5


async def test_a_client_that_leaves_while_connecting_frees_everything() -> None:
    # A listener whose backlog is full keeps the connection attempt pending.
    with socket.socket() as stuck:
        stuck.bind(("127.0.0.1", 0))
        stuck.listen(0)
        port = stuck.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        async with running_proxy([f"http://127.0.0.1:{port}"]) as proxy:
            _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(UNARY)
            await until(lambda: proxy.in_flight == 1)
            writer.transport.abort()
            await until(lambda: proxy.in_flight == 0)
            assert proxy.records[0].reason == "client_gone"
        for filler in fillers:
            filler.close()


async def test_silence_ends_in_an_honest_timeout() -> None:
    async with Upstream(silent) as upstream:
        async with running_proxy([upstream.url], first_byte_timeout=0.3) as proxy:
            answer = await send(proxy.port, UNARY)
            assert proxy.in_flight == 0
            await until(lambda: upstream.open == 0)
    assert answer.startswith(b"HTTP/1.1 504")


async def test_silence_within_a_stream_ends_it_with_an_error_event() -> None:
    async def script(_: Upstream, __: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD + chunk(event("one")))
        await asyncio.Event().wait()

    async with Upstream(script) as upstream:
        async with running_proxy([upstream.url], idle_timeout=0.3) as proxy:
            answer = await send(proxy.port, STREAMED)
            await until(lambda: upstream.open == 0)
            assert proxy.in_flight == 0
    assert b'data: {"error":' in answer and answer.endswith(b"0\r\n\r\n")
    assert proxy.records[0].reason == "idle_timeout"


async def test_a_slow_head_is_cut_off() -> None:
    async with Upstream(unary()) as upstream:
        async with running_proxy([upstream.url], header_timeout=0.3) as proxy:
            answer = await send(proxy.port, b"POST /v1/chat/completions HTTP/1.1\r\nho", close=True)
            await until(lambda: proxy.server.connections == 0)
    assert answer.startswith(b"HTTP/1.1 408")


async def test_draining_finishes_what_is_in_flight() -> None:
    async with Upstream(stream(tokens=20, gap=0.01)) as upstream:
        async with running_proxy([upstream.url]) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(STREAMED)
            early = await reader.readuntil(b"t0 ")
            draining = asyncio.create_task(proxy.server.drain(5.0))
            assert await asyncio.wait_for(idle_reader.read(), 5) == b""
            rest = await asyncio.wait_for(reader.read(), 5)
            await draining
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.close()
            idle_writer.close()
    assert b"200 OK" in early
    assert rest.endswith(b"0\r\n\r\n") and b"[DONE]" in rest
