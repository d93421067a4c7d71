"""A model's own tokenizer, from its files.

Special tokens end the text before them: no token reaches across. So a prompt is cut there and
each piece is looked up by its text, and a conversation that grows by a turn is tokenized from
where it was left. Whether the pieces of a tokenizer add up to the whole is tried when it is
loaded; where they don't, prompts are tokenized whole.
"""

import json
import re
from array import array
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from tokenizers import Tokenizer

from gateway.tokenizing.body import TokenizableBody, UntokenizableError
from gateway.tokenizing.template import ChatTemplate

_CACHE_BYTES = 64 << 20
_ENTRY_BYTES = 200  # of a piece besides its text and ids
_TRIAL = ("Hello, world!", " a\n\nb  c", "\n", "user\nWhat is 1+1? é漢", "x")


class TokenizerError(ValueError):
    """A tokenizer that can't be loaded; the message names the file and what is wrong."""


class LocalTokenizer:
    """``path``: a folder with ``tokenizer.json``, or that file itself."""

    def __init__(self, path: Path, cache_bytes: int = _CACHE_BYTES) -> None:
        file = path / "tokenizer.json" if path.is_dir() else path
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises a bare Exception
            raise TokenizerError(f"{file}: {error}") from error
        self._template = _template(file.parent)
        special = sorted(
            (one.content for one in self._tokenizer.get_added_tokens_decoder().values()),
            key=len,
            reverse=True,
        )
        self._cut = re.compile("(" + "|".join(map(re.escape, special)) + ")") if special else None
        self._pieces: OrderedDict[str, array[int]] = OrderedDict()  # least recently used first
        self._room = cache_bytes
        self._lock = Lock()
        if self._cut is not None and not self._adds_up(special[0]):
            self._cut = None

    def ids(self, request: TokenizableBody) -> "array[int]":
        """The prompt's token ids. Raises `UntokenizableError`. May be called from any thread."""
        if request.prompt is not None:
            added = True if request.add_special_tokens is None else request.add_special_tokens
            found = self._tokenizer.encode(request.prompt, add_special_tokens=added)
            return array("I", found.ids)
        if self._template is None:
            raise UntokenizableError("the tokenizer has no chat template")
        text = self._template.render(request)
        if request.add_special_tokens:
            return array("I", self._tokenizer.encode(text).ids)
        return self.of_text(text)

    def of_text(self, text: str) -> "array[int]":
        """The ids of a rendered prompt, to which no special tokens are added."""
        if self._cut is None:
            return self._encode(text)
        ids = array("I")
        for piece in self._cut.split(text):
            if piece:
                ids += self._piece(piece)
        return ids

    def _encode(self, text: str) -> "array[int]":
        return array("I", self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _piece(self, text: str) -> "array[int]":
        with self._lock:
            known = self._pieces.get(text)
            if known is not None:
                self._pieces.move_to_end(text)
                return known
        ids = self._encode(text)
        with self._lock:
            if text not in self._pieces:
                self._pieces[text] = ids
                self._room -= _weight(text, ids)
                while self._room < 0:
                    self._room += _weight(*self._pieces.popitem(last=False))
        return ids

    def _adds_up(self, special: str) -> bool:
        trial = special.join(_TRIAL) + special
        return self.of_text(trial) == self._encode(trial)


def _weight(text: str, ids: "array[int]") -> int:
    return _ENTRY_BYTES + 4 * len(text) + 4 * len(ids)


def _template(folder: Path) -> ChatTemplate | None:
    """The folder's chat template; None when it has none. Raises `TokenizerError`."""
    config: dict[str, object] = {}
    file = folder / "tokenizer_config.json"
    if file.exists():
        try:
            config = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise TokenizerError(f"{file}: {error}") from error
    own = folder / "chat_template.jinja"
    source = own.read_text() if own.exists() else config.get("chat_template")
    if isinstance(source, list):  # several, by name
        source = next((one.get("template") for one in source if one.get("name") == "default"), None)
    if not isinstance(source, str):
        return None
    try:
        return ChatTemplate(source, _special_tokens(config))
    except ValueError as error:
        raise TokenizerError(f"{folder}: {error}") from error


def _special_tokens(config: dict[str, object]) -> dict[str, str]:
    named = {}
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        token = config.get(name)
        content = token.get("content") if isinstance(token, dict) else token
        if isinstance(content, str):
            named[name] = content
    return named
