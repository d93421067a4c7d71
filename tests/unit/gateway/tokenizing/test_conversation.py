"""Messages and tools in the form in which engines hand them to templates."""

import json

import pytest

from gateway.tokenizing.body import Fields, UntokenizableError
from gateway.tokenizing.conversation import conversation, tools_of


def one(message: Fields, *, parts: bool = False) -> Fields:
    (made,) = conversation([message], parts=parts)
    return made


def test_parts_become_text_and_text_becomes_parts() -> None:
    listed: Fields = {"role": "user", "content": [{"type": "text", "text": "a"}, "b"]}
    assert one(listed) == {"role": "user", "content": "a\nb"}
    assert one({"role": "user", "content": "a"}, parts=True) == {
        "role": "user",
        "content": [{"type": "text", "text": "a"}],
    }


def test_no_content_is_an_empty_one() -> None:
    assert one({"role": "assistant", "content": None}) == {"role": "assistant", "content": ""}
    assert one({"role": "assistant"}, parts=True) == {"role": "assistant", "content": []}


def test_a_tools_result_is_text_for_every_template() -> None:
    result: Fields = {
        "role": "tool",
        "tool_call_id": "1",
        "content": [{"type": "text", "text": "42"}],
    }
    assert one(result, parts=True) == {"role": "tool", "content": "42", "tool_call_id": "1"}


def test_a_tool_call_has_its_arguments_as_an_object_and_its_fields_in_order() -> None:
    call = {
        "type": "function",
        "index": 0,
        "function": {"name": "f", "arguments": '{"b": 1.50, "a": "é"}'},
        "id": "1",
    }
    made = one({"role": "assistant", "tool_calls": [call]})
    assert json.dumps(made["tool_calls"], ensure_ascii=False) == (
        '[{"id": "1", "function": {"arguments": {"b": 1.5, "a": "é"}, "name": "f"},'
        ' "type": "function"}]'
    )


def test_arguments_that_are_no_json_are_an_empty_object() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{"}}
    made = one({"role": "assistant", "tool_calls": [call]})
    assert made["tool_calls"] == [
        {"id": "1", "function": {"arguments": {}, "name": "f"}, "type": "function"}
    ]


def test_reasoning_goes_by_both_its_names_and_only_for_assistants() -> None:
    made = one({"role": "assistant", "content": "x", "reasoning_content": "why"})
    assert made["reasoning"] == made["reasoning_content"] == "why"
    assert "reasoning" not in one({"role": "user", "content": "x", "reasoning": "why"})


def test_unknown_fields_stay_out() -> None:
    assert one({"role": "user", "content": "x", "cache": 1, "name": "n"}) == {
        "role": "user",
        "content": "x",
        "name": "n",
    }


def test_a_tool_is_written_with_its_defaults_and_in_order() -> None:
    tools = tools_of([{"function": {"parameters": {}, "name": "f", "x": 1}}])
    assert json.dumps(tools) == (
        '[{"type": "function", "function": {"name": "f", "description": null, "parameters": {}}}]'
    )
    strict = tools_of([{"type": "function", "function": {"name": "f", "strict": True}}])
    assert strict is not None
    assert strict[0]["function"] == {
        "name": "f",
        "description": None,
        "parameters": None,
        "strict": True,
    }


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"role": 1},
        {"role": "user", "content": 1},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
        {"role": "user", "content": [{"text": "a"}]},
        {"role": "user", "content": [{"type": "text", "text": "a", "uuid": "u"}]},
        {"role": "user", "content": [{"type": "text", "text": 1}]},
        {"role": "user", "content": [{"type": "input_text"}]},
        {"role": "user", "content": [None]},
        {"role": "user", "content": [{"type": []}]},
        {"role": "assistant", "tool_calls": "x"},
        {"role": "assistant", "tool_calls": [{"type": "custom", "custom": {}}]},
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {}}]},
        {"role": "assistant", "reasoning": 1},
        {"role": "tool", "tool_call_id": 1},
        {"role": "developer", "content": "x", "tools": []},
    ],
)
def test_what_an_engine_may_take_otherwise_is_not_guessed(message: Fields) -> None:
    with pytest.raises(UntokenizableError):
        one(message)


def test_endless_conversations_are_refused() -> None:
    with pytest.raises(UntokenizableError, match="too many"):
        conversation([{"role": "user", "content": ""}] * 10_001, parts=False)
