"""Limits, time-outs and leaks: every bound has its own name, and nothing is left behind."""

import asyncio
import gc
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.clients import Answer, connected, reset
from tests.support.descriptors import open_descriptors
from tests.support.faults import Flood, Gate, closed_port, full_listener, silent, stall_after
from tests.support.gateways import (
    ProxyUnderTest,
    chat,
    post,
    running_proxy,
    send,
    until,
)
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
CHUNKED = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ntransfer-encoding: chunked\r\n\r\n"
)


# --- every limit and time-out has its own name -----------------------------------------------


@dataclass(frozen=True)
class Bound:
    """A limit or time-out, how it is hit, and what the client gets."""

    code: str
    status: int
    wire: bytes
    settings: dict[str, Any] = field(default_factory=dict)
    script: Script = silent


BOUNDS = [
    Bound(
        "header_too_large",
        431,
        post("/v1/chat/completions", b"{}", b"x: %b\r\n" % bytes(2000).replace(b"\0", b"y")),
        {"max_header_bytes": 1024},
    ),
    Bound(
        "body_too_large", 413, post("/v1/chat/completions", b"x" * 2000), {"max_body_bytes": 1024}
    ),
    Bound(
        "json_too_deep",
        400,
        post("/v1/chat/completions", b'{"x":' + b"[" * 9 + b"]" * 9 + b"}"),
        {"max_json_depth": 9},
    ),
    Bound("header_timeout", 408, UNARY[:30], {"header_timeout": 0.3}),
    Bound("body_timeout", 408, UNARY[:-5], {"header_timeout": 0.2, "body_timeout": 0.2}),
    Bound("first_byte_timeout", 504, UNARY, {"first_byte_timeout": 0.3}),
    Bound("request_timeout", 504, UNARY, {"request_timeout": 0.3}),
]


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.code)
async def test_every_bound_has_its_own_status_code_and_count(bound: Bound) -> None:
    async with Upstream(bound.script) as upstream:
        async with running_proxy([upstream.url], **bound.settings) as proxy:
            answer = Answer(await send(proxy.port, bound.wire))
            assert (answer.status, answer.code) == (bound.status, bound.code)
            books_agree(proxy, bound.code)
            await until(lambda: upstream.open == 0)
            if bound.status < 500:
                assert upstream.connections == 0, "a refused request reached the server"
                await until(lambda: proxy.server.connections == 0)


def books_agree(proxy: ProxyUnderTest, reason: str) -> None:
    """Record, count and ledger agree on what became of the only request."""
    assert [record.reason for record in proxy.records] == [reason]
    assert proxy.context.telemetry.errors == {reason: 1}
    assert proxy.context.telemetry.in_flight == 0
    assert proxy.in_flight == 0


async def test_chunks_count_towards_the_limit_of_a_body() -> None:
    async with Upstream(unary()) as upstream:
        async with running_proxy([upstream.url], max_body_bytes=1024) as proxy:
            answer = Answer(await send(proxy.port, CHUNKED + chunk(b" " * 600) * 2))
            assert (answer.status, answer.code) == (413, "body_too_large")
            assert upstream.connections == 0


@pytest.mark.parametrize("wire", [UNARY[:30], UNARY[:-20]], ids=["head", "body"])
async def test_a_drop_now_and_then_does_not_buy_more_time(wire: bytes) -> None:
    async with running_proxy(["http://127.0.0.1:1"], header_timeout=0.3, body_timeout=0.3) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(wire)
        answering = asyncio.create_task(reader.read())
        for drop in range(200):
            if answering.done():
                break
            position = len(wire) + drop
            writer.write(UNARY[position : position + 1] if drop < 10 else b"")
            await asyncio.sleep(0.025)
        assert Answer(await answering).status == 408
        writer.close()


async def test_an_idle_connection_is_closed() -> None:
    async with Upstream(unary()) as upstream:
        async with running_proxy([upstream.url], keepalive_timeout=0.3) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(UNARY)
            assert Answer(await reader.read()).status == 200, "it ends only when we are cut off"
            writer.close()
            assert proxy.context.telemetry.errors == {}


async def test_connecting_takes_only_so_long() -> None:
    with full_listener() as port:
        async with running_proxy([f"http://127.0.0.1:{port}"]) as proxy:
            answer = Answer(await send(proxy.port, UNARY))
            assert answer.code == "connect_timeout" and answer.status in {502, 504}
            books_agree(proxy, "connect_timeout")


async def test_silence_between_chunks_has_a_name_of_its_own() -> None:
    script = stall_after(SSE_HEAD + chunk(event("one")))
    async with Upstream(script) as upstream:
        async with running_proxy([upstream.url], idle_timeout=0.3) as proxy:
            answer = Answer(await send(proxy.port, STREAMED))
            assert answer.body.endswith(b"0\r\n\r\n")
            others = {bound.code for bound in BOUNDS} | {"connect_timeout"}
            assert answer.event_code not in others
            books_agree(proxy, answer.event_code)


async def test_a_stream_that_never_ends_hits_the_time_of_the_whole_request() -> None:
    async with Upstream(stream(tokens=10_000, gap=0.05)) as upstream:
        async with running_proxy([upstream.url], request_timeout=0.5) as proxy:
            answer = Answer(await send(proxy.port, STREAMED))
            assert answer.event_code == "request_timeout"
            assert answer.body.endswith(b"0\r\n\r\n")
            books_agree(proxy, "request_timeout")
            await until(lambda: upstream.open == 0)


@pytest.mark.parametrize(
    ("limit", "status", "reason"),
    [
        ("max_connections", 503, "too_many_connections"),
        ("max_concurrent_requests", 429, "too_many_requests"),
    ],
)
async def test_beyond_a_limit_new_ones_are_refused_and_the_others_served(
    limit: str, status: int, reason: str
) -> None:
    gate = Gate(tokens=5)
    settings: dict[str, Any] = {limit: 4}
    async with Upstream(gate) as upstream, running_proxy([upstream.url], **settings) as proxy:
        accepted = [asyncio.create_task(send(proxy.port, STREAMED)) for _ in range(4)]
        await until(lambda: len(upstream.received) == 4)
        refused = [Answer(await send(proxy.port, UNARY)) for _ in range(40)]
        assert {(one.status, one.code) for one in refused} == {(status, reason)}
        assert all(one.retry_after for one in refused)
        assert {(record.status, record.reason) for record in proxy.records} == {(status, reason)}
        assert len(upstream.received) == 4
        gate.open()
        assert all(b"[DONE]" in one for one in await asyncio.gather(*accepted))
        await until(lambda: proxy.server.connections == 0)
        assert Answer(await send(proxy.port, UNARY)).status == 200, "the room is free again"
        assert proxy.context.telemetry.errors == {reason: 40}


async def test_refused_clients_that_stay_take_nobodys_room() -> None:
    gate = Gate(tokens=5)
    async with Upstream(gate) as upstream, AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(running_proxy([upstream.url], max_connections=4))
        accepted = [asyncio.create_task(send(proxy.port, STREAMED)) for _ in range(4)]
        await until(lambda: len(upstream.received) == 4)
        for _ in range(20):
            reader, _ = await stack.enter_async_context(connected(proxy.port))
            assert Answer(await reader.read()).status == 503
        gate.open()
        await asyncio.gather(*accepted)
        assert Answer(await send(proxy.port, UNARY)).status == 200


# --- readers that stall ----------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_reader_that_stalls_for_good_is_let_go(streamed: bool) -> None:
    flood = Flood(1 << 30, streamed=streamed)
    async with Upstream(flood) as upstream, AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(running_proxy([upstream.url], idle_timeout=0.5))
        reader, writer = await stack.enter_async_context(connected(proxy.port, holding=1024))
        writer.write(STREAMED)
        await reader.readuntil(b"\r\n\r\n")
        await until(lambda: bool(proxy.records))
        assert proxy.records[0].reason == "client_stalled"
        assert proxy.in_flight == 0
        assert flood.sent < 1 << 26, "the endpoint was not held back"
        assert nobody_blamed(proxy)
        await until(lambda: upstream.open == 0)
        await until(lambda: proxy.server.connections == 0)


async def test_a_stalled_reader_is_not_the_fault_of_its_next_requests_endpoint() -> None:
    # Answers that arrive in one read: the client is full while the next request waits.
    answer = unary(b'"%b"' % (b"x" * 150_000))
    async with Upstream(answer) as upstream, AsyncExitStack() as stack:
        settings: dict[str, Any] = {"idle_timeout": 0.5, "first_byte_timeout": 0.5}
        proxy = await stack.enter_async_context(running_proxy([upstream.url], **settings))
        _, writer = await stack.enter_async_context(connected(proxy.port, holding=1024))
        writer.write(UNARY * 100)
        await until(lambda: any(record.reason for record in proxy.records))
        assert nobody_blamed(proxy)
        await until(lambda: proxy.server.connections == 0)
        assert proxy.in_flight == proxy.context.telemetry.in_flight == 0


def nobody_blamed(proxy: ProxyUnderTest) -> bool:
    """Whether no endpoint is believed to have failed."""
    return not any(record.failed_endpoints for record in proxy.records)


async def test_a_reader_that_pauses_gets_every_byte() -> None:
    size = 20_000_000
    async with Upstream(Flood(size, streamed=False)) as upstream, AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(running_proxy([upstream.url]))
        reader, writer = await stack.enter_async_context(connected(proxy.port, holding=4096))
        writer.write(UNARY)
        await reader.readuntil(b"\r\n\r\n")
        got = 0
        for pause in range(5):
            got += len(await reader.readexactly(size // 10))
            await asyncio.sleep(0.02 * pause)
        got += len(await reader.readexactly(size - got))
        assert got == size
        assert [record.reason for record in proxy.records] == [""]


async def sized(upstream: Upstream, request: Received, writer: asyncio.StreamWriter) -> None:
    """Answer with as many bytes as the request asks for."""
    size = int(request.fields[b"x-size"])
    await Flood(size, streamed=False)(upstream, request, writer)


async def test_closing_after_an_answer_leaves_slow_readers_the_time_to_take_it() -> None:
    async def taken(port: int, size: int) -> int:
        fields = b"connection: close\r\nx-size: %d\r\n" % size
        async with connected(port, holding=1024) as (reader, writer):
            writer.write(post("/v1/chat/completions", chat(), fields))
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(3.0)
            got = 0
            while piece := await reader.read(1 << 20):
                got += len(piece)
            return got

    # How much the kernel buffers varies: of some sizes the very end is left in the gateway.
    sizes = range(1_000_000, 8_000_000, 70_000)
    async with Upstream(sized) as upstream, running_proxy([upstream.url]) as proxy:
        assert await asyncio.gather(*(taken(proxy.port, size) for size in sizes)) == list(sizes)


# --- clients that reset ----------------------------------------------------------------------


class Resetting:
    """A client that cuts its connection at a random point of a request's life."""

    def __init__(self, port: int, dice: random.Random) -> None:
        self._port = port
        self._dice = dice

    async def live(self) -> None:
        """One connection from its beginning to its reset."""
        dice = self._dice
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        phase = dice.choice(["head", "body", "waiting", "streaming", "queued"])
        wire = post("/v1/chat/completions", chat("x" * 3000, streamed=True))
        head = wire.index(b"\r\n\r\n") + 4
        if phase == "head":
            writer.write(wire[: dice.randrange(head)])
        elif phase == "body":
            writer.write(wire[: dice.randrange(head, len(wire))])
        elif phase == "waiting":
            writer.write(post("/v1/chat/completions", chat("wait", streamed=dice.random() < 0.5)))
        elif phase == "streaming":
            writer.write(wire)
            await reader.readexactly(dice.randrange(1, 2000))
        else:
            writer.write(wire * dice.randrange(2, 6))
        if dice.random() < 0.5:
            await asyncio.sleep(dice.random() * 0.02)
        reset(writer)


async def waits_or_streams(
    upstream: Upstream, request: Received, writer: asyncio.StreamWriter
) -> None:
    """Never answer a request that says wait; stream to any other."""
    script = silent if b'"wait"' in request.body else stream(tokens=10_000, gap=0.002)
    await script(upstream, request, writer)


@pytest.mark.parametrize("seed", [1, 2])
async def test_resets_at_random_points_leave_nothing_behind(seed: int) -> None:
    loop = asyncio.get_running_loop()
    defects: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: defects.append(context))
    async with Upstream(waits_or_streams) as one, Upstream(waits_or_streams) as other:
        async with running_proxy(
            [one.url, other.url, f"http://127.0.0.1:{closed_port()}"]
        ) as proxy:
            descriptors, tasks = open_descriptors(), asyncio.all_tasks()
            dice = random.Random(seed)

            async def clients(count: int) -> None:
                for _ in range(count):
                    await Resetting(proxy.port, dice).live()

            await asyncio.gather(*(clients(20) for _ in range(25)))
            await until(lambda: proxy.server.connections == 0)
            assert proxy.in_flight == 0
            assert proxy.context.telemetry.in_flight == 0
            # Idle connections to endpoints are kept for a while: let that time pass.
            proxy.context.pools.sweep(proxy.context.now() + 3600)
            await until(lambda: one.open == other.open == 0)
            gc.collect()
            await until(lambda: open_descriptors() <= descriptors)
            await until(lambda: asyncio.all_tasks() <= tasks)
            assert {record.reason for record in proxy.records} <= {"client_gone", "no_endpoint"}
            assert len(proxy.records) > 100, "too few got far enough to prove anything"
            answer = await send(proxy.port, post("/v1/models", b""))
            assert answer.startswith(b"HTTP/1.1 405")
    assert defects == []
