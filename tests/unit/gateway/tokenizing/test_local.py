"""A model's own tokenizer: the ids that the plain library gives for the rendered text."""

import json
from pathlib import Path

import pytest

from gateway.tokenizing.body import Chat, Text, UntokenizableError, read
from gateway.tokenizing.local import LocalTokenizer
from tests.support.trained_tokenizers import saved, trained

MESSAGES = [{"role": "user", "content": "the lazy fox"}]


def request(**body: object) -> Text | Chat:
    return read(json.dumps(body).encode())


def test_a_chat_is_its_rendered_text(tmp_path: Path) -> None:
    plain = trained(begins=True)
    tokenizer = LocalTokenizer(saved(tmp_path, plain))
    text = "<|im_start|>user\nthe lazy fox<|im_end|>\n<|im_start|>assistant\n"
    bare = plain.encode(text, add_special_tokens=False).ids
    assert list(tokenizer.ids(request(messages=MESSAGES))) == bare
    begun = tokenizer.ids(request(messages=MESSAGES, add_special_tokens=True))
    assert list(begun) == plain.encode(text).ids == [0, *bare]


def test_a_completion_is_its_text(tmp_path: Path) -> None:
    plain = trained(begins=True)
    tokenizer = LocalTokenizer(saved(tmp_path, plain))
    assert list(tokenizer.ids(request(prompt="over the dog"))) == plain.encode("over the dog").ids
    bare = tokenizer.ids(request(prompt="over the dog", add_special_tokens=False))
    assert list(bare) == plain.encode("over the dog", add_special_tokens=False).ids
    assert list(tokenizer.ids(request(prompt=""))) == [0]


def test_a_growing_conversation_is_tokenized_from_where_it_was_left(tmp_path: Path) -> None:
    tokenizer = LocalTokenizer(saved(tmp_path, trained()))
    messages = [{"role": "user", "content": "the quick brown fox " * 20} for _ in range(10)]
    tokenizer.ids(request(messages=messages))
    messages.append({"role": "assistant", "content": "jumps"})
    prepared = tokenizer.prepare(request(messages=messages))
    assert prepared.lookup.unknown < 600
    assert tokenizer.complete(prepared) == tokenizer._encode("".join(prepared.lookup.pieces))


def test_special_tokens_that_are_split_are_never_cut_at(tmp_path: Path) -> None:
    tokenizer = LocalTokenizer(saved(tmp_path, trained(), split_special_tokens=True))
    assert not tokenizer.pieces.cuts
    ids = tokenizer.of_text("<|im_end|>" * 30)
    assert trained().token_to_id("<|im_end|>") not in ids


def test_a_template_of_its_own_for_tools(tmp_path: Path) -> None:
    named = [
        {"name": "default", "template": "plain"},
        {"name": "tool_use", "template": "{{ tools[0].function.name }}"},
    ]
    tokenizer = LocalTokenizer(saved(tmp_path, trained(), None, chat_template=named))
    tools = [{"type": "function", "function": {"name": "fox"}}]
    assert tokenizer.ids(request(messages=MESSAGES)) == tokenizer.of_text("plain")
    assert tokenizer.ids(request(messages=MESSAGES, tools=tools)) == tokenizer.of_text("fox")


def test_a_missing_template_is_said(tmp_path: Path) -> None:
    tokenizer = LocalTokenizer(saved(tmp_path, trained(), template=None))
    with pytest.raises(UntokenizableError, match="no chat template"):
        tokenizer.ids(request(messages=MESSAGES))
    assert tokenizer.ids(request(prompt="the"))


def test_a_text_that_is_no_unicode_is_untokenizable(tmp_path: Path) -> None:
    tokenizer = LocalTokenizer(saved(tmp_path, trained()))
    with pytest.raises(UntokenizableError):
        tokenizer.ids(Text("\ud800"))
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '"\\ud800"'}}
    source = "{{ messages[0].tool_calls[0].function.arguments }}"
    other = LocalTokenizer(saved(tmp_path / "calls", trained(), template=source))
    with pytest.raises(UntokenizableError, match="Unicode"):
        other.ids(request(messages=[{"role": "assistant", "tool_calls": [call]}]))
