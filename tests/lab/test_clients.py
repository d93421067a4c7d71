"""OpenAI's own client against real engines, through the gateway."""

import asyncio

import openai
import pytest

from bench.lab.engine import ADAPTER, MODEL
from gateway.app import Gateway
from tests.lab.conftest import Lab
from tests.lab.servers import ANSWER_SECONDS, metrics

QUESTION: list[openai.types.chat.ChatCompletionMessageParam] = [
    {"role": "user", "content": "What is the capital of France?"}
]


def client_of(gateway: Gateway) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="unused", timeout=ANSWER_SECONDS
    )


async def test_a_real_model_answers(gateway: Gateway) -> None:
    async with client_of(gateway) as client:
        answer = await client.chat.completions.create(
            model=MODEL, messages=QUESTION, max_tokens=16, temperature=0
        )
        assert "Paris" in (answer.choices[0].message.content or "")
        assert answer.usage is not None and answer.usage.completion_tokens > 3


async def test_a_stream_says_what_the_whole_answer_says(gateway: Gateway) -> None:
    async with client_of(gateway) as client:
        whole = await client.chat.completions.create(
            model=MODEL, messages=QUESTION, max_tokens=24, temperature=0
        )
        pieces, usage = [], None
        async for chunk in await client.chat.completions.create(
            model=MODEL,
            messages=QUESTION,
            max_tokens=24,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        ):
            pieces += [choice.delta.content or "" for choice in chunk.choices]
            usage = chunk.usage or usage
        assert "".join(pieces) == whole.choices[0].message.content
        assert sum(map(bool, pieces)) > 3
        assert usage is not None and whole.usage is not None
        assert usage.completion_tokens == whole.usage.completion_tokens


async def test_an_engines_refusal_reaches_the_client(gateway: Gateway) -> None:
    async with client_of(gateway) as client:
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(
                model=MODEL, messages=QUESTION, max_tokens=1_000_000
            )


async def test_a_client_that_leaves_frees_the_engine(gateway: Gateway, lab: Lab) -> None:
    async with client_of(gateway) as client:
        stream = await client.completions.create(
            model=MODEL,
            prompt="Count to ten thousand: one, two, three,",
            max_tokens=3_000,
            temperature=0,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        async for _ in stream:
            break
        assert sum((await metrics(lab.servers, "vllm:num_requests_running")).values()) == 1
        await stream.close()
        # 3,000 tokens take minutes: that the engine is free sooner is the abort's doing.
        async with asyncio.timeout(30):
            while any((await metrics(lab.servers, "vllm:num_requests_running")).values()):
                await asyncio.sleep(0.1)
        produced = sum((await metrics(lab.servers, "vllm:generation_tokens_total")).values())
        await asyncio.sleep(1)
        after = sum((await metrics(lab.servers, "vllm:generation_tokens_total")).values())
        assert after == produced
    assert all(state.ledger.requests == 0 for state in gateway.router.fleet)


async def test_adapters_are_listed_and_answer(gateway: Gateway, lab: Lab) -> None:
    if not all(server.adapter for server in lab.servers):
        pytest.skip("the servers run without an adapter: inferway lab up --lora")
    async with client_of(gateway) as client:
        listed = {model.id: model async for model in client.models.list()}
        assert {MODEL, ADAPTER} <= listed.keys()
        assert getattr(listed[ADAPTER], "parent", None) == MODEL
        plain, adapted = [
            await client.chat.completions.create(
                model=model, messages=QUESTION, max_tokens=16, temperature=0
            )
            for model in (MODEL, ADAPTER)
        ]
        assert adapted.model == ADAPTER
        # This adapter changes nothing, and the engine computes it.
        assert adapted.choices[0].message.content == plain.choices[0].message.content
