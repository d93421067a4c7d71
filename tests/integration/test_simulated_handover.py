"""Simulated servers hand KV over as the real connectors do, and show what goes wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from bench.fleet.fleet import EmbeddedFleet
from bench.fleet.server import SimulatedServer
from bench.fleet.settings import (
    Behaviour,
    Connector,
    HandoverFaults,
    HandoverSettings,
    Role,
    ServerSettings,
)
from tests.support.simulated import CHAT, post, until

ASK = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}
BODY = {"messages": CHAT, "max_tokens": 8, "ignore_eos": True}
ONE = {**BODY, "max_tokens": 1, "stream": False, "ignore_eos": False}


@asynccontextmanager
async def pair(
    connector: Connector = Connector.NIXL,
    faults: HandoverFaults | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[SimulatedServer, SimulatedServer, aiohttp.ClientSession]]:
    """A prefill server, a decode server, and a way to both."""
    config = ServerSettings(
        behaviour=Behaviour(time_scale=0.02, handover=faults or HandoverFaults()),
        handover=HandoverSettings(connector=connector, **settings),
    )
    roles = (Role.PREFILL, Role.DECODE)
    async with EmbeddedFleet(config, 2, roles=roles) as fleet, aiohttp.ClientSession() as http:
        yield fleet.servers[0], fleet.servers[1], http


def chats(server: SimulatedServer) -> str:
    return f"{server.url}/v1/chat/completions"


def held(server: SimulatedServer) -> int:
    assert server.service.kv is not None
    return len(server.service.kv.holds)


async def prefilled(http: aiohttp.ClientSession, server: SimulatedServer) -> Any:
    """The params of a prefill leg's answer."""
    status, answer = await post(http, chats(server), {**ONE, "kv_transfer_params": ASK})
    assert status == 200
    return answer["kv_transfer_params"]


async def plain(http: aiohttp.ClientSession, server: SimulatedServer) -> str:
    """The answer of a server that computes all by itself."""
    _, answer = await post(http, chats(server), BODY)
    return str(answer["choices"][0]["message"]["content"])


async def test_nixl_blocks_are_pinned_until_they_are_read_and_not_computed_again() -> None:
    async with pair() as (prefill, decode, http):
        params = await prefilled(http, prefill)
        assert held(prefill) == 1
        assert prefill.service.engine.cache.pinned > 0
        status, answer = await post(http, chats(decode), {**BODY, "kv_transfer_params": params})
        assert status == 200
        assert held(prefill) == 0
        assert prefill.service.engine.cache.pinned == 0
        stats = decode.service.engine.stats
        tokens = answer["usage"]["prompt_tokens"]
        assert stats.received_tokens == tokens - 1
        assert stats.step_tokens.sum == 8  # one for the last prompt token, then seven
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        text = answer["choices"][0]["message"]["content"]
        assert text == await plain(http, prefill)


async def test_nixl_blocks_can_be_read_once_and_a_second_reader_gets_wrong_text() -> None:
    async with pair() as (prefill, decode, http):
        params = await prefilled(http, prefill)
        body = {**BODY, "kv_transfer_params": params}
        _, first = await post(http, chats(decode), body)
        status, second = await post(http, chats(decode), body)
        assert status == 200
        assert first["choices"] != second["choices"]
        assert prefill.service.kv is not None
        assert prefill.service.kv.holds.late_reads == 1


async def test_a_lease_ends_and_is_counted() -> None:
    async with pair(lease=0.05) as (prefill, _, http):
        await prefilled(http, prefill)
        await until(lambda: held(prefill) == 0)
        assert prefill.service.engine.cache.pinned == 0
        async with http.get(f"{prefill.url}/metrics") as page:
            text = await page.text()
        assert 'vllm:nixl_num_kv_expired_reqs_total{engine="0",model_name="sim-8b"} 1.0' in text
        assert 'sim:kv_held_requests{engine="0",model_name="sim-8b"} 0.0' in text


async def test_an_engine_dies_of_params_without_block_ids() -> None:
    async with pair() as (prefill, decode, http):
        params = await prefilled(http, prefill)
        del params["remote_block_ids"]
        status, _ = await post(http, chats(decode), {**BODY, "kv_transfer_params": params})
        assert status == 500
        async with http.get(f"{decode.url}/health") as health:
            assert health.status == 503
        assert (await post(http, chats(decode), BODY))[0] == 503


async def test_an_unknown_engine_is_a_500_that_harms_nobody() -> None:
    async with pair() as (prefill, decode, http):
        params = {**await prefilled(http, prefill), "remote_engine_id": "nobody"}
        status, _ = await post(http, chats(decode), {**BODY, "kv_transfer_params": params})
        assert status == 500
        assert (await post(http, chats(decode), BODY))[0] == 200


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ("no_params_rate", lambda answer: answer["kv_transfer_params"] is None),
        ("abort_rate", lambda answer: answer["choices"][0]["finish_reason"] == "abort"),
        (
            "wrong_params_rate",
            lambda answer: answer["kv_transfer_params"]["remote_engine_id"] == "nobody",
        ),
        (
            "torn_params_rate",
            lambda answer: len(answer["kv_transfer_params"]) < 12,
        ),
    ],
)
async def test_faults_of_prefill_answers(fault: str, seen: Any) -> None:
    async with pair(faults=HandoverFaults(**{fault: 1.0})) as (prefill, _, http):
        status, answer = await post(http, chats(prefill), {**ONE, "kv_transfer_params": ASK})
        assert status == 200
        assert seen(answer)


async def test_sglang_meets_in_a_room_and_prefill_answers_when_its_kv_is_gone() -> None:
    async with pair(Connector.SGLANG) as (prefill, decode, http):
        meeting = {
            "bootstrap_host": "127.0.0.1",
            "bootstrap_port": prefill.port,
            "bootstrap_room": 42,
        }
        first = asyncio.ensure_future(post(http, chats(decode), {**BODY, **meeting}))
        await asyncio.sleep(0.02)
        assert not first.done()
        second = asyncio.ensure_future(post(http, chats(prefill), {**BODY, **meeting}))
        (status, answer), (other, _) = await asyncio.gather(first, second)
        assert (status, other) == (200, 200)
        assert answer["usage"]["completion_tokens"] == 8
        assert held(prefill) == 0
        assert decode.service.engine.stats.received_tokens > 0


async def test_sglang_decode_hangs_until_it_gives_up_on_a_prefill_that_never_comes() -> None:
    async with pair(Connector.SGLANG, patience=0.05) as (prefill, decode, http):
        meeting = {
            "bootstrap_host": "127.0.0.1",
            "bootstrap_port": prefill.port,
            "bootstrap_room": 7,
        }
        status, _ = await post(http, chats(decode), {**BODY, **meeting})
        assert status == 500
        assert (await post(http, chats(decode), BODY))[0] == 400  # it can't do without


async def test_mooncake_meets_by_transfer_id() -> None:
    async with pair(Connector.MOONCAKE) as (prefill, decode, http):
        async with http.get(f"{prefill.url}/query") as page:
            engine = (await page.json())["0"]["engine_id"]
        give = {"do_remote_decode": True, "do_remote_prefill": False, "transfer_id": "t1"}
        take = {
            "do_remote_decode": False,
            "do_remote_prefill": True,
            "transfer_id": "t1",
            "remote_bootstrap_addr": prefill.url,
            "remote_engine_id": engine,
        }
        answers = await asyncio.gather(
            post(http, chats(decode), {**BODY, "kv_transfer_params": take}),
            post(http, chats(prefill), {**ONE, "kv_transfer_params": give}),
        )
        assert [status for status, _ in answers] == [200, 200]
        assert decode.service.engine.stats.received_tokens > 0


async def test_a_shared_store_is_found_by_content() -> None:
    async with pair(Connector.EXAMPLE) as (prefill, decode, http):
        await post(http, chats(prefill), ONE)
        await post(http, chats(decode), BODY)
        assert decode.service.engine.stats.received_tokens > 0
        assert prefill.service.engine.cache.pinned == 0
