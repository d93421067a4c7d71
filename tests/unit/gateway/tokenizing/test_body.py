"""What a body says of its prompt's ids, and what is never guessed."""

import json

import pytest

from gateway.tokenizing.body import Chat, Text, UntokenizableError, read

MESSAGES = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "f"}}


def read_json(**body: object) -> Text | Chat:
    return read(json.dumps(body).encode())


def test_a_completion_gets_special_tokens_unless_it_says_otherwise() -> None:
    assert read_json(prompt="a") == Text("a", special_tokens=True)
    assert read_json(prompt=["a"]) == Text("a", special_tokens=True)
    assert read_json(prompt="a", add_special_tokens=False) == Text("a", special_tokens=False)


def test_a_chat_gets_none_unless_it_says_otherwise() -> None:
    assert not read_json(messages=MESSAGES).special_tokens
    assert read_json(messages=MESSAGES, add_special_tokens=True).special_tokens


def test_an_effort_at_reasoning_switches_thinking() -> None:
    chat = read_json(messages=MESSAGES, reasoning_effort="none")
    assert isinstance(chat, Chat)
    assert chat.arguments == {"enable_thinking": False, "reasoning_effort": "none"}
    kept = read_json(
        messages=MESSAGES, reasoning_effort="low", chat_template_kwargs={"enable_thinking": False}
    )
    assert isinstance(kept, Chat)
    assert kept.arguments == {"enable_thinking": False, "reasoning_effort": "low"}


def test_numbers_stay_as_the_standard_library_reads_them() -> None:
    chat = read(b'{"messages":[{}],"tools":[{"a":1.0,"b":1e3,"c":123456789012345678901234567890}]}')
    assert isinstance(chat, Chat)
    assert (
        json.dumps(chat.tools) == '[{"a": 1.0, "b": 1000.0, "c": 123456789012345678901234567890}]'
    )


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({}, "neither"),
        ({"prompt": "a", "messages": MESSAGES}, "neither"),
        ({"prompt": [1, 2]}, "not one text"),
        ({"prompt": ["a", "b"]}, "not one text"),
        ({"prompt": "a", "prompt_embeds": "x"}, "not one text"),
        ({"prompt": "a", "suffix": "b"}, "not one text"),
        ({"prompt": "a", "truncate_prompt_tokens": 5}, "truncated"),
        ({"messages": []}, "without messages"),
        ({"messages": MESSAGES, "chat_template": "{{ 1 }}"}, "client's own"),
        ({"messages": MESSAGES, "continue_final_message": True}, "both to continue"),
        ({"messages": MESSAGES, "tools": [TOOL], "tool_choice": "none"}, "may not be used"),
        ({"messages": MESSAGES, "tools": []}, "unexpected types"),
        ({"messages": MESSAGES, "tools": {}}, "unexpected types"),
        ({"messages": MESSAGES, "chat_template_kwargs": []}, "unexpected types"),
        ({"messages": MESSAGES, "chat_template_kwargs": {"messages": []}}, "no variables"),
        ({"messages": MESSAGES, "chat_template_kwargs": {"tokenize": True}}, "no variables"),
        ({"messages": "hello"}, "unexpected types"),
        ({"messages": MESSAGES, "documents": ["a"]}, "unexpected types"),
    ],
)
def test_what_cannot_be_known_is_not_guessed(body: dict[str, object], why: str) -> None:
    with pytest.raises(UntokenizableError, match=why):
        read_json(**body)


@pytest.mark.parametrize("body", [b"", b"[", b"\xff", b'{"prompt":"\xff"}', b"[" * 100_000])
def test_what_is_no_json_is_untokenizable(body: bytes) -> None:
    with pytest.raises(UntokenizableError):
        read(body)


def test_a_nesting_too_deep_is_untokenizable() -> None:
    deep = b'{"messages":[{}],"tools":' + b"[" * 900 + b"]" * 900 + b"}"
    try:
        read(deep)
    except UntokenizableError as error:
        assert "nested" in str(error)
