"""KV-cache events of simulated servers over real sockets: live, replayed, and going wrong."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from bench.fleet.engine.tokens import tokens_of
from bench.fleet.fleet import EmbeddedFleet
from bench.fleet.server import SimulatedServer
from bench.fleet.settings import (
    Behaviour,
    EventEncoding,
    EventFaults,
    HashForm,
    KvEventSettings,
    ServerSettings,
)
from tests.support.cache_events import Picture, Subscriber, events_of
from tests.support.simulated import CHAT, FAST, post, running, until

BLOCK = 16
LONG: Any = [
    {"role": "system", "content": "You answer briefly and in verse. " * 20},
    {"role": "user", "content": "What is the weather like in the mountains today?"},
]
CALLS: Any = [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
        yield session


@pytest.fixture
async def server() -> AsyncIterator[SimulatedServer]:
    async with running(kv_events=KvEventSettings()) as server:
        yield server


def subscriber(server: SimulatedServer) -> Subscriber:
    assert server.service.publisher is not None
    address = server.service.publisher.address
    return Subscriber(address.endpoint, address.replay_endpoint, "kv@")


async def connected(listener: Subscriber, server: SimulatedServer) -> int:
    """Clear the cache until the listener hears of it; the sequence number of the next batch."""
    assert server.service.publisher is not None
    async with asyncio.timeout(5):
        heard = False
        while not heard:
            assert server.service.reset_prefix_cache()
            heard = not await listener.quiet(0.02)
    newest = -1
    while not await listener.quiet(0.02):
        _, newest, _ = await listener.receive()
    return newest + 1


async def complete(http: aiohttp.ClientSession, server: SimulatedServer, prompt: Any) -> Any:
    """The usage of a completion of one token."""
    body = {"prompt": prompt, "max_tokens": 1}
    status, answer = await post(http, f"{server.url}/v1/completions", body)
    assert status == 200
    return answer["usage"]


async def configure(http: aiohttp.ClientSession, server: SimulatedServer, **faults: Any) -> None:
    status, answer = await post(http, f"{server.url}/admin/config", {"kv_events": faults})
    assert status == 200, answer


def agrees(picture: Picture, server: SimulatedServer) -> bool:
    cache = server.service.engine.cache
    sizes = len(picture.tiers["GPU"]), len(picture.tiers["CPU"])
    return sizes == (len(cache), cache.offloaded)


async def test_a_chat_is_announced_with_the_tokens_that_tokenize_gives(
    server: SimulatedServer, http: aiohttp.ClientSession
) -> None:
    async with subscriber(server) as listener:
        expected = await connected(listener, server)
        chat = {"messages": LONG, "tools": TOOLS}
        _, tokenized = await post(http, f"{server.url}/tokenize", chat)
        body = {**chat, "max_tokens": 40, "ignore_eos": True, "return_token_ids": True}
        _, answer = await post(http, f"{server.url}/v1/chat/completions", body)
        assert answer["prompt_token_ids"] == tokenized["tokens"]
        everything = tokenized["tokens"] + answer["choices"][0]["token_ids"]
        # The last token was sampled, but its keys and values were never computed.
        whole = (len(everything) - 1) // BLOCK

        picture = Picture()
        announced: list[int] = []
        while picture.match(everything, BLOCK) < whole:
            topic, number, payload = await listener.receive()
            assert topic == f"kv@127.0.0.1:{server.port}@sim-8b"
            assert number == expected
            expected += 1
            picture.apply(payload)
            for event in events_of(payload):
                announced += event["token_ids"]
        assert announced == everything[: whole * BLOCK]
        assert agrees(picture, server)


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "some text, and some more of it, that is longer than a block. " * 3},
        {"messages": LONG},
        {"messages": LONG, "tools": TOOLS},
        {"messages": [*LONG, {"role": "assistant", "content": "Fine"}, *LONG[1:]]},
        {"messages": [*LONG, {"role": "assistant", "content": None, "tool_calls": CALLS}]},
        {"messages": LONG, "add_generation_prompt": False},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "parts " * 30}]}]},
    ],
    ids=["completion", "chat", "tools", "turns", "calls", "no-generation-prompt", "parts"],
)
async def test_what_tokenize_gives_is_found_when_sent_as_token_ids(
    server: SimulatedServer, http: aiohttp.ClientSession, body: Any
) -> None:
    _, tokenized = await post(http, f"{server.url}/tokenize", body)
    assert tokenized["count"] == len(tokenized["tokens"])
    path = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
    await post(http, server.url + path, {**body, "max_tokens": 1})
    usage = await complete(http, server, tokenized["tokens"])
    most = (tokenized["count"] - 1) // BLOCK * BLOCK
    assert usage["prompt_tokens_details"]["cached_tokens"] == most > 0


@pytest.mark.parametrize(
    ("encoding", "hashes"),
    [
        (EventEncoding.MAP, HashForm.INT),
        (EventEncoding.MAP, HashForm.BYTES),
        (EventEncoding.ARRAY, HashForm.INT),
        (EventEncoding.ARRAY, HashForm.BYTES),
        (EventEncoding.SGLANG, HashForm.INT),
    ],
)
async def test_a_latecomer_learns_all_from_a_replay(
    http: aiohttp.ClientSession, encoding: EventEncoding, hashes: HashForm
) -> None:
    events = KvEventSettings(encoding=encoding, hashes=hashes)
    small = {"cache_tokens": 40 * BLOCK, "cpu_cache_tokens": 30 * BLOCK}
    async with running(kv_events=events, **small) as server:
        prompts = [tokens_of(range(start, start + 200)).tolist() for start in range(0, 900, 150)]
        for prompt in prompts:
            await complete(http, server, prompt)
        async with subscriber(server) as listener:
            replayed = await listener.replay(0, with_topic=encoding is EventEncoding.MAP)
        assert [number for number, _ in replayed] == list(range(len(replayed)))
        picture = Picture()
        for _, payload in replayed:
            picture.apply(payload)
        assert agrees(picture, server)
        assert server.service.engine.cache.offloaded
        for prompt in prompts:
            known = min(picture.match(prompt, BLOCK), (len(prompt) - 1) // BLOCK)
            usage = await complete(http, server, prompt)
            assert usage["prompt_tokens_details"]["cached_tokens"] == known * BLOCK
            async with subscriber(server) as listener:
                numbered = await listener.replay(
                    len(replayed), with_topic=encoding is EventEncoding.MAP
                )
            replayed += numbered
            for _, payload in numbered:
                picture.apply(payload)


async def test_only_the_newest_batches_can_be_replayed(http: aiohttp.ClientSession) -> None:
    async with running(kv_events=KvEventSettings(buffer_steps=3)) as server:
        for index in range(8):
            await complete(http, server, [index] * 20)
        async with subscriber(server) as listener:
            assert [number for number, _ in await listener.replay(0)] == [5, 6, 7]
            assert [number for number, _ in await listener.replay(7)] == [7]
            assert await listener.replay(8) == []


async def test_a_malformed_replay_request_gets_no_answer_and_harms_nobody(
    server: SimulatedServer, http: aiohttp.ClientSession
) -> None:
    await complete(http, server, [1] * 20)
    async with subscriber(server) as listener:
        for frames in ((b"",), (b"", b"12"), (b"", b"1" * 8, b"more")):
            await listener.ask(*frames)
        assert len(await listener.replay(0)) == 1


async def test_a_cleared_cache_is_told_at_once_or_as_late_as_vllm_does(
    server: SimulatedServer, http: aiohttp.ClientSession
) -> None:
    async with subscriber(server) as listener:
        await connected(listener, server)
        assert (await post(http, f"{server.url}/reset_prefix_cache", {}))[0] == 200
        _, number, payload = await listener.receive()
        assert events_of(payload) == [{"type": "AllBlocksCleared"}]
        await configure(http, server, late_clear=True)
        for _ in range(2):
            await post(http, f"{server.url}/reset_prefix_cache", {})
        await complete(http, server, [1] * 20)
        _, following, payload = await listener.receive()
        assert following == number + 1
        kinds = [event["type"] for event in events_of(payload)]
        assert kinds == ["AllBlocksCleared", "AllBlocksCleared", "BlockStored"]


async def test_adapter_and_salt_are_told(
    server: SimulatedServer, http: aiohttp.ClientSession
) -> None:
    body = {"prompt": [1] * 40, "model": "ada", "cache_salt": "s", "max_tokens": 1}
    await post(http, f"{server.url}/v1/completions", body)
    async with subscriber(server) as listener:
        [(_, payload)] = await listener.replay(0)
    [event] = events_of(payload)
    assert (event["lora_id"], event["lora_name"]) == (1, "ada")
    assert event["extra_keys"] == [["ada", "s"], ["ada"]]


async def test_lost_batches_are_in_the_replay(
    server: SimulatedServer, http: aiohttp.ClientSession
) -> None:
    async with subscriber(server) as listener:
        first = await connected(listener, server)
        await configure(http, server, lose_rate=1.0)
        for index in range(3):
            await complete(http, server, [index] * 20)
        await configure(http, server, lose_rate=0.0)
        await complete(http, server, [3] * 20)
        _, number, live = await listener.receive()
        assert number == first + 3
        replayed = await listener.replay(first)
        assert [number for number, _ in replayed] == [first + index for index in range(4)]
        assert replayed[-1][1] == live


async def test_batches_come_late_and_twice(
    server: SimulatedServer, http: aiohttp.ClientSession
) -> None:
    async with subscriber(server) as listener:
        first = await connected(listener, server)
        await configure(http, server, reorder_rate=1.0)
        for index in range(3):
            await complete(http, server, [index] * 20)
        await configure(http, server, reorder_rate=0.0, duplicate_rate=1.0)  # releases the third
        await complete(http, server, [3] * 20)
        numbers = [(await listener.receive())[1] - first for _ in range(5)]
        assert numbers == [1, 0, 2, 3, 3]


async def test_a_silent_publisher_says_nothing_to_anybody(
    server: SimulatedServer, http: aiohttp.ClientSession
) -> None:
    async with subscriber(server) as listener:
        first = await connected(listener, server)
        await configure(http, server, silent=True)
        await complete(http, server, [1] * 20)
        await listener.ask(b"", bytes(8))
        assert await listener.quiet(0.05)
        await configure(http, server, silent=False)
        await complete(http, server, [2] * 20)
        assert (await listener.receive())[1] == first + 1  # the gap shows
        assert [number for number, _ in await listener.replay(first)] == [first, first + 1]


async def test_a_new_epoch_is_a_restart(
    server: SimulatedServer, http: aiohttp.ClientSession
) -> None:
    async with subscriber(server) as listener:
        await connected(listener, server)
        await complete(http, server, [1] * 20)
        [before] = events_of((await listener.receive())[2])
        await configure(http, server, epoch=1)
        assert await listener.replay(0) == []
        usage = await complete(http, server, [1] * 20)
        assert usage["prompt_tokens_details"]["cached_tokens"] == 0
        _, number, payload = await listener.receive()
        [after] = events_of(payload)
        assert number == 0
        assert after["token_ids"] == before["token_ids"]
        assert after["block_hashes"] != before["block_hashes"]


async def test_an_epoch_does_not_end_while_requests_run(
    server: SimulatedServer, http: aiohttp.ClientSession
) -> None:
    body = {"prompt": [1] * 20, "max_tokens": 100_000, "ignore_eos": True, "stream": True}
    async with http.post(f"{server.url}/v1/completions", json=body) as response:
        await response.content.readline()
        change = {"kv_events": {"epoch": 1}}
        status, answer = await post(http, f"{server.url}/admin/config", change)
        assert (status, answer["error"]["param"]) == (400, "kv_events.epoch")
    await until(lambda: not server.service.engine.busy)
    await configure(http, server, epoch=1)


async def test_a_server_tells_where_its_events_are(
    server: SimulatedServer, http: aiohttp.ClientSession
) -> None:
    assert server.service.publisher is not None
    address = server.service.publisher.address
    assert address.replay_endpoint is not None
    async with http.get(f"{server.url}/kv_event_sources") as response:
        assert await response.json() == {
            "0": {
                "enable_kv_cache_events": True,
                "publisher": "zmq",
                "endpoint": "tcp://*:" + address.endpoint.rsplit(":", 1)[1],
                "replay_endpoint": "tcp://*:" + address.replay_endpoint.rsplit(":", 1)[1],
                "buffer_steps": 10_000,
                "hwm": 100_000,
                "max_queue_size": 100_000,
                "topic": f"kv@127.0.0.1:{server.port}@sim-8b",
            }
        }


async def test_without_events_there_is_nothing_to_tell_and_nothing_to_break(
    http: aiohttp.ClientSession,
) -> None:
    async with running() as server:
        async with http.get(f"{server.url}/kv_event_sources") as response:
            assert response.status == 404
        change = {"kv_events": {"lose_rate": 0.5}}
        status, answer = await post(http, f"{server.url}/admin/config", change)
        assert (status, answer["error"]["param"]) == (400, "kv_events")


async def test_a_server_without_replays_says_so(http: aiohttp.ClientSession) -> None:
    events = KvEventSettings(replay=False, topic="mine")
    async with running(kv_events=events) as server:
        async with http.get(f"{server.url}/kv_event_sources") as response:
            source = (await response.json())["0"]
        assert (source["replay_endpoint"], source["topic"]) == (None, "mine")


async def test_a_fleet_s_ports_for_events_are_its_own() -> None:
    async with EmbeddedFleet(ServerSettings(kv_events=KvEventSettings(), behaviour=FAST), 2) as one:
        addresses = [address for address in one.event_addresses if address is not None]
        assert len({address.endpoint for address in addresses}) == 2
        taken = int(addresses[1].endpoint.rsplit(":", 1)[1])
        # The second server's port is taken, so nothing stays open of the first either.
        fleet = EmbeddedFleet(ServerSettings(kv_events=KvEventSettings(port=taken - 2)), 2)
        with pytest.raises(OSError, match="for KV-cache events"):
            async with fleet:
                pytest.fail("it started")


async def test_faults_can_be_there_from_the_start(http: aiohttp.ClientSession) -> None:
    behaviour = Behaviour(time_scale=0.02, kv_events=EventFaults(silent=True))
    async with running(kv_events=KvEventSettings(), behaviour=behaviour) as server:
        async with http.get(f"{server.url}/admin/config") as response:
            assert (await response.json())["kv_events"]["silent"] is True
        _, answer = await post(http, f"{server.url}/v1/chat/completions", {"messages": CHAT})
        assert json.dumps(answer["usage"])
