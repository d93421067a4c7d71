"""Many simulated servers in one process, and the command that runs them."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from bench.fleet.fleet import EmbeddedFleet
from bench.fleet.settings import ServerSettings
from tests.support.cache_events import Subscriber
from tests.support.simulated import FAST, post

ENDLESS = {"prompt": "x", "max_tokens": 100_000, "ignore_eos": True}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
        yield session


async def test_a_fleet_in_one_process(http: aiohttp.ClientSession) -> None:
    async with EmbeddedFleet(ServerSettings(behaviour=FAST), 3) as fleet:
        assert len(set(fleet.urls)) == 3
        texts = set()
        for index, url in enumerate(fleet.urls):
            async with http.post(f"{url}/v1/completions", json={"prompt": "same"}) as response:
                assert response.headers["x-inference-pod"] == f"sim-{index}"
                assert response.headers["x-inference-port"] == url.rsplit(":", 1)[1]
                texts.add((await response.json())["choices"][0]["text"])
        assert len(texts) == 1
        # Each has a cache of its own.
        assert [server.service.engine.stats.prompt_tokens for server in fleet.servers] == [1] * 3


@asynccontextmanager
async def command(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, list[str]]]:
    """The command as a process, and the URLs it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.fleet", "--json-ready", "--time-scale", "0.02"),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        yield process, json.loads(line)["urls"]
        assert process.stdin is not None
        process.stdin.close()
        assert await asyncio.wait_for(process.stdout.read(), 10) == b""  # one line, no more
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_the_command_ends_with_its_stdin(http: aiohttp.ClientSession) -> None:
    async with command("--servers", "2", "--lora", "ada") as (process, urls):
        assert len(urls) == 2
        status, answer = await post(http, f"{urls[1]}/v1/completions", {"prompt": "x"})
        assert (status, answer["model"]) == (200, "sim-8b")
        assert process.stdin is not None
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_the_command_tells_where_events_are(http: aiohttp.ClientSession) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.fleet", "--json-ready", "--servers", "2", "--kv-events"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
    for url, events in zip(ready["urls"], ready["kv_events"], strict=True):
        assert set(events) == {"endpoint", "replay_endpoint", "topic"}
        assert events["topic"] == f"kv@{url.removeprefix('http://')}@sim-8b"
        await post(http, f"{url}/v1/completions", {"prompt": [7] * 40, "max_tokens": 1})
        async with Subscriber(events["endpoint"], events["replay_endpoint"]) as listener:
            assert [number for number, _ in await listener.replay(0)] == [0]
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_the_command_ends_cleanly_on_sigterm_with_a_stream_open(
    http: aiohttp.ClientSession,
) -> None:
    async with command() as (process, urls):
        response = await http.post(f"{urls[0]}/v1/completions", json={**ENDLESS, "stream": True})
        await response.content.readline()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
        response.close()


async def test_a_killed_server_comes_back_on_its_port(http: aiohttp.ClientSession) -> None:
    async with command() as (process, urls):
        response = await http.post(f"{urls[0]}/v1/completions", json={**ENDLESS, "stream": True})
        await response.content.readline()
        process.kill()
        await process.wait()
        response.close()
    port = urls[0].rsplit(":", 1)[1]
    async with command("--port", port) as (_, again):
        assert again == urls
        status, _ = await post(http, f"{again[0]}/v1/completions", {"prompt": "x"})
        assert status == 200


async def refused(*arguments: str) -> tuple[int | None, str]:
    """The exit code and the words of a command that does not start."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.fleet", *arguments), stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    return process.returncode, errors.decode()


async def test_the_command_refuses_what_it_does_not_know() -> None:
    code, errors = await refused("--preset", "9b-abacus")
    assert code == 2
    assert "8b-h100" in errors
    code, errors = await refused("--block-size", "0")
    assert code == 2
    assert "block_size" in errors
    code, errors = await refused("--kv-encoding", "sglang")
    assert code == 2
    assert "--kv-events" in errors
    code, errors = await refused("--kv-events", "--kv-encoding", "sglang", "--kv-hashes", "bytes")
    assert code == 2
    assert "hashes" in errors


async def test_a_taken_port_is_said() -> None:
    async with EmbeddedFleet(ServerSettings(), 1) as fleet:
        code, errors = await refused("--port", fleet.urls[0].rsplit(":", 1)[1])
    assert code == 1
    assert "in use" in errors
