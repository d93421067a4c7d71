"""What a tokenizer's folder holds, loaded as Hugging Face's transformers loads it.

``tokenizer.json`` is required. Beside it, each optional: ``tokenizer_config.json`` (special
tokens, template), ``special_tokens_map.json`` (older folders),
``chat_template.jinja`` and ``additional_chat_templates/NAME.jinja``, ``config.json`` (only to
know models whose chats are not rendered by a template). Nothing is ever downloaded.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Tokenizer

_NAMES = tuple(f"{kind}_token" for kind in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
# vLLM writes these models' chats by code of its own.
_NOT_BY_TEMPLATE = frozenset({"gpt_oss", "deepseek_v32", "deepseek_v4"})


class TokenizerError(ValueError):
    """A tokenizer that can't be loaded; the message names the file and what is wrong."""


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """A folder's contents; ``path`` may be the folder, or the ``tokenizer.json`` in it."""

    path: Path
    tokenizer: Tokenizer
    templates: dict[str, str]
    """By name; the one without a name is ``default``."""
    special_tokens: dict[str, str]
    splits_special_tokens: bool


def load(path: Path) -> TokenizerFiles:
    """Load what is at ``path``. Raises `TokenizerError`."""
    file = path / "tokenizer.json" if path.is_dir() else path
    folder = file.parent
    if not file.exists():
        hint = (
            " (a tokenizer.model must be converted first)" * (folder / "tokenizer.model").exists()
        )
        raise TokenizerError(f"{file} does not exist: name a folder with a tokenizer.json{hint}")
    config = _object(folder / "tokenizer_config.json")
    if "added_tokens_decoder" not in config:
        config |= _object(folder / "special_tokens_map.json")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises a bare Exception
        raise TokenizerError(f"{file} is no tokenizer: {error}") from error
    # Both are for training; an engine cuts and pads as requests say.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    named = {name: text for name in _NAMES if (text := _content(config.get(name))) is not None}
    extra = _extra(config)
    if isinstance(extra, dict):
        named |= {name: text for name, token in extra.items() if (text := _content(token))}
        extra = []
    _add_missing(tokenizer, config, [*named.values(), *extra], folder)
    splits = config.get("split_special_tokens") is True
    tokenizer.encode_special_tokens = splits
    return TokenizerFiles(
        path=folder,
        tokenizer=tokenizer,
        templates=_templates(folder, config),
        special_tokens=named,
        splits_special_tokens=splits,
    )


def _add_missing(
    tokenizer: Tokenizer, config: dict[str, object], special: list[str], folder: Path
) -> None:
    """Add tokens that only the configuration knows."""
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    listed = config.get("added_tokens_decoder") or {}
    try:
        assert isinstance(listed, dict)
        for _, fields in sorted(listed.items(), key=lambda item: int(item[0])):
            if fields["content"] not in known:
                tokenizer.add_tokens([AddedToken(**fields)])
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        where = folder / "tokenizer_config.json"
        raise TokenizerError(f"{where}: `added_tokens_decoder` is wrong: {error}") from error
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    for content in special:
        if content not in known:
            tokenizer.add_special_tokens([AddedToken(content, special=True, normalized=False)])


def _extra(config: dict[str, object]) -> dict[str, object] | list[str]:
    """Special tokens besides the usual ones: with names of the model's own, or without."""
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens")
    if isinstance(extra, dict):
        return extra
    listed = extra if isinstance(extra, list) else []
    return [text for token in listed if (text := _content(token))]


def _templates(folder: Path, config: dict[str, object]) -> dict[str, str]:
    """The folder's templates by name; files come before the configuration's."""
    if _object(folder / "config.json").get("model_type") in _NOT_BY_TEMPLATE:
        return {}
    found = {}
    default = folder / "chat_template.jinja"
    if default.exists():
        found["default"] = _text(default)
    for more in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        found[more.stem] = _text(more)
    if found:
        return found
    own = config.get("chat_template")
    if own is None:
        return {}
    if isinstance(own, str):
        return {"default": own}
    try:
        assert isinstance(own, list)
        return {str(one["name"]): str(one["template"]) for one in own}
    except (AssertionError, KeyError, TypeError) as error:
        where = folder / "tokenizer_config.json"
        raise TokenizerError(
            f"{where}: `chat_template` must be a text, or a list of names and templates"
        ) from error


def _content(token: object) -> str | None:
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _object(file: Path) -> dict[str, object]:
    """A JSON object; empty when there is no such file."""
    if not file.exists():
        return {}
    try:
        found = json.loads(_text(file))
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{file} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise TokenizerError(f"{file} must hold a JSON object")
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{file} can't be read: {error}") from error
