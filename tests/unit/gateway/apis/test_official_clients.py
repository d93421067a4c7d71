"""The official clients: what they send is read, and what we answer they understand."""

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.apis.call import ApiError, Call
from gateway.apis.catalogue import AnswerModel, AnswerModels, resolve
from gateway.apis.models import model_body, models_body
from routing.fleet import ServedModel

REFUSED = ApiError(404, "unknown_model", "There is no m.", param="model")
BROKEN = ApiError(502, "upstream_broken", "The endpoint went away.")
MODELS = {"m": ServedModel("m"), "a": ServedModel("a", base="m")}
CREATED = 1700000000


class Gateway:
    """Stands where the gateway would: reads requests, and answers with an error's bytes."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def answer(self, request: web.Request) -> web.Response:
        route = resolve(request.method, request.path)
        if isinstance(route, AnswerModels):
            return web.Response(body=models_body(MODELS, CREATED), content_type="application/json")
        if isinstance(route, AnswerModel):
            body = model_body(MODELS, route.id, CREATED)
            return web.Response(body=body, content_type="application/json")
        call = route.api.read(await request.read())
        self.calls.append(call)
        if call.streamed:
            body = route.api.stream_error(BROKEN)
            return web.Response(body=body, content_type="text/event-stream")
        body = route.api.error_body(REFUSED)
        return web.Response(status=REFUSED.status, body=body, content_type="application/json")


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
async def url(gateway: Gateway) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", gateway.answer)
    async with TestServer(app) as server:
        yield str(server.make_url(""))


@pytest.fixture
async def client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(api_key="none", base_url=f"{url}/v1", max_retries=0) as client:
        yield client


@pytest.fixture
async def claude(url: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(api_key="none", base_url=url, max_retries=0) as client:
        yield client


CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "be brief"}]},
        {
            "role": "user",
            "name": "bob",
            "content": [
                {"type": "text", "text": "what is it?"},
                {"type": "image_url", "image_url": {"url": "http://x/y.png", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                {"type": "file", "file": {"file_id": "f1"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "audio": {"id": "a1"},
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c", "content": "42"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_object"},
    "stream_options": {"include_usage": True},
    "logit_bias": {"5": 1},
    "metadata": {"a": "b"},
    "stop": ["x"],
    "max_completion_tokens": 5,
    "extra_body": {"chat_template_kwargs": {"enable_thinking": False}, "cache_salt": "s"},
}


async def test_openai_chat(gateway: Gateway, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(**CHAT)
    assert (caught.value.code, caught.value.param) == ("unknown_model", "model")
    assert "There is no m." in caught.value.message
    with pytest.raises(openai.APIError, match="went away"):
        [event async for event in await client.chat.completions.create(stream=True, **CHAT)]
    first, second = gateway.calls
    assert (first.model, first.max_output_tokens, second.streamed) == ("m", 5, True)
    assert first.chains == second.chains
    assert first.prompt_tokens > 3 * 1024


async def test_openai_completions(gateway: Gateway, client: openai.AsyncOpenAI) -> None:
    for prompt in ("hi", ["hi", "ho"], [1, 2], [[1, 2], [3]]):
        with pytest.raises(openai.NotFoundError):
            await client.completions.create(model="m", prompt=prompt)
    with pytest.raises(openai.APIError, match="went away"):
        [
            event
            async for event in await client.completions.create(model="m", prompt="hi", stream=True)
        ]
    assert [len(call.chains) for call in gateway.calls] == [1, 2, 1, 2, 1]


async def test_openai_responses(gateway: Gateway, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await client.responses.create(
            model="m",
            instructions="be brief",
            input=[
                {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "42"},
            ],
            reasoning={"effort": "low"},
            text={"format": {"type": "text"}},
        )
    events = [
        event async for event in await client.responses.create(model="m", input="hi", stream=True)
    ]
    assert [event.type for event in events] == ["error"]
    assert [len(call.chains) for call in gateway.calls] == [1, 1]


async def test_openai_embeddings_and_audio(gateway: Gateway, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await client.embeddings.create(model="m", input=["hi", "ho"])
    with pytest.raises(openai.NotFoundError):
        await client.audio.transcriptions.create(model="whisper", file=("a.wav", b"\r\n--RIFF\r\n"))
    assert [call.model for call in gateway.calls] == ["m", "whisper"]


async def test_anthropic_messages(gateway: Gateway, claude: anthropic.AsyncAnthropic) -> None:
    request: dict[str, Any] = {
        "model": "m",
        "max_tokens": 5,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": "hi"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "x"},
                    {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t",
                        "content": [
                            {"type": "text", "text": "42"},
                            {"type": "image", "source": {"type": "url", "url": "http://x/y.png"}},
                        ],
                    }
                ],
            },
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "auto"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    }
    with pytest.raises(anthropic.NotFoundError, match="There is no m"):
        await claude.messages.create(**request)
    with pytest.raises(anthropic.APIError, match="went away"):
        [event async for event in await claude.messages.create(stream=True, **request)]
    with pytest.raises(anthropic.NotFoundError):
        await claude.messages.count_tokens(model="m", messages=request["messages"])
    assert [len(call.chains) for call in gateway.calls] == [1, 1, 0]
    assert gateway.calls[0].max_output_tokens == 5


async def test_openai_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["m", "a"]
    assert (await client.models.retrieve("a")).created == CREATED
