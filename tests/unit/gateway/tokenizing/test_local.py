import contextlib
import json
from array import array
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from gateway.tokenizing.body import UntokenizableError, read
from gateway.tokenizing.local import LocalTokenizer, TokenizerError

SPECIAL = ["<|start|>", "<|end|>"]
TEMPLATE = (
    "{% for message in messages %}"
    "<|start|>{{ message.role }}\n{{ message.content }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
CORPUS = ["the quick brown fox", "jumps over the lazy dog", "user", "assistant\n", "a b c  d"] * 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small byte-level BPE tokenizer with a chat template."""
    path = tmp_path_factory.mktemp("tokenizer")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> LocalTokenizer:
    return LocalTokenizer(folder)


def ids(tokenizer: LocalTokenizer, **body: object) -> "array[int]":
    return tokenizer.ids(read(msgspec.json.encode(body)))


def test_a_chat_is_rendered_and_tokenized_whole(folder: Path, tokenizer: LocalTokenizer) -> None:
    messages = [{"role": "user", "content": "the lazy fox"}]
    text = "<|start|>user\nthe lazy fox<|end|><|start|>assistant\n"
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert list(ids(tokenizer, messages=messages)) == plain.encode(text).ids


def test_a_completion_is_its_text(folder: Path, tokenizer: LocalTokenizer) -> None:
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert list(ids(tokenizer, prompt="over the dog")) == plain.encode("over the dog").ids


@given(texts=st.lists(st.text(max_size=40), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_pieces_add_up_to_the_whole(tokenizer: LocalTokenizer, texts: list[str]) -> None:
    text = "".join(f"<|start|>user\n{one}<|end|>" for one in texts)
    assert tokenizer.of_text(text) == tokenizer._encode(text)


def test_parts_of_text_are_joined(tokenizer: LocalTokenizer) -> None:
    parts = [{"type": "text", "text": "the"}, {"type": "text", "text": "fox"}]
    joined = ids(tokenizer, messages=[{"role": "user", "content": "the\nfox"}])
    assert ids(tokenizer, messages=[{"role": "user", "content": parts}]) == joined


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        {"messages": [{"role": "user", "content": "x"}], "chat_template": "{{ 1 }}"},
        {"messages": [{"role": "user", "content": "x"}], "continue_final_message": True},
        {"prompt": [1, 2, 3]},
        {},
    ],
)
def test_what_cannot_be_known_is_not_guessed(tokenizer: LocalTokenizer, body: object) -> None:
    with pytest.raises(UntokenizableError):
        tokenizer.ids(read(msgspec.json.encode(body)))


@given(body=st.binary(max_size=200))
def test_no_body_is_more_than_untokenizable(tokenizer: LocalTokenizer, body: bytes) -> None:
    with contextlib.suppress(UntokenizableError):
        tokenizer.ids(read(body))


def test_a_template_can_not_get_out_of_its_sandbox(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    (tmp_path / "chat_template.jinja").write_text("{{ messages.__class__.__mro__ }}")
    with pytest.raises(UntokenizableError, match="refuses"):
        ids(LocalTokenizer(tmp_path), messages=[{"role": "user", "content": "x"}])


def test_the_cache_of_pieces_is_bounded(folder: Path) -> None:
    small = LocalTokenizer(folder, cache_bytes=10_000)
    for number in range(500):
        small.of_text(f"<|start|>message {number}<|end|>")
    assert len(small._pieces) < 60


@pytest.mark.parametrize("content", ["", "{", '{"model": 1}'])
def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        LocalTokenizer(tmp_path)


def test_a_missing_template_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    with pytest.raises(UntokenizableError, match="no chat template"):
        ids(LocalTokenizer(tmp_path), messages=[{"role": "user", "content": "x"}])
