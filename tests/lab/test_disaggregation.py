"""Two real vLLM servers and the real NixlConnector: prefill here, decode there.

They are other servers than those of the rest of the lab, so both pairs need memory, or these tests
are run alone: ``pytest -m lab tests/lab/test_disaggregation.py``.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from random import Random
from typing import Any

import aiohttp
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench.lab import machine
from bench.lab.engine import HOST, MODEL, Server
from bench.lab.fleet import LabFleet
from bench.lab.home import home
from bench.lab.install import Installer
from gateway.app import Gateway
from gateway.settings import (
    AdminSettings,
    DisaggregationSettings,
    ListenSettings,
    LogSettings,
    ProxySettings,
    RoutingSettings,
    Settings,
)
from tests.lab.servers import ANSWER_SECONDS, ask, tokens, until_idle

_PORT = 18_200
_TOKENS = 300  # prompts; a handful of seconds each on a small machine
_ASKED = {"max_tokens": 12, "temperature": 0, "ignore_eos": True}
_TRANSFERRED = "external_kv_transfer"
_COMPUTED = "local_compute"


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Server, Server]]:
    """A prefill and a decode server that answer, and have shaken hands."""
    where = home()
    fleet = LabFleet(where)
    running = [one.server for one in fleet.state().servers if one.server.role is not None]
    if running:
        yield (
            next(one for one in running if one.role == "prefill"),
            next(one for one in running if one.role == "decode"),
        )
        return
    if Installer(where, disaggregated=True).missing:
        pytest.skip("NIXL is not in the lab: inferway lab up --disaggregated")
    reasons = machine.obstacles(where.root, 2, installed=True)
    if reasons:
        pytest.skip("a second pair of servers can't run beside the lab's: " + "; ".join(reasons))
    servers = (
        Server(_PORT, 8192, role="prefill"),
        Server(_PORT + 10, 8192, role="decode"),
    )
    started = fleet.start(servers, nice=19)
    try:
        fleet.wait(started)
        yield servers
    finally:
        for one in started:
            one.process.stop()


@pytest.fixture
async def gateway(pair: tuple[Server, Server]) -> AsyncIterator[Gateway]:
    """A gateway that splits every request between the two."""
    plain = msgspec.convert(
        {"endpoints": [{"url": one.url, "labels": one.labels()} for one in pair]}, Settings
    )
    gateway = Gateway(
        msgspec.structs.replace(
            plain,
            listen=ListenSettings(host=HOST, port=0),
            admin=AdminSettings(host=HOST, port=0),
            log=LogSettings(access=False, level="warning"),
            routing=RoutingSettings(disaggregation=DisaggregationSettings(mode="always")),
            proxy=ProxySettings(prefill_grace=ANSWER_SECONDS),
        )
    )
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


async def by_source(server: Server) -> dict[str, float]:
    """Prompt tokens that the engine has had so far, by where they came from."""
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/metrics") as page:
        text = await page.text()
    return {
        sample.labels["source"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "vllm:prompt_tokens_by_source_total"
    }


async def growth(server: Server, before: dict[str, float]) -> dict[str, float]:
    """What came since then."""
    after = await by_source(server)
    return {source: after[source] - before.get(source, 0.0) for source in after}


def url(gateway: Gateway) -> str:
    return f"http://{HOST}:{gateway.port}"


async def streamed(gateway: Gateway, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The text and the usage of a streamed completion."""
    asked = {"model": MODEL, **body, "stream": True, "stream_options": {"include_usage": True}}
    text = ""
    usage: dict[str, Any] = {}
    limit = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=limit) as session,
        session.post(f"{url(gateway)}/v1/completions", json=asked) as response,
    ):
        assert response.status == 200, await response.text()
        async for line in response.content:
            if line.startswith(b"data: {"):
                event = msgspec.json.decode(line[6:])
                assert "error" not in event, event
                text += "".join(choice["text"] for choice in event["choices"])
                usage = event.get("usage") or usage
    return text, usage


async def test_the_answer_is_that_of_one_server_and_decode_did_not_compute_the_prompt(
    pair: tuple[Server, Server], gateway: Gateway
) -> None:
    prefill, decode = pair
    dice = Random(f"disaggregation {gateway.port}")
    for how in ("whole", "streamed"):
        prompt = tokens(dice, _TOKENS)
        body = {"prompt": prompt, **_ASKED}
        there, here = await by_source(decode), await by_source(prefill)
        if how == "whole":
            answer = await ask(url(gateway), "/v1/completions", body)
            text, usage = answer["choices"][0]["text"], answer["usage"]
        else:
            text, usage = await streamed(gateway, body)
        decision = gateway.router.recent[-1]
        assert decision.prefill is not None
        assert decision.split, decision.prefill.reason
        assert gateway.telemetry.splits.fallbacks == {}
        moved, computed = await growth(decode, there), await growth(prefill, here)
        assert moved[_TRANSFERRED] == _TOKENS, moved
        assert moved[_COMPUTED] == 0, moved
        assert computed[_COMPUTED] == _TOKENS, computed
        assert usage["prompt_tokens"] == _TOKENS
        assert usage["completion_tokens"] == _ASKED["max_tokens"]
        alone = await ask(prefill.url, "/v1/completions", body)
        assert text == alone["choices"][0]["text"]


async def test_an_ordinary_client_can_not_kill_an_engine(
    pair: tuple[Server, Server], gateway: Gateway
) -> None:
    """With these parameters, sent to it directly, vLLM 0.32 dies of an assertion."""
    deadly = {"do_remote_prefill": True, "do_remote_decode": False, "remote_block_ids": None}
    body = {"prompt": tokens(Random("deadly"), 64), "max_tokens": 2, "kv_transfer_params": deadly}
    await ask(url(gateway), "/v1/completions", body)
    await until_idle(pair)
    answers = await asyncio.gather(
        *(
            ask(one.url, "/v1/completions", {"prompt": [1, 2, 3, 4], "max_tokens": 1})
            for one in pair
        )
    )
    assert all(answer["choices"] for answer in answers)
