"""Properties of reading bodies: what a prompt's canonical bytes promise, and that nothing escapes.

The canonical bytes promise two things: two different prompts never give equal bytes, and the
earlier turns of a conversation are a prefix of the later ones.
"""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from gateway.apis.anthropic import messages_prompt
from gateway.apis.bodies import ChatBody, MessagesBody, ResponsesBody
from gateway.apis.call import ApiError, Call
from gateway.apis.catalogue import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MESSAGES,
    PASSTHROUGH,
    RESPONSES,
    Operation,
)
from gateway.apis.chat import chat_prompt
from gateway.apis.prompt import MEDIA_TOKENS, Prompt, Tag
from gateway.apis.responses import response_prompt
from gateway.apis.usage import is_stream_error, usage_in

TEXT_TAGS = (Tag.MESSAGE, Tag.NAME, Tag.TEXT)
RAW_TAGS = (Tag.TOOLS, Tag.OTHER)
MARKS = (Tag.CONTINUE, Tag.TOOL_RESULT_END)

# Few different characters, among them those that the format itself uses, so that prompts that
# differ little are common; and any text at all.
texts = st.text("aeÿ\x00\x08\xff") | st.text()
raws = st.binary(min_size=1, max_size=20).filter(lambda raw: raw != b"null")

fields = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(TEXT_TAGS), texts),
        st.tuples(st.sampled_from(RAW_TAGS), raws),
        st.tuples(st.sampled_from(MARKS), st.none()),
    )
)


def written(fields: list[tuple[bytes, str | bytes | None]]) -> bytes:
    prompt = Prompt()
    for tag, value in fields:
        if value is None:
            prompt.mark(tag)
        elif isinstance(value, str):
            prompt.text(tag, value)
        else:
            prompt.raw(tag, Raw(value))
    return prompt.canonical()


def read_back(canonical: bytes) -> list[tuple[bytes, str | bytes | None]]:
    """Read the fields of a prompt back: possible only if no two prompts give equal bytes."""
    found: list[tuple[bytes, str | bytes | None]] = []
    at = 0
    while at < len(canonical):
        tag, at = canonical[at : at + 2], at + 2
        if tag in MARKS:
            found.append((tag, None))
        elif tag in RAW_TAGS:
            size = int.from_bytes(canonical[at : at + 8], "little")
            found.append((tag, canonical[at + 8 : at + 8 + size]))
            at += 8 + size
        else:
            end = canonical.find(b"\xff", at)
            end = len(canonical) if end < 0 else end
            found.append((tag, canonical[at:end].decode()))
            at = end
    return found


@given(fields)
def test_a_prompt_can_be_read_back(fields: list[tuple[bytes, str | bytes | None]]) -> None:
    assert read_back(written(fields)) == fields


def test_tags_are_distinct() -> None:
    tags = [value for name, value in vars(Tag).items() if name.isupper()]
    assert len(tags) == len(set(tags)) > 20
    assert all(len(tag) == 2 and tag[0] == 0xFF and tag[1] < 0x80 for tag in tags)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
short = st.text("ab", max_size=2)
text_parts = short.map(lambda text: {"type": "text", "text": text})
other_parts = st.builds(lambda value: {"type": "new", "value": value}, json_values)
media_parts = short.map(lambda url: {"type": "image_url", "image_url": {"url": url}})
contents = short | st.lists(text_parts | other_parts | media_parts, max_size=3)
chat_messages = st.fixed_dictionaries(
    {"role": short, "content": contents},
    optional={
        "name": short,
        "tool_call_id": short,
        "reasoning_content": short,
        "refusal": short,
        "tool_calls": st.lists(json_values, max_size=2),
    },
)
chats = st.lists(chat_messages, max_size=3)


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def chat_bytes(messages: list[dict[str, Any]]) -> bytes:
    body = encoded({"model": "m", "messages": messages})
    return chat_prompt(msgspec.json.decode(body, type=ChatBody)).canonical()


def claude_bytes(messages: list[dict[str, Any]]) -> bytes:
    body = encoded({"model": "m", "messages": messages})
    return messages_prompt(msgspec.json.decode(body, type=MessagesBody)).canonical()


def response_bytes(items: list[dict[str, Any]]) -> bytes:
    body = encoded({"model": "m", "input": items})
    return response_prompt(msgspec.json.decode(body, type=ResponsesBody)).canonical()


def meaning(messages: list[dict[str, Any]]) -> bytes:
    """Spell out a chat so that equal meaning is equal: text is a part, absent order is fixed."""
    plain = []
    for message in messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        plain.append(message | {"content": parts})
    return json.dumps(plain, sort_keys=True).encode()


@given(chats, chats)
def test_different_chats_give_different_bytes(
    one: list[dict[str, Any]], other: list[dict[str, Any]]
) -> None:
    assert (chat_bytes(one) == chat_bytes(other)) == (meaning(one) == meaning(other))


@given(chats, st.data())
def test_moving_one_piece_gives_different_bytes(
    messages: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Cut one message in two at any field: the smallest change that separators must show."""
    with_parts = [i for i, m in enumerate(messages) if isinstance(m["content"], list)]
    if not with_parts:
        return
    index = data.draw(st.sampled_from(with_parts))
    message = messages[index]
    cut = data.draw(st.integers(0, len(message["content"])))
    head, tail = message["content"][:cut], message["content"][cut:]
    halves = [message | {"content": head}, {"role": message["role"], "content": tail}]
    assert chat_bytes(messages) != chat_bytes([*messages[:index], *halves, *messages[index + 1 :]])


@given(chats, chats)
def test_earlier_turns_of_a_chat_are_a_prefix(
    earlier: list[dict[str, Any]], later: list[dict[str, Any]]
) -> None:
    assert chat_bytes(earlier + later).startswith(chat_bytes(earlier))


result_contents = short | st.lists(text_parts | other_parts, max_size=2)
claude_blocks = st.one_of(
    text_parts,
    other_parts,
    st.builds(lambda a, b: {"type": "tool_use", "id": a, "name": b, "input": {}}, short, short),
    st.builds(
        lambda a, b: {"type": "tool_result", "tool_use_id": a, "content": b}, short, result_contents
    ),
)
claude_messages = st.fixed_dictionaries(
    {"role": short, "content": short | st.lists(claude_blocks, max_size=3)}
)
claude_chats = st.lists(claude_messages, max_size=3)


def claude_meaning(messages: list[dict[str, Any]]) -> bytes:
    plain = []
    for message in messages:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        blocks = [
            block | {"content": [{"type": "text", "text": block["content"]}]}
            if isinstance(block.get("content"), str)
            else block
            for block in blocks
        ]
        plain.append(message | {"content": blocks})
    return json.dumps(plain, sort_keys=True).encode()


@given(claude_chats, claude_chats)
def test_anthropic_conversations(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    equal = claude_meaning(one) == claude_meaning(other)
    assert (claude_bytes(one) == claude_bytes(other)) == equal
    assert claude_bytes(one + other).startswith(claude_bytes(one))


items = st.lists(
    st.one_of(
        st.fixed_dictionaries({"role": short, "content": contents}),
        st.builds(lambda value: {"type": "function_call", "call_id": value}, short),
        st.builds(
            lambda a, b: {"type": "function_call_output", "call_id": a, "output": b},
            short,
            contents,
        ),
    ),
    max_size=3,
)


def response_meaning(items: list[dict[str, Any]]) -> bytes:
    plain = []
    for item in items:
        key = "output" if "output" in item else "content"
        content = item.get(key)
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        plain.append(item | {key: parts})
    return json.dumps(plain, sort_keys=True).encode()


@given(items, items)
def test_responses_conversations(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    equal = response_meaning(one) == response_meaning(other)
    assert (response_bytes(one) == response_bytes(other)) == equal
    assert response_bytes(one + other).startswith(response_bytes(one))


@given(st.text(max_size=700), st.text(max_size=700))
def test_a_text_that_goes_on_keeps_its_beginning(text: str, more: str) -> None:
    def message(text: str) -> list[dict[str, Any]]:
        return [{"role": "user", "content": text}]

    assert chat_bytes(message(text + more)).startswith(chat_bytes(message(text)))
    chains = [
        COMPLETIONS.read(encoded({"model": "m", "prompt": prompt})).chains[0]
        for prompt in (text, text + more)
    ]
    assert chains[1][: len(chains[0])] == chains[0]


@given(chats, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_space_and_order_of_json_change_nothing(
    messages: list[dict[str, Any]], ascii_only: bool, indent: int | str | None
) -> None:
    """Strings are compared as they are written, so both bodies write them in the same way."""
    plain = [{"content": str(m["content"]), "role": m["role"]} for m in messages]
    body = {"messages": plain, "model": "m"}
    one = json.dumps(body, ensure_ascii=ascii_only, indent=indent, sort_keys=True)
    other = json.dumps(dict(reversed(body.items())), ensure_ascii=ascii_only)
    assert CHAT.read(one.encode()) == CHAT.read(other.encode())


@given(st.binary(min_size=1, max_size=50))
def test_media_fill_their_nominal_tokens(data: bytes) -> None:
    prompt = Prompt()
    prompt.media(Raw(data))
    assert len(prompt.canonical()) == 2 + MEDIA_TOKENS * 4


ALL = (CHAT, COMPLETIONS, RESPONSES, MESSAGES, EMBEDDINGS, PASSTHROUGH)

keys = st.sampled_from(
    [
        *("content", "id", "input", "input_audio", "max_tokens", "messages", "model", "output"),
        *("priority", "prompt", "prompt_embeds", "role", "source", "stream", "system", "text"),
        *("tool_calls", "tool_choice", "tool_use_id", "tools", "type", "usage"),
    ]
)
kinds = st.sampled_from(
    ["text", "image_url", "tool_result", "tool_use", "message", "function_call_output", "none"]
)
wild_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | kinds | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=25,
)
wild_bodies = st.dictionaries(keys, wild_values).map(lambda body: encoded({"model": "m"} | body))


@pytest.mark.parametrize("operation", ALL)
@given(body=wild_bodies | st.binary() | st.binary().map(lambda tail: b'{"model":' + tail))
def test_any_body_is_read_or_refused(operation: Operation, body: bytes) -> None:
    try:
        call = operation.read(body)
    except ApiError as error:
        assert error.status == 400
        assert error.message
        assert json.loads(operation.error_body(error))["error"]["message"] == error.message
    else:
        assert isinstance(call, Call)
        assert call.prompt_tokens >= 0


@given(st.binary())
def test_any_form_is_read(tail: bytes) -> None:
    PASSTHROUGH.read(b"--b\r\n" + tail)
    disposition = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b'
    assert PASSTHROUGH.read(disposition + tail).model == "m"


@given(st.binary())
def test_any_tail_is_read(tail: bytes) -> None:
    usage_in(tail)
    usage_in(b'"usage":' + tail)
    usage_in(b'"usage":{"prompt_tokens":' + tail)
    is_stream_error(tail)


counts = st.none() | st.integers(0, 1 << 40)


@given(st.text(), json_values, counts, counts, st.booleans())
def test_usage_is_found_behind_any_text(
    text: str, nested: Any, prompt: int | None, completion: int | None, streamed: bool
) -> None:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    fake = '"usage": {"prompt_tokens": 77}'
    response = {"choices": [{"text": text + fake + json.dumps({"usage": nested})}], "usage": usage}
    body = encoded(response)
    found = usage_in(b"data: " + body + b"\n\ndata: [DONE]\n\n" if streamed else body)
    if prompt is None and completion is None:
        assert found is None
    else:
        assert found is not None
        assert (found.prompt_tokens, found.completion_tokens) == (prompt, completion)
