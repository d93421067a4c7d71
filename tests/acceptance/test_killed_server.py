"""kill -9 of a model server under load: what clients see, and that the server is used again."""

import asyncio
import json
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.support.processes import Served, serving, simulated

TOKENS = 100  # so that at any moment most requests have bytes relayed


@dataclass(frozen=True)
class Seen:
    """What one client saw of one request."""

    endpoint: str
    bytes_relayed: bool
    complete: bool
    error_event: bool


async def ask(session: aiohttp.ClientSession, number: int, streamed: bool) -> Seen:
    body = {
        "model": "sim-8b",
        "messages": [{"role": "user", "content": f"question {number} " * 50}],
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "stream": streamed,
    }
    async with session.post("/v1/chat/completions", json=body) as response:
        payload = (await response.read()).decode()
        assert response.status == 200, payload
        endpoint = response.headers["x-inferway-endpoint"]
    if not streamed:
        whole = json.loads(payload)["usage"]["completion_tokens"] == TOKENS
        return Seen(endpoint, bool(payload), whole, False)
    events = [event for event in payload.split("\n\n") if event]
    assert all(event.startswith("data: ") for event in events)
    assert events[-1] == "data: [DONE]"
    failed = any("error" in json.loads(event[6:]) for event in events[:-1])
    tokens = sum('"content"' in event for event in events)
    return Seen(endpoint, tokens > 0, not failed and tokens >= TOKENS, failed)


async def load(url: str, workers: int, stop: asyncio.Event) -> list[Seen]:
    seen: list[Seen] = []

    async def work(worker: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            seen.append(await ask(session, worker * 10_000 + number, (worker + number) % 4 > 0))

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        await asyncio.gather(*(work(worker) for worker in range(workers)))
    return seen


async def endpoints_of(served: Served) -> list[dict[str, Any]]:
    """What the gateway knows of its endpoints."""
    found: list[dict[str, Any]] = json.loads(
        await asyncio.to_thread(served.get, "/debug/endpoints")
    )
    return found


async def test_a_killed_server_costs_no_request_that_was_not_relayed() -> None:
    with ExitStack() as stack:
        arguments = ("--time-scale", "0.5")
        servers = [stack.enter_context(simulated(*arguments)) for _ in range(3)]
        served = stack.enter_context(serving(*(server.url for server in servers)))
        stop = asyncio.Event()
        loading = asyncio.create_task(load(served.url, 24, stop))
        await asyncio.sleep(1.5)
        busiest = max(await endpoints_of(served), key=lambda one: int(one["ledger"]["decoding"]))
        victim = next(server for server in servers if server.url == busiest["url"])
        await asyncio.to_thread(victim.kill)
        await asyncio.sleep(1.5)
        await asyncio.to_thread(victim.start)
        await asyncio.sleep(3.0)
        stop.set()
        seen = await loading

        name = victim.url.removeprefix("http://")
        lost = [one for one in seen if not one.complete]
        assert all(one.endpoint == name and one.bytes_relayed for one in lost)
        assert all(one.error_event for one in lost)
        assert lost, "nothing was in flight when the server was killed: the test proves nothing"
        assert len(seen) > 100
        served_by = Counter(one.endpoint for one in seen[-60:])
        assert served_by[name] > 0, "the server that came back is not used"
        endpoints = await endpoints_of(served)
        assert [endpoint["ledger"]["requests"] for endpoint in endpoints] == [0, 0, 0]
        assert {endpoint["health"]["state"] for endpoint in endpoints} == {"healthy"}
