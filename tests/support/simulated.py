"""Simulated servers for tests, and how tests talk to them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from bench.fleet.server import SimulatedServer
from bench.fleet.settings import Behaviour, ServerSettings

FAST = Behaviour(time_scale=0.02)
CHAT: Any = [{"role": "user", "content": "What is the weather like in the mountains today?"}]


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[SimulatedServer]:
    """A fast server with adapter "ada"."""
    behaviour = settings.pop("behaviour", FAST)
    config = ServerSettings(adapters=("ada",), behaviour=behaviour, **settings)
    async with SimulatedServer(config) as server:
        yield server


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, five seconds at most."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


async def post(
    http: aiohttp.ClientSession, url: str, body: object, **headers: str
) -> tuple[int, Any]:
    """Status and JSON of an answer."""
    async with http.post(url, json=body, headers=headers) as response:
        return response.status, await response.json()


async def events(http: aiohttp.ClientSession, url: str, body: object) -> list[str]:
    """The data lines of a stream."""
    async with http.post(url, json=body) as response:
        assert response.content_type == "text/event-stream"
        text = await response.text()
    assert text.endswith("\n\n")
    return [
        line.removeprefix("data: ")
        for event in text.split("\n\n")
        for line in event.splitlines()
        if line.startswith("data: ")
    ]
