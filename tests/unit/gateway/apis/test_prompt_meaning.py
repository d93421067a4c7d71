"""Which differences between two bodies change the prompt, and which do not."""

import json
from typing import Any

import pytest

from gateway.apis.catalogue import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Operation
from routing.request import Chain

PAD = "once upon a time " * 40  # longer than a block, so that a prompt has hashes
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CACHED = {"cache_control": {"type": "ephemeral"}}


def chain(operation: Operation, fields: dict[str, Any]) -> Chain:
    return operation.read(json.dumps({"model": "m"} | fields).encode()).chains[0]


def chat(content: Any = PAD, /, role: str = "user", **extra: Any) -> dict[str, Any]:
    """Build a chat of one message, padded behind so that its differences are in a whole block."""
    return {
        "messages": [{"role": role, "content": content, **extra}, {"role": "x", "content": PAD}]
    }


def claude(*blocks: Any, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": list(blocks)}, {"role": "x", "content": PAD}]
    return {"messages": messages} | fields


def items(*input_items: Any, **fields: Any) -> dict[str, Any]:
    return {"input": [*input_items, {"role": "x", "content": PAD}]} | fields


TEXT = {"type": "text", "text": "a"}
RESULT = {"type": "tool_result", "tool_use_id": "t"}

DIFFERENT: list[tuple[Operation, dict[str, Any], dict[str, Any]]] = [
    (CHAT, chat(), chat(role="system")),
    (CHAT, chat(), chat(name="bob")),
    (CHAT, chat(tool_call_id="1"), chat(name="1")),
    (CHAT, chat(None), chat("")),
    (CHAT, chat("a\nb"), chat("a b")),
    (CHAT, chat("", role="a"), chat("a", role="")),
    (CHAT, chat(None), chat(None, tool_calls=[CALL])),
    (CHAT, chat(None, tool_calls=[CALL]), chat(None, tool_calls=[CALL, CALL])),
    (CHAT, chat(None, function_call=CALL), chat(None, tool_calls=CALL)),
    (CHAT, chat(), chat(reasoning_content="hm")),
    (CHAT, chat(), chat(reasoning="hm")),
    (CHAT, chat(None, refusal="a"), chat("a")),
    (CHAT, chat([TEXT], refusal="a"), chat([TEXT, TEXT])),
    (CHAT, chat([TEXT, TEXT]), chat("aa")),
    (CHAT, chat([{"type": "new", "x": 1}]), chat([{"type": "new", "x": 2}])),
    (CHAT, chat([{"type": "new", "text": {"x": 1}}]), chat([{"type": "new", "text": {"x": 2}}])),
    (CHAT, chat(), chat() | {"tools": [TOOL]}),
    (CHAT, chat() | {"tools": [TOOL]}, chat() | {"functions": [TOOL]}),
    (CHAT, chat() | {"tools": [TOOL]}, chat() | {"tools": [TOOL], "tool_choice": "none"}),
    (CHAT, chat(), chat() | {"chat_template": "x"}),
    (CHAT, chat(), chat() | {"chat_template_kwargs": {"enable_thinking": False}}),
    (CHAT, chat(), chat() | {"mm_processor_kwargs": {"max_pixels": 1}}),
    (CHAT, chat(), chat() | {"reasoning_effort": "high"}),
    (CHAT, chat(), chat() | {"documents": [{"text": "d"}]}),
    (CHAT, chat(), chat() | {"truncate_prompt_tokens": 5}),
    (CHAT, chat(), chat() | {"add_special_tokens": True}),
    (CHAT, chat(), chat() | {"cache_salt": "tenant"}),
    (CHAT, chat() | {"cache_salt": ""}, chat() | {"cache_salt": "tenant"}),
    (CHAT, chat(), chat() | {"model": "adapter"}),
    (CHAT, chat() | {"model": "a", "cache_salt": "b"}, chat() | {"model": "ab"}),
    (COMPLETIONS, {"prompt": PAD}, {"prompt": PAD, "cache_salt": "tenant"}),
    (COMPLETIONS, {"prompt": PAD}, {"prompt": PAD, "model": "adapter"}),
    (COMPLETIONS, {"prompt": [1] * 64}, {"prompt": [1] * 64, "cache_salt": "tenant"}),
    (RESPONSES, items(), items(instructions="be brief")),
    (RESPONSES, items(), items(tools=[TOOL])),
    (RESPONSES, items(), items(previous_response_id="resp_1")),
    (RESPONSES, items(conversation={"id": "c"}), items(prompt={"id": "c"})),
    (
        RESPONSES,
        items({"role": "user", "content": [TEXT, {"type": "new"}]}),
        items({"role": "user", "content": [TEXT]}, {"type": "new"}),
    ),
    (RESPONSES, items(), items(reasoning={"effort": "high"})),
    (RESPONSES, items(), items({"type": "function_call", "call_id": "c", "name": "f"})),
    (
        RESPONSES,
        items({"type": "function_call_output", "call_id": "c", "output": "1"}),
        items({"type": "function_call_output", "call_id": "c", "output": "2"}),
    ),
    (
        RESPONSES,
        items({"type": "function_call_output", "call_id": "c", "output": "1"}),
        items({"type": "function_call_output", "call_id": "d", "output": "1"}),
    ),
    (MESSAGES, claude(TEXT), claude(TEXT, system="s")),
    (MESSAGES, claude(TEXT), claude(TEXT, tools=[TOOL])),
    (
        MESSAGES,
        claude(TEXT, tools=[TOOL]),
        claude(TEXT, tools=[TOOL], tool_choice={"type": "none"}),
    ),
    (MESSAGES, claude(RESULT | {"content": "a"}), claude(RESULT | {"content": "b"})),
    (
        MESSAGES,
        claude(RESULT | {"content": [TEXT]}, TEXT),
        claude(RESULT | {"content": [TEXT, TEXT]}),
    ),
    (MESSAGES, claude(RESULT), claude(RESULT | {"is_error": True})),
    (
        MESSAGES,
        claude({"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}),
        claude({"type": "tool_use", "id": "t", "name": "f", "input": {"x": 2}}),
    ),
    (MESSAGES, claude({"type": "thinking", "thinking": "a"}), claude(TEXT)),
]


@pytest.mark.parametrize(("operation", "one", "other"), DIFFERENT)
def test_changes_the_prompt(
    operation: Operation, one: dict[str, Any], other: dict[str, Any]
) -> None:
    first, second = chain(operation, one), chain(operation, other)
    assert first
    assert second
    assert first[0] != second[0]


SAME: list[tuple[Operation, dict[str, Any], dict[str, Any]]] = [
    (CHAT, chat("a"), chat([TEXT])),
    (CHAT, chat("a"), chat(["a"])),
    (CHAT, chat("a"), chat([{"text": "a"}])),
    (CHAT, chat([TEXT]), chat([TEXT | CACHED])),
    (CHAT, chat(), chat(name=None, tool_calls=None, refusal=None) | {"tools": None}),
    (CHAT, chat(None), chat([])),
    (CHAT, chat(), chat() | {"temperature": 0.3, "seed": 1, "stop": ["x"], "unheard_of": {}}),
    (CHAT, chat(), chat() | {"stream": True, "max_tokens": 3, "n": 2, "priority": 5}),
    (CHAT, chat() | {"tools": [TOOL]}, chat() | {"tools": [TOOL], "tool_choice": "required"}),
    (CHAT, chat(), chat() | {"cache_salt": None}),
    (RESPONSES, {"input": PAD}, {"input": [{"role": "user", "content": PAD}]}),
    (
        RESPONSES,
        items({"role": "user", "content": "a"}),
        items(
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "a"}],
            }
        ),
    ),
    (MESSAGES, claude(TEXT), claude(TEXT | CACHED)),
    (MESSAGES, claude(TEXT, system="s"), claude(TEXT, system=[{"type": "text", "text": "s"}])),
    (
        MESSAGES,
        claude(RESULT | {"content": "a"}),
        claude(RESULT | {"content": [TEXT | CACHED]} | CACHED),
    ),
    (
        MESSAGES,
        claude(TEXT, system=[{"type": "text", "text": "x-anthropic-billing-header: cch=1"}, TEXT]),
        claude(TEXT, system=[{"type": "text", "text": "x-anthropic-billing-header: cch=2"}, TEXT]),
    ),
]


@pytest.mark.parametrize(("operation", "one", "other"), SAME)
def test_does_not_change_the_prompt(
    operation: Operation, one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert chain(operation, one)
    assert chain(operation, one) == chain(operation, other)


@pytest.mark.parametrize(
    "flag", [{"add_generation_prompt": False}, {"continue_final_message": True}]
)
def test_what_matters_at_the_end_leaves_the_beginning_alone(flag: dict[str, Any]) -> None:
    plain = chain(CHAT, chat())
    assert chain(CHAT, chat() | flag)[: len(plain)] == plain


def test_one_conversation_is_one_prompt_in_every_family() -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": PAD}]
    in_chat = chain(CHAT, {"messages": messages})
    assert in_chat == chain(MESSAGES, {"system": "s", "messages": messages[1:]})
    assert in_chat == chain(RESPONSES, {"instructions": "s", "input": PAD})


def test_a_prompt_of_text_is_no_conversation() -> None:
    text = "\xffmuser\xfft" + PAD
    assert chain(COMPLETIONS, {"prompt": text})[0] != chain(CHAT, chat(text))[0]
