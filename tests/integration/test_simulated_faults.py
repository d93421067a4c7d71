"""Clients that leave a simulated server, and servers that fail on purpose."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

from bench.fleet.server import SimulatedServer
from bench.fleet.settings import Behaviour, Faults, StreamFault, Timing
from tests.support.simulated import CHAT, events, post, running, until


@pytest.fixture
async def server() -> AsyncIterator[SimulatedServer]:
    async with running() as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
        yield session


SLOW = Behaviour(timing=Timing(step_base=0.02, prefill_token=0, decode_sequence=0))
ENDLESS = {"prompt": "x" * 400, "max_tokens": 100_000, "ignore_eos": True}


async def leave_while_decoding(http: aiohttp.ClientSession, server: SimulatedServer) -> None:
    """Begin a stream, read a token and go away."""
    response = await http.post(f"{server.url}/v1/completions", json={**ENDLESS, "stream": True})
    await response.content.readline()
    response.close()


async def leave_a_whole_answer(http: aiohttp.ClientSession, server: SimulatedServer) -> None:
    """Ask for an answer in one piece and go away before it is there."""
    task = asyncio.create_task(post(http, f"{server.url}/v1/completions", ENDLESS))
    await until(lambda: bool(server.service.engine.running))
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("leave", [leave_while_decoding, leave_a_whole_answer])
async def test_a_client_that_leaves_ends_its_request_at_once(
    http: aiohttp.ClientSession,
    leave: Callable[[aiohttp.ClientSession, SimulatedServer], Awaitable[None]],
) -> None:
    async with running(behaviour=SLOW, cache_tokens=200_000) as server:
        engine = server.service.engine
        await leave(http, server)
        await until(lambda: not engine.busy)
        assert engine.cache.pinned == 0
        assert engine.stats.finished == {"abort": 1}


async def test_a_waiting_client_that_leaves_leaves_the_queue(http: aiohttp.ClientSession) -> None:
    async with running(behaviour=SLOW, max_num_seqs=1) as server:
        engine = server.service.engine
        url = f"{server.url}/v1/completions"
        first = asyncio.create_task(post(http, url, ENDLESS))
        await until(lambda: bool(engine.running))
        second = asyncio.create_task(post(http, url, ENDLESS))
        await until(lambda: bool(engine.waiting))
        second.cancel()
        await until(lambda: not engine.waiting)
        assert len(engine.running) == 1
        first.cancel()
        await asyncio.wait([first, second])


async def test_a_full_queue_answers_429(http: aiohttp.ClientSession) -> None:
    async with running(behaviour=SLOW, max_num_seqs=1, max_waiting=0) as server:
        url = f"{server.url}/v1/completions"
        first = asyncio.create_task(post(http, url, ENDLESS))
        await until(lambda: bool(server.service.engine.running))
        status, answer = await post(http, url, {"prompt": "x"})
        assert (status, answer["error"]["type"]) == (429, "RateLimitError")
        first.cancel()
        await asyncio.wait([first])


async def test_a_slow_start(http: aiohttp.ClientSession) -> None:
    async with running(startup_seconds=3600) as server:
        async with http.get(f"{server.url}/health") as response:
            assert response.status == 503
        status, _ = await post(http, f"{server.url}/v1/completions", {"prompt": "x"})
        assert status == 503
    async with running(startup_seconds=0.05) as server:
        await until(lambda: server.service.ready)
        async with http.get(f"{server.url}/health") as response:
            assert response.status == 200
        status, _ = await post(http, f"{server.url}/v1/completions", {"prompt": "x"})
        assert status == 200


async def test_an_error_on_demand(server: SimulatedServer, http: aiohttp.ClientSession) -> None:
    url = f"{server.url}/v1/completions"
    status, answer = await post(http, url, {"prompt": "x"}, **{"X-Return-Error": "503"})
    assert (status, answer["error"]["code"]) == (503, 503)
    status, answer = await post(
        http,
        f"{server.url}/v1/messages",
        {"messages": CHAT, "max_tokens": 1},
        **{"X-Return-Error": "429"},
    )
    assert (status, answer["error"]["type"]) == (429, "rate_limit_error")


async def test_behaviour_changes_while_it_runs(
    server: SimulatedServer, http: aiohttp.ClientSession
) -> None:
    config, url = f"{server.url}/admin/config", f"{server.url}/v1/completions"
    change = {"time_scale": 0.01, "faults": {"errors": {"rate_limit": 1.0}}}
    status, answer = await post(http, config, change)
    assert (status, answer["time_scale"]) == (200, 0.01)
    assert (await post(http, url, {"prompt": "x"}))[0] == 429
    status, _ = await post(http, config, {"faults": {"errors": {}}, "speed": 2})
    assert status == 400
    assert (await post(http, url, {"prompt": "x"}))[0] == 429  # nothing of it was done
    assert (await post(http, config, {"faults": {"errors": {"rate_limit": 0}}}))[0] == 200
    assert (await post(http, url, {"prompt": "x"}))[0] == 200
    async with http.get(config) as response:
        assert (await response.json())["time_scale"] == 0.01


async def test_a_connection_reset_before_the_answer(http: aiohttp.ClientSession) -> None:
    behaviour = Behaviour(time_scale=0.02, faults=Faults(reset_rate=1))
    async with running(behaviour=behaviour) as server:
        with pytest.raises(aiohttp.ClientOSError):
            await post(http, f"{server.url}/v1/completions", {"prompt": "x"})


def breaking(fault: StreamFault) -> Behaviour:
    """Every stream breaks after two tokens."""
    faults = Faults(stream_fault_rate=1, stream_fault=fault, stream_fault_after=2)
    return Behaviour(time_scale=0.02, faults=faults)


STREAM = {"prompt": "x", "max_tokens": 50, "ignore_eos": True, "stream": True}


async def test_a_stream_that_is_reset(http: aiohttp.ClientSession) -> None:
    async with running(behaviour=breaking(StreamFault.RESET)) as server:
        received = b""
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
            async with http.post(f"{server.url}/v1/completions", json=STREAM) as response:
                async for piece in response.content.iter_any():
                    received += piece
        assert received.count(b"data: ") == 2
        await until(lambda: not server.service.engine.busy)


async def test_a_stream_that_stalls(http: aiohttp.ClientSession) -> None:
    async with running(behaviour=breaking(StreamFault.STALL)) as server:
        response = await http.post(f"{server.url}/v1/completions", json=STREAM)
        received = b""
        while received.count(b"data: ") < 2:
            received += await response.content.readany()
        await until(lambda: not server.service.engine.busy)
        assert not response.content.is_eof()
        assert received.count(b"data: ") == 2
        response.close()


@pytest.mark.parametrize(
    ("path", "body", "last"),
    [
        ("/v1/completions", STREAM, "[DONE]"),
        ("/v1/chat/completions", {**STREAM, "messages": CHAT}, "[DONE]"),
        ("/v1/messages", {**STREAM, "messages": CHAT}, None),
        ("/v1/responses", {"input": "x", "stream": True, "max_output_tokens": 60}, None),
    ],
)
async def test_a_stream_with_an_error_inside(
    http: aiohttp.ClientSession, path: str, body: object, last: str | None
) -> None:
    async with running(behaviour=breaking(StreamFault.ERROR)) as server:
        data = await events(http, server.url + path, body)
        if last is not None:
            assert data.pop() == last
        assert "error" in data[-1]
        await until(lambda: not server.service.engine.busy)
