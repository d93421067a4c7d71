"""The official clients of OpenAI and Anthropic against a simulated server, unmodified."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anthropic
import openai
import pytest

from bench.fleet.server import SimulatedServer
from tests.support.simulated import CHAT, events, running


@pytest.fixture
async def server() -> AsyncIterator[SimulatedServer]:
    async with running() as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
        yield session


@pytest.fixture
async def client(server: SimulatedServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="unused", max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def claude(server: SimulatedServer) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=server.url, api_key="unused", max_retries=0
    ) as client:
        yield client


# -- OpenAI ---------------------------------------------------------------------------------


async def test_a_chat_and_its_usage(client: openai.AsyncOpenAI) -> None:
    for cached in (0, 16):
        answer = await client.chat.completions.create(
            model="sim-8b", messages=CHAT, max_tokens=9, extra_body={"ignore_eos": True}
        )
        assert answer.choices[0].finish_reason == "length"
        assert len(answer.choices[0].message.content or "") == 9 * 4
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 9
        assert answer.usage.prompt_tokens_details is not None
        assert answer.usage.prompt_tokens_details.cached_tokens == cached


async def test_a_streamed_chat_says_the_same(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="sim-8b", messages=CHAT, n=2)
    texts = ["", ""]
    stream = await client.chat.completions.create(
        model="sim-8b",
        messages=CHAT,
        n=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    usage = None
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
        usage = chunk.usage or usage
    assert texts == [choice.message.content for choice in whole.choices]
    assert usage is not None
    assert whole.usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens


async def test_a_conversation_finds_its_earlier_turns(client: openai.AsyncOpenAI) -> None:
    system = {"role": "system", "content": "You know everything about mountains. " * 8}
    messages: Any = [system, *CHAT]
    first = await client.chat.completions.create(
        model="sim-8b", messages=messages, max_tokens=64, extra_body={"ignore_eos": True}
    )
    assert first.usage is not None
    answer = {"role": "assistant", "content": first.choices[0].message.content}
    messages += [answer, {"role": "user", "content": "And tomorrow?"}]
    second = await client.chat.completions.create(model="sim-8b", messages=messages)
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    whole = first.usage.total_tokens - 1  # the last token was never computed
    assert second.usage.prompt_tokens_details.cached_tokens == whole // 16 * 16


async def test_the_events_of_a_chat(server: SimulatedServer, http: aiohttp.ClientSession) -> None:
    body = {
        "model": "sim-8b",
        "messages": CHAT,
        "stream": True,
        "max_completion_tokens": 3,
        "ignore_eos": True,
        "stream_options": {"include_usage": True},
    }
    data = await events(http, f"{server.url}/v1/chat/completions", body)
    assert data[-1] == "[DONE]"
    chunks = [json.loads(event) for event in data[:-1]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [c["choices"][0]["finish_reason"] for c in chunks[:-1]] == [None, None, None, "length"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {
        "prompt_tokens": 19,
        "completion_tokens": 3,
        "total_tokens": 22,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


@pytest.mark.parametrize(
    ("prompt", "choices", "tokens"),
    [
        ("eight by", 1, 2),
        (["one ", "two two "], 2, 3),
        ([1, 2, 3], 1, 3),
        ([[1, 2, 3], [4, 5]], 2, 5),
    ],
)
async def test_completions_of_every_kind_of_prompt(
    client: openai.AsyncOpenAI, prompt: Any, choices: int, tokens: int
) -> None:
    answer = await client.completions.create(model="sim-8b", prompt=prompt, n=2)
    assert [choice.index for choice in answer.choices] == list(range(2 * choices))
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == tokens
    stream = await client.completions.create(model="sim-8b", prompt=prompt, n=2, stream=True)
    texts = [""] * 2 * choices
    async for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in answer.choices]


async def test_a_response_whole_and_streamed(client: openai.AsyncOpenAI) -> None:
    whole = await client.responses.create(
        model="sim-8b", input="Hello", instructions="Be brief.", max_output_tokens=60
    )
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
    async with client.responses.stream(
        model="sim-8b",
        input=[{"role": "user", "content": [{"type": "input_text", "text": "Hello"}]}],
        instructions="Be brief.",
        max_output_tokens=60,
    ) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert final.output_text == whole.output_text != ""


async def test_embeddings_are_alike_in_both_encodings(client: openai.AsyncOpenAI) -> None:
    packed = await client.embeddings.create(model="sim-8b", input=["one", "two"])
    plain = await client.embeddings.create(
        model="sim-8b", input=["one", "two"], encoding_format="float"
    )
    assert [len(item.embedding) for item in packed.data] == [384, 384]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert packed.data[0].embedding != packed.data[1].embedding
    small = await client.embeddings.create(model="sim-8b", input="one", dimensions=8)
    assert len(small.data[0].embedding) == 8


async def test_models_and_adapters(
    server: SimulatedServer, client: openai.AsyncOpenAI, http: aiohttp.ClientSession
) -> None:
    async def listed() -> dict[str, str | None]:
        models = await client.models.list()
        return {model.id: (model.model_extra or {})["parent"] for model in models.data}

    assert await listed() == {"sim-8b": None, "ada": "sim-8b"}
    async with http.post(
        f"{server.url}/v1/load_lora_adapter", json={"lora_name": "bob", "lora_path": "/bob"}
    ) as response:
        assert response.status == 200
    assert "bob" in await listed()
    answer = await client.chat.completions.create(model="bob", messages=CHAT)
    assert answer.model == "bob"
    async with http.post(
        f"{server.url}/v1/unload_lora_adapter", json={"lora_name": "bob"}
    ) as response:
        assert response.status == 200
    with pytest.raises(openai.NotFoundError, match="Valid aliases: sim-8b, ada"):
        await client.chat.completions.create(model="bob", messages=CHAT)


# -- Anthropic ------------------------------------------------------------------------------


async def test_messages_whole_streamed_and_counted(claude: anthropic.AsyncAnthropic) -> None:
    question: Any = [{"role": "user", "content": "Why is the sky blue?"}]
    system = "Answer like a pirate. " * 10
    whole = await claude.messages.create(
        model="sim-8b", max_tokens=50, system=system, messages=question
    )
    assert whole.content[0].type == "text"
    async with claude.messages.stream(
        model="sim-8b", max_tokens=50, system=system, messages=question
    ) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()
    assert text == whole.content[0].text
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert whole.usage.cache_read_input_tokens == 0
    assert final.usage.cache_read_input_tokens
    counted = await claude.messages.count_tokens(model="sim-8b", system=system, messages=question)
    assert counted.input_tokens == whole.usage.input_tokens
    assert counted.input_tokens == final.usage.input_tokens + final.usage.cache_read_input_tokens


async def test_errors_in_the_shape_of_messages(claude: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        await claude.messages.create(
            model="nope", max_tokens=1, messages=[{"role": "user", "content": "Hi"}]
        )
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["type"] == "not_found_error"


async def test_the_events_of_a_message(
    server: SimulatedServer, http: aiohttp.ClientSession
) -> None:
    body = {"max_tokens": 60, "messages": CHAT, "stream": True}
    data = await events(http, f"{server.url}/v1/messages", body)
    kinds = [json.loads(event)["type"] for event in data]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
