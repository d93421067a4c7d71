"""Which bodies are refused, and how the refusal names what is wrong."""

import json
from typing import Any

import pytest

from gateway.apis.call import ApiError
from gateway.apis.catalogue import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MESSAGES,
    PASSTHROUGH,
    RESPONSES,
    TOKENIZE,
    Operation,
)

DEEP = b"[" * 100_000


def refusal(operation: Operation, body: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        operation.read(body)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize("operation", [CHAT, COMPLETIONS, RESPONSES, MESSAGES, EMBEDDINGS])
@pytest.mark.parametrize(
    ("body", "reason", "says"),
    [
        (b"", "empty_body", "empty"),
        (b" \r\n\t", "empty_body", "empty"),
        (b"{", "invalid_json", "byte 1"),
        (b'{"model": "m",}', "invalid_json", "trailing comma in object at byte 14"),
        (b'{"messages": []} {}', "invalid_json", "trailing characters"),
        (b'{"model": "m\xff"}', "invalid_json", "UTF-8 at byte 12"),
        (b'{"model": "\\ud800"}', "invalid_json", "byte"),
        (b'{"model": "m", "x": NaN}', "invalid_json", "byte 20"),
        (b'{"model": "m", "x": ' + DEEP, "invalid_json", "nested too deeply"),
        (b"[1]", "invalid_field", "expected `object`, got `array`"),
        (b'"model"', "invalid_field", "expected `object`, got `str`"),
    ],
)
def test_bodies_that_are_no_json_object(
    operation: Operation, body: bytes, reason: str, says: str
) -> None:
    error = refusal(operation, body)
    assert (error.reason, error.param) == (reason, None)
    assert says in error.message


def messages(*parts: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": [*parts]}]}


HI = messages("x")
INSIDE = {"type": "tool_result", "content": [{"type": "text"}, {"type": "text", "text": {}}]}


@pytest.mark.parametrize(
    ("operation", "fields", "param", "says"),
    [
        (CHAT, {"model": 5}, "model", "expected `str`, got `int`"),
        (CHAT, {"model": None}, "model", "expected `str`, got `null`"),
        (CHAT, {}, "messages", "required"),
        (CHAT, {"messages": {}}, "messages", "expected `array`, got `object`"),
        (CHAT, {"messages": None}, "messages", "expected `array`, got `null`"),
        (CHAT, {"messages": ["hi"]}, "messages[0]", "expected `object`, got `str`"),
        (CHAT, {"messages": [{}]}, "messages[0].role", "required"),
        (CHAT, {"messages": [{"role": 1}]}, "messages[0].role", "expected `str`, got `int`"),
        (CHAT, {"messages": [{"role": "a", "content": 1}]}, "messages[0].content", "got `int`"),
        (CHAT, messages({"type": "text", "text": 1}), "messages[1].content[0].text", "got `int`"),
        (CHAT, messages("a", 3), "messages[1].content[1]", "expected `object`, got `int`"),
        (CHAT, messages({"type": 3}), "messages[1].content[0].type", "expected `str`, got `int`"),
        (CHAT, HI | {"stream": "true"}, "stream", "expected `bool | null`, got `str`"),
        (CHAT, HI | {"max_tokens": "many"}, "max_tokens", "got `str`"),
        (CHAT, HI | {"cache_salt": 1}, "cache_salt", "got `int`"),
        (COMPLETIONS, {}, "prompt", "required"),
        (COMPLETIONS, {"prompt": None}, "prompt", "required"),
        (COMPLETIONS, {"prompt": {}}, "prompt", "got `object`"),
        (COMPLETIONS, {"prompt": ["a", True]}, "prompt[1]", "got `bool`"),
        (COMPLETIONS, {"prompt": [1, -2]}, "prompt", "index 1 is -2"),
        (COMPLETIONS, {"prompt": [1, [2]]}, "prompt", "index 1 is list"),
        (COMPLETIONS, {"prompt": [[1], [2, 1 << 32]]}, "prompt[1]", "index 1"),
        (COMPLETIONS, {"prompt": [[1, 2.5]]}, "prompt[0][1]", "got `float`"),
        (RESPONSES, {}, "input", "required"),
        (RESPONSES, {"input": 5}, "input", "got `int`"),
        (RESPONSES, {"input": ["a", 5]}, "input[0]", "expected `object`, got `str`"),
        (
            RESPONSES,
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": 1}]}]},
            "input[0].content[0].text",
            "got `int`",
        ),
        (
            RESPONSES,
            {"input": [{"type": "function_call_output", "call_id": "c", "output": 1}]},
            "input[0].output",
            "got `int`",
        ),
        (MESSAGES, {}, "messages", "required"),
        (MESSAGES, HI | {"system": 1}, "system", "got `int`"),
        (MESSAGES, HI | {"system": [{"type": "text", "text": 1}]}, "system[0].text", "got `int`"),
        (MESSAGES, messages(INSIDE), "messages[1].content[0].content[1].text", "got `object`"),
        (MESSAGES, HI | {"tool_choice": "none"}, "tool_choice", "expected `object"),
        (EMBEDDINGS, {"stream": 1}, "stream", "got `int`"),
    ],
)
def test_wrong_fields_are_named(
    operation: Operation, fields: dict[str, Any], param: str, says: str
) -> None:
    error = refusal(operation, json.dumps({"model": "m"} | fields).encode())
    assert error.reason in {"missing_field", "invalid_field"}
    assert error.param == param
    assert f"`{param}`" in error.message
    assert says in error.message


@pytest.mark.parametrize(
    "operation", [CHAT, COMPLETIONS, RESPONSES, MESSAGES, EMBEDDINGS, TOKENIZE]
)
@pytest.mark.parametrize("model", [{}, {"model": ""}])
def test_a_model_is_required(operation: Operation, model: dict[str, str]) -> None:
    fields = {"messages": [], "prompt": "x", "input": "x"} | model
    error = refusal(operation, json.dumps(fields).encode())
    assert (error.reason, error.param) == ("missing_field", "model")


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":[{"role":"u","content":"\xff"}]}',
        b'{"model":"m","messages":[{"role":"u","content":[{"type":"text","text":"\xff"}]}]}',
        b'{"model":"m","messages":[],"unknown":"\xff"}',
    ],
)
def test_text_that_is_not_utf8_is_refused_wherever_it_stands(body: bytes) -> None:
    error = refusal(CHAT, body)
    assert (error.reason, error.param) == ("invalid_json", None)
    assert f"UTF-8 at byte {body.index(0xFF)}" in error.message


def test_passthrough_refuses_a_broken_object() -> None:
    assert refusal(PASSTHROUGH, b'{"model": ').reason == "invalid_json"
