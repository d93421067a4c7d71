"""The relay that does mischief: that each kind is what it says, and ends when told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bench.chaos import mischief
from bench.chaos.relay import Mischief, Passage, Relay
from tests.support.gateways import chat, post
from tests.support.upstreams import Upstream, stream, unary

PAGE = b'{"answer": "as it should be, and long enough to be cut somewhere"}'
REQUEST = post("/v1/chat/completions", chat())
PROBE = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"


@asynccontextmanager
async def relayed(script: object = None) -> AsyncIterator[tuple[Relay, Upstream]]:
    upstream = Upstream(unary(PAGE) if script is None else script)  # type: ignore[arg-type]
    async with upstream, Relay(upstream.port, "test") as relay:
        yield relay, upstream


async def said(port: int, request: bytes = REQUEST, seconds: float = 0.15) -> bytes | None:
    """All bytes that come within a while; None for a reset."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    got = b""
    try:
        async with asyncio.timeout(seconds):
            while piece := await reader.read(65536):
                got += piece
    except TimeoutError:
        pass
    except ConnectionResetError:
        return None
    finally:
        writer.close()
    return got


def always(kind: type[mischief._OfAnswers]) -> Mischief:
    """That mischief, to every answer."""
    return type("Always", (kind,), {"share": 1.0})


async def test_bytes_pass_as_they_come() -> None:
    async with relayed() as (relay, upstream):
        assert (await said(relay.port) or b"").endswith(PAGE)
        relay.begin(Passage)
        assert (await said(relay.port) or b"").endswith(PAGE)
        assert upstream.received[0].body == upstream.received[1].body == chat()
        assert relay.strikes == 0


@pytest.mark.parametrize(
    "kind",
    [mischief.CorruptFraming, mischief.WrongLength, mischief.Resets],
    ids=lambda kind: kind.__name__,
)
async def test_answers_suffer_and_probes_do_not(kind: type[mischief._OfAnswers]) -> None:
    async with relayed() as (relay, _):
        right = await said(relay.port)
        relay.begin(always(kind))
        answers = [await said(relay.port) for _ in range(12)]
        assert relay.strikes > 0
        assert sum(answer != right for answer in answers) == relay.strikes
        struck = relay.strikes
        assert await said(relay.port, PROBE) == right
        assert relay.strikes == struck
        relay.end()
        assert await said(relay.port) == right


async def test_a_chunks_size_becomes_nonsense() -> None:
    async with relayed(stream(3)) as (relay, _):
        relay.begin(always(mischief.CorruptFraming))
        answers = [await said(relay.port) or b"" for _ in range(12)]
        assert any(b"zz\r\ndata: " in answer for answer in answers)


async def test_half_open_swallows_everything_and_ends() -> None:
    async with relayed() as (relay, upstream):
        relay.begin(mischief.HalfOpen)
        assert await said(relay.port) == b""
        assert upstream.received == []
        waiting = asyncio.create_task(said(relay.port, seconds=5))
        await asyncio.sleep(0.05)
        relay.end()
        assert await waiting is None  # the connection is reset, not left hanging
        assert (await said(relay.port) or b"").endswith(PAGE)


async def test_metrics_lie_or_stall_and_all_else_goes_on() -> None:
    async with relayed() as (relay, upstream):
        relay.begin(mischief.MetricsLie)
        assert await said(relay.port, PROBE) in mischief.LIES
        relay.begin(mischief.MetricsStall)
        assert await said(relay.port, PROBE) == b""
        assert upstream.received == []
        assert (await said(relay.port) or b"").endswith(PAGE)


async def test_slow_answers_come_whole() -> None:
    async with relayed() as (relay, _):
        right = await said(relay.port)
        for kind in (mischief.SlowReads, mischief.SlowWrites):
            relay.begin(always(kind))
            assert await said(relay.port, seconds=2) == right
        assert relay.strikes >= 2


async def test_a_server_that_is_not_there_resets() -> None:
    async with relayed() as (relay, upstream):
        upstream._server.close()
        await upstream._server.wait_closed()
        assert await said(relay.port) is None
