"""What a simulated server answers besides chats: the rest of its surface, and its errors."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from bench.fleet.server import SimulatedServer
from bench.fleet.settings import Mode
from tests.support.simulated import CHAT, post, running


@pytest.fixture
async def server() -> AsyncIterator[SimulatedServer]:
    async with running() as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
        yield session


async def test_rankings_and_scores(server: SimulatedServer, http: aiohttp.ClientSession) -> None:
    body = {"query": "blue sky", "documents": ["green grass", "the sky is blue"], "top_n": 1}
    for path in ("/rerank", "/v1/rerank"):
        status, answer = await post(http, server.url + path, body)
        assert status == 200
        assert [result["index"] for result in answer["results"]] == [1]
    body = {"text_1": "blue sky", "text_2": ["blue sky", "green grass"]}
    for path in ("/score", "/v1/score"):
        status, answer = await post(http, server.url + path, body)
        assert [item["score"] for item in answer["data"]] == [1.0, 0.0]


async def test_text_survives_tokenize_and_detokenize(
    server: SimulatedServer, http: aiohttp.ClientSession
) -> None:
    text = "Grüße aus den Bergen 🏔 and back"
    _, tokens = await post(http, f"{server.url}/tokenize", {"prompt": text})
    assert tokens["count"] == len(tokens["tokens"])
    _, back = await post(http, f"{server.url}/detokenize", {"tokens": tokens["tokens"]})
    assert back["prompt"] == text
    _, chat = await post(http, f"{server.url}/tokenize", {"messages": CHAT})
    assert chat["count"] == 19


async def test_the_small_questions(server: SimulatedServer, http: aiohttp.ClientSession) -> None:
    for path in ("/health", "/ping"):
        async with http.get(server.url + path) as response:
            assert (response.status, await response.read()) == (200, b"")
    async with http.get(f"{server.url}/version") as response:
        assert set(await response.json()) == {"version"}
    async with http.get(f"{server.url}/load") as response:
        assert await response.json() == {"server_load": 0}
    async with http.get(f"{server.url}/nothing") as response:
        assert (response.status, await response.json()) == (404, {"detail": "Not Found"})


async def test_metrics_tell_what_was_done(
    server: SimulatedServer, http: aiohttp.ClientSession
) -> None:
    body = {"prompt": "x" * 4 * 100, "max_tokens": 7, "ignore_eos": True}
    for _ in range(2):
        await post(http, f"{server.url}/v1/completions", body)
    async with http.get(f"{server.url}/metrics") as response:
        assert response.content_type == "text/plain"
        lines = (await response.text()).splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    labels = '{engine="0",model_name="sim-8b"}'
    assert values[f"vllm:prompt_tokens_total{labels}"] == "200.0"
    assert values[f"vllm:generation_tokens_total{labels}"] == "14.0"
    assert values[f"vllm:prefix_cache_queries_total{labels}"] == "200.0"
    assert values[f"vllm:prefix_cache_hits_total{labels}"] == "96.0"
    assert float(values["process_start_time_seconds"]) > 1e9


async def test_the_prefix_cache_can_be_reset(
    server: SimulatedServer, http: aiohttp.ClientSession
) -> None:
    body = {"prompt": "x" * 4 * 100, "max_tokens": 1}
    url = f"{server.url}/v1/completions"
    await post(http, url, body)
    assert await post(http, f"{server.url}/reset_prefix_cache", {}) == (200, {"success": True})
    _, answer = await post(http, url, body)
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


@pytest.mark.parametrize(
    ("body", "status", "kind", "param"),
    [
        ({"prompt": "x", "model": "nope"}, 404, "NotFoundError", "model"),
        ({"model": "sim-8b"}, 400, "Bad Request", "body.prompt"),
        ({"prompt": "x", "max_tokens": "many"}, 400, "Bad Request", "body.max_tokens"),
        ({"prompt": "x", "max_tokens": 0}, 400, "BadRequestError", "max_tokens"),
        ({"prompt": "x", "max_tokens": 4, "min_tokens": 5}, 400, "BadRequestError", "min_tokens"),
        ({"prompt": "x", "n": 0}, 400, "BadRequestError", "n"),
        ({"prompt": "x", "cache_salt": ""}, 400, "BadRequestError", "cache_salt"),
        ({"prompt": ""}, 400, "BadRequestError", "prompt"),
        ({"prompt": []}, 400, "BadRequestError", "prompt"),
        ({"prompt": [1, "x"]}, 400, "BadRequestError", "prompt"),
        ({"prompt": [-1]}, 400, "BadRequestError", "prompt"),
        ({"prompt": "xxxx" * 1024}, 400, "BadRequestError", "input_tokens"),
        ({"prompt": "xxxx" * 1000, "max_tokens": 25}, 400, "BadRequestError", "max_tokens"),
    ],
)
async def test_what_cannot_be_served_is_refused_by_name(
    http: aiohttp.ClientSession, body: object, status: int, kind: str, param: str
) -> None:
    async with running(max_model_len=1024) as server:
        got, answer = await post(http, f"{server.url}/v1/completions", body)
        error = answer["error"]
        assert (got, error["type"], error["param"]) == (status, kind, param)
        assert error["code"] == status
        assert error["message"]
        assert not server.service.engine.busy


async def test_invalid_json_is_refused(
    server: SimulatedServer, http: aiohttp.ClientSession
) -> None:
    async with http.post(f"{server.url}/v1/chat/completions", data=b'{"messages": [') as response:
        assert response.status == 400
        assert "Invalid JSON" in (await response.json())["error"]["message"]


async def test_a_request_id_becomes_part_of_the_id(
    server: SimulatedServer, http: aiohttp.ClientSession
) -> None:
    url = f"{server.url}/v1/completions"
    _, answer = await post(http, url, {"prompt": "x"}, **{"X-Request-Id": "r-1"})
    assert answer["id"] == "cmpl-r-1"


async def test_echo_mode_says_the_last_message(http: aiohttp.ClientSession) -> None:
    async with running(mode=Mode.ECHO) as server:
        _, answer = await post(http, f"{server.url}/v1/chat/completions", {"messages": CHAT})
        assert answer["choices"][0]["message"]["content"] == CHAT[0]["content"]


async def test_tools_and_their_calls_are_part_of_the_prompt(
    server: SimulatedServer, http: aiohttp.ClientSession
) -> None:
    async def count(path: str, **fields: Any) -> int:
        status, answer = await post(http, server.url + path, {"messages": CHAT, **fields})
        assert status == 200, answer
        tokens: int = answer.get("input_tokens") or answer["count"]
        return tokens

    for path in ("/tokenize", "/v1/messages/count_tokens"):
        plain = await count(path)
        assert await count(path, tools=None) == await count(path, tools=[]) == plain
        assert await count(path, tools=[{"name": "weather"}]) > plain
        call = {"role": "assistant", "tool_calls": [{"id": "1", "type": "function"}]}
        silent = {"role": "assistant", "tool_calls": None}
        without = await count(path, messages=[*CHAT, silent])
        assert await count(path, messages=[*CHAT, call]) > without
