"""Token ids for requests: in time or not at all, from a tokenizer's folder or a real server."""

import asyncio
import json
import logging
import threading
from array import array
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tokenizing import service as service_module
from gateway.tokenizing.body import Chat, Text
from gateway.tokenizing.local import LocalTokenizer, Prepared, TokenizerError
from gateway.tokenizing.pieces import TokenIds
from gateway.tokenizing.service import DONE, ENGINE, LATE, REFUSED, TokenizingService
from tests.support.trained_tokenizers import saved, trained

MESSAGES = [{"role": "user", "content": "the quick brown fox"}]
BODY = json.dumps({"model": "m", "messages": MESSAGES}).encode()
TEXT = "<|im_start|>user\nthe quick brown fox<|im_end|>\n<|im_start|>assistant\n"


def of_adapters(model: str) -> str:
    return model.partition(":")[0]


def nowhere(_model: str) -> str | None:
    return None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(tmp_path, trained())


@pytest.fixture
async def service(folder: Path) -> AsyncIterator[TokenizingService]:
    made = TokenizingService({"m": str(folder)}, 10.0, nowhere, of_adapters)
    yield made
    await made.close()


@pytest.fixture
async def held(
    service: TokenizingService, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[threading.Event]:
    """Work in threads ends only once this is set."""
    go_on = threading.Event()
    complete = LocalTokenizer.complete

    def slow(self: LocalTokenizer, prepared: Prepared) -> TokenIds:
        assert threading.current_thread() is not threading.main_thread()
        go_on.wait(10)
        return complete(self, prepared)

    monkeypatch.setattr(LocalTokenizer, "complete", slow)
    monkeypatch.setattr(service_module, "_AT_ONCE_SECONDS", 0.0)  # always in a thread
    yield go_on
    go_on.set()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


# --- a tokenizer of ours -------------------------------------------------------------------------


async def test_ids_are_those_of_the_rendered_text(service: TokenizingService) -> None:
    ids = await service.ask("m", BODY)
    assert ids is not None
    assert list(ids) == trained().encode(TEXT, add_special_tokens=False).ids
    assert service.outcomes == {DONE: 1}


async def test_adapters_have_the_tokenizer_of_their_base(service: TokenizingService) -> None:
    assert service.serves("m:adapter")
    assert not service.serves("other")
    assert await service.ask("m:adapter", BODY) == await service.ask("m", BODY)


async def test_quick_work_is_done_at_once_and_slow_work_elsewhere(
    service: TokenizingService,
) -> None:
    await service.ask("m", BODY)
    assert service.at_once == 1
    long = json.dumps({"prompt": "the lazy dog " * 20_000}).encode()
    assert await service.ask("m", long) is not None
    assert service.at_once == 1


async def test_too_late_is_none_and_the_work_is_kept(
    service: TokenizingService, held: threading.Event
) -> None:
    service._deadline = 0.01
    assert await service.ask("m", BODY) is None
    assert service.outcomes == {LATE: 1}
    held.set()
    pieces = service._local["m"].tokenizer.pieces
    await until(lambda: pieces.look_up(TEXT).unknown == 0)


async def test_when_too_many_wait_the_next_is_refused(
    service: TokenizingService, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "_MOST_WAITING", 3)
    waiting = [service.ask("m", BODY) for _ in range(3)]
    await until(lambda: service._waiting == 3)
    assert await service.ask("m", BODY) is None
    assert service.outcomes == {REFUSED: 1}
    held.set()
    assert None not in await asyncio.gather(*waiting)


async def test_who_leaves_is_not_waited_for(
    service: TokenizingService, held: threading.Event
) -> None:
    task = service.ask("m", BODY)
    await until(lambda: service._waiting == 1)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert service._waiting == 0


async def test_closing_ends_who_waits_and_refuses_who_comes(
    service: TokenizingService, held: threading.Event
) -> None:
    task = service.ask("m", BODY)
    await until(lambda: service._waiting == 1)
    await service.close()
    assert task.done()
    assert await service.ask("m", BODY) is None
    held.set()


async def test_a_reason_is_logged_once_it_repeats(
    service: TokenizingService, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(10):
            assert await service.ask("m", b"{}") is None
    (line,) = caplog.records
    assert "without their token ids" in line.getMessage()
    assert sum(service.outcomes.values()) == 10


async def test_an_unforeseen_failure_is_counted_and_not_raised(
    service: TokenizingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: LocalTokenizer, _request: Text | Chat) -> Prepared:
        raise LookupError

    monkeypatch.setattr(LocalTokenizer, "prepare", broken)
    assert await service.ask("m", BODY) is None
    assert service.outcomes == {"an error of ours": 1}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
fields = st.sampled_from(
    [
        *("messages", "prompt", "tools", "tool_choice", "documents", "reasoning_effort"),
        *("chat_template_kwargs", "add_special_tokens", "continue_final_message", "role"),
        *("content", "tool_calls", "function", "arguments", "type", "text", "name"),
    ]
)
bodies = st.binary(max_size=100) | st.dictionaries(
    fields, json_values | st.lists(st.dictionaries(fields, json_values, max_size=4), max_size=3)
).map(lambda body: json.dumps(body).encode())


@given(many=st.lists(bodies, min_size=5, max_size=10))
@settings(max_examples=50, deadline=None)
def test_no_body_raises(tmp_path_factory: pytest.TempPathFactory, many: list[bytes]) -> None:
    async def ask_all() -> None:
        folder = saved(tmp_path_factory.mktemp("tokenizer"), trained())
        service = TokenizingService({"m": str(folder)}, 10.0, nowhere, of_adapters)
        try:
            for body in many:
                await service.ask("m", body)
            assert service.outcomes["an error of ours"] == 0
            assert sum(service.outcomes.values()) == len(many)
        finally:
            await service.close()

    asyncio.run(ask_all())


async def test_a_tokenizer_that_cannot_be_loaded_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        TokenizingService({"m": str(tmp_path)}, 1.0, nowhere, of_adapters)


# --- an engine's ---------------------------------------------------------------------------------


class Engine:
    """A server with ``/tokenize`` that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, object]] = []
        self.answer = web.json_response({"count": 3, "max_model_len": 9, "tokens": [1, 2, 3]})
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def tokenize(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        await self.go_on.wait()
        return self.answer


@pytest.fixture
async def engine() -> Engine:
    return Engine()


@pytest.fixture
async def url(engine: Engine) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_post("/tokenize", engine.tokenize)
    async with TestServer(application) as server:
        yield str(server.make_url("")).rstrip("/")
        engine.go_on.set()


@pytest.fixture
async def asking(url: str) -> AsyncIterator[TokenizingService]:
    made = TokenizingService({"m": ENGINE}, 10.0, lambda _model: url, of_adapters)
    yield made
    await made.close()


async def test_an_engine_is_asked_for_what_it_would_render(
    asking: TokenizingService, engine: Engine
) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    body = {"model": "?", "messages": MESSAGES, "tools": tools, "temperature": 1}
    body |= {"reasoning_effort": "low", "documents": [{"text": "d"}]}
    body |= {"chat_template_kwargs": {"a": 1}, "add_generation_prompt": False}
    ids = await asking.ask("m:adapter", json.dumps(body).encode())
    assert ids == array("I", [1, 2, 3])
    assert engine.asked == [
        {
            "model": "m:adapter",
            "messages": MESSAGES,
            "tools": tools,
            "add_generation_prompt": False,
            "add_special_tokens": False,
            "chat_template_kwargs": {
                "a": 1,
                "reasoning_effort": "low",
                "enable_thinking": True,
                "documents": [{"text": "d"}],
            },
        }
    ]


async def test_an_engine_is_asked_about_a_completion(
    asking: TokenizingService, engine: Engine
) -> None:
    await asking.ask("m", b'{"prompt": ["a b"]}')
    assert engine.asked == [{"model": "m", "prompt": "a b", "add_special_tokens": True}]


async def test_an_engine_is_not_asked_about_pictures(
    asking: TokenizingService, engine: Engine
) -> None:
    parts = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    body = json.dumps({"messages": [{"role": "user", "content": parts}]}).encode()
    assert await asking.ask("m", body) is None
    assert engine.asked == []


async def test_an_engine_that_takes_too_long_is_left(
    asking: TokenizingService, engine: Engine
) -> None:
    engine.go_on.clear()
    asking._deadline = 0.05
    assert await asking.ask("m", BODY) is None
    assert asking.outcomes == {LATE: 1}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (web.Response(status=404), "the engine answers 404"),
        (web.Response(status=302, headers={"location": "/"}), "the engine answers 302"),
        (web.Response(text="["), "the engine answers no token ids"),
        (web.json_response({"tokens": [-1]}), "the engine answers no token ids"),
        (web.json_response({"tokens": [1 << 32]}), "the engine answers no token ids"),
        (web.json_response({"tokens": ["a"]}), "the engine answers no token ids"),
        (web.json_response({"count": 3}), "the engine answers no token ids"),
    ],
)
async def test_an_answer_that_is_none_is_counted(
    asking: TokenizingService, engine: Engine, answer: web.Response, why: str
) -> None:
    engine.answer = answer
    assert await asking.ask("m", BODY) is None
    assert asking.outcomes == {why: 1}


async def test_an_engine_that_is_gone_or_unknown(folder: Path, unused_tcp_port: int) -> None:
    gone = TokenizingService(
        {"m": ENGINE}, 10.0, lambda _model: f"http://127.0.0.1:{unused_tcp_port}", of_adapters
    )
    assert await gone.ask("m", BODY) is None
    unknown = TokenizingService({"m": ENGINE}, 10.0, nowhere, of_adapters)
    assert await unknown.ask("m", BODY) is None
    assert {**gone.outcomes, **unknown.outcomes} == {
        "the engine does not answer": 1,
        "no engine to ask": 1,
    }
    await gone.close()
    await unknown.close()
