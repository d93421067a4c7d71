"""Tokenizer folders: what is taken from them, and errors that name the file."""

import json
from pathlib import Path

import pytest

from gateway.tokenizing import files
from gateway.tokenizing.files import TokenizerError
from gateway.tokenizing.local import LocalTokenizer
from tests.support.trained_tokenizers import END, saved, trained


def test_a_folder_or_the_file_in_it(tmp_path: Path) -> None:
    folder = saved(tmp_path, trained(), template="T")
    assert files.load(folder).templates == files.load(folder / "tokenizer.json").templates
    assert files.load(folder).special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}


def test_a_template_file_comes_before_the_configuration(tmp_path: Path) -> None:
    folder = saved(tmp_path, trained(), template="old")
    (folder / "chat_template.jinja").write_text("new é", encoding="utf-8")
    more = folder / "additional_chat_templates"
    more.mkdir()
    (more / "tool_use.jinja").write_text("tools")
    assert files.load(folder).templates == {"default": "new é", "tool_use": "tools"}


def test_templates_may_have_names(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    folder = saved(tmp_path, trained(), template=None, chat_template=named)
    assert files.load(folder).templates == {"default": "a", "tool_use": "b"}


def test_older_folders_have_a_map_of_special_tokens(tmp_path: Path) -> None:
    folder = saved(tmp_path, trained())
    (folder / "special_tokens_map.json").write_text(json.dumps({"bos_token": {"content": END}}))
    assert files.load(folder).special_tokens["bos_token"] == END


def test_tokens_that_only_the_configuration_knows_are_added(tmp_path: Path) -> None:
    listed = {"900": {"content": "<a>", "special": True, "normalized": False}}
    folder = saved(
        tmp_path,
        trained(),
        pad_token="<pad>",
        added_tokens_decoder=listed,
        extra_special_tokens={"image_token": "<image>"},
    )
    found = files.load(folder)
    assert found.special_tokens["image_token"] == "<image>"
    for token in ("<a>", "<pad>", "<image>"):
        assert found.tokenizer.encode(f"x{token}").tokens[-1] == token


def test_truncation_and_padding_of_training_are_off(tmp_path: Path) -> None:
    tokenizer = trained()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50)
    found = files.load(saved(tmp_path, tokenizer)).tokenizer
    assert found.encode("a b c d e f").ids == trained().encode("a b c d e f").ids


def test_chats_of_models_that_use_no_template_are_left_to_the_engine(tmp_path: Path) -> None:
    folder = saved(tmp_path, trained())
    (folder / "config.json").write_text('{"model_type": "gpt_oss"}')
    assert files.load(folder).templates == {}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b'{"model": 1}'),
        ("tokenizer_config.json", b"{"),
        ("tokenizer_config.json", b"[1]"),
        ("tokenizer_config.json", b"\xff"),
        ("tokenizer_config.json", b'{"chat_template": 1}'),
        ("tokenizer_config.json", b'{"chat_template": [1]}'),
        ("tokenizer_config.json", b'{"added_tokens_decoder": [1]}'),
        ("tokenizer_config.json", b'{"added_tokens_decoder": {"x": {"content": "a"}}}'),
        ("tokenizer_config.json", b'{"added_tokens_decoder": {"1": {"wrong": "a"}}}'),
        ("special_tokens_map.json", b"1"),
        ("config.json", b"[]"),
        ("chat_template.jinja", b"\xff\xfe"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    folder = saved(tmp_path, trained())
    (folder / name).write_bytes(content)
    with pytest.raises(TokenizerError, match=name.replace(".", r"\.")):
        files.load(folder)


def test_a_missing_tokenizer_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="name a folder"):
        files.load(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(TokenizerError, match="converted"):
        files.load(tmp_path)


def test_a_wrong_template_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="chat template"):
        LocalTokenizer(saved(tmp_path / "here", trained(), template="{% if %}"))
