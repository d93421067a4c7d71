"""What tests ask the lab's servers and their gateway."""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import count
from random import Random
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bench.lab.engine import MODEL, Server
from gateway.app import Gateway
from routing.decision import Decision

ANSWER_SECONDS = 120.0
"""How long a test waits for what a busy machine does slowly."""
VOCABULARY = (1_000, 40_000)
"""Ordinary tokens of the model."""
_names = count()


def tokens(dice: Random, number: int) -> list[int]:
    """A prompt that no server has seen."""
    return [dice.randrange(*VOCABULARY) for _ in range(number)]


def name_of(server: Server) -> str:
    """What the gateway calls it."""
    return server.url.removeprefix("http://")


async def metric(server: Server, name: str) -> float:
    """The sum of a metric of the engine itself. AssertionError when it has none."""
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/metrics") as page:
        text = await page.text()
    values = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    ]
    assert values, f"{name} is not on {server.url}/metrics"
    return sum(values)


async def metrics(servers: Iterable[Server], name: str) -> dict[str, float]:
    """One metric of all servers, by the gateway's names of them."""
    return {name_of(server): await metric(server, name) for server in servers}


async def until_idle(servers: Iterable[Server]) -> None:
    """Wait until no server computes anything."""
    async with asyncio.timeout(ANSWER_SECONDS):
        while any((await metrics(servers, "vllm:num_requests_running")).values()):
            await asyncio.sleep(0.1)


async def ask(url: str, path: str, body: dict[str, Any], **headers: str) -> Any:
    """The JSON of an answer, which must be a 200."""
    limit = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=limit) as session,
        session.post(url + path, json={"model": MODEL, **body}, headers=headers) as response,
    ):
        answer = await response.json()
        assert response.status == 200, answer
        return answer


def cached(answer: Any) -> int:
    """The cached tokens that an engine reports."""
    details = answer["usage"]["prompt_tokens_details"]
    return 0 if details is None else int(details["cached_tokens"] or 0)


async def through(gateway: Gateway, path: str, body: dict[str, Any]) -> tuple[Decision, Any]:
    """The decision and the answer of a request to the gateway."""
    name = f"lab-{next(_names)}"
    url = f"http://127.0.0.1:{gateway.port}"
    answer = await ask(url, path, body, **{"x-request-id": name})
    return next(one for one in gateway.router.recent if one.request.id == name), answer


async def settled(gateway: Gateway) -> None:
    """Wait until cache events have stopped coming for half a second."""
    async with asyncio.timeout(ANSWER_SECONDS):
        before: Sequence[int] = ()
        while True:
            now = [view.health.messages for view in gateway.event_views()]
            if now == before:
                return
            before = now
            await asyncio.sleep(0.5)
