"""Prompts as chats, matched with what servers report of their caches, through real sockets."""

from collections.abc import AsyncIterator
from itertools import count

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.embedded import EmbeddedFleet
from gateway.settings import AdminSettings, KvEventSettings, ListenSettings, LogSettings, Settings
from gateway.tokenizing.service import ENGINE
from routing.decision import Decision

MODEL = "sim-8b"
_numbers = count()


def gateway_with(tokenizers: dict[str, str], deadline: float = 5.0) -> Gateway:
    return Gateway(
        Settings(
            listen=ListenSettings(port=0),
            admin=AdminSettings(port=0),
            kv_events=KvEventSettings(),
            tokenizers=tokenizers,
            tokenizing_deadline=deadline,
            log=LogSettings(access=False, level="warning"),
        ),
        embedded=EmbeddedFleet(
            ("--servers", "2", "--kv-events", "--time-scale", "0.002", "--model", MODEL)
        ),
    )


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = gateway_with({MODEL: ENGINE})
    await gateway.start()
    yield gateway
    await gateway.stop()


async def chat(gateway: Gateway, text: str) -> tuple[Decision, int]:
    """The decision, and the cached tokens that the server reports."""
    name = f"chat-{next(_numbers)}"
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 4,
        "ignore_eos": True,
    }
    url = f"http://127.0.0.1:{gateway.port}/v1/chat/completions"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=body, headers={"x-request-id": name}) as response,
    ):
        answer = await response.json()
        assert response.status == 200, answer
    cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    return next(one for one in gateway.router.recent if one.request.id == name), cached


async def test_a_chat_is_matched_token_by_token(gateway: Gateway) -> None:
    text = "long ago and far away " * 200
    await chat(gateway, "hello " * 50)  # the first event tells the size of a block
    for turn in range(6):
        decision, cached = await chat(gateway, text + f"turn {turn} " * turn)
        assert decision.request.token_chains is not None
        assert round(decision.predicted_cached_tokens) == cached
    assert cached > 500
    assert decision.views is not None
    assert decision.views[0].exact == cached


async def test_what_takes_too_long_is_routed_without_ids() -> None:
    gateway = gateway_with({MODEL: ENGINE}, deadline=0.000_001)
    await gateway.start()
    try:
        await chat(gateway, "hello " * 50)
        decision, _ = await chat(gateway, "hello again")
        assert decision.request.token_chains is None
    finally:
        await gateway.stop()
