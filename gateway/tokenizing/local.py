"""A model's own tokenizer, from its files: a request's prompt in, token ids out."""

import os
from array import array
from dataclasses import dataclass
from pathlib import Path

from gateway.tokenizing import files
from gateway.tokenizing.body import Chat, Text, UntokenizableError
from gateway.tokenizing.files import TokenizerError
from gateway.tokenizing.pieces import Lookup, Pieces, TokenIds, cutting_tokens
from gateway.tokenizing.template import ChatTemplate

__all__ = ["LocalTokenizer", "Prepared", "TokenizerError"]

CACHE_BYTES = 64 << 20
"""What a tokenizer may keep of the pieces it has seen."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prompt as text that was looked up; what is left is to tokenize ``lookup.unknown``."""

    lookup: Lookup
    special_tokens: bool


class LocalTokenizer:
    """``path``: a folder with ``tokenizer.json``, or that file itself.

    Raises `TokenizerError`. All methods may be called from any thread.
    """

    def __init__(self, path: Path, cache_bytes: int = CACHE_BYTES) -> None:
        # One thread a prompt: the other cores are the event loops'. Operators may say otherwise.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        found = files.load(path)
        self._tokenizer = found.tokenizer
        try:
            self._templates = {
                name: ChatTemplate(source, found.special_tokens)
                for name, source in found.templates.items()
            }
        except ValueError as error:
            raise TokenizerError(f"{found.path}: {error}") from error
        seen = "\n".join([*found.templates.values(), *found.special_tokens.values()])
        added = self._tokenizer.get_added_tokens_decoder().values()
        cut_at = [] if found.splits_special_tokens else cutting_tokens(added, seen)
        try:
            self.pieces = Pieces(self._encode, cut_at, cache_bytes)
        except UntokenizableError as error:
            raise TokenizerError(f"{found.path}: {error}") from error
        self._before, self._after = _around(found)

    def ids(self, request: Text | Chat) -> TokenIds:
        """The prompt's token ids. Raises `UntokenizableError`, and nothing else."""
        return self.complete(self.prepare(request))

    def of_text(self, text: str) -> TokenIds:
        """The ids of a text, to which no special tokens are added."""
        return self.pieces.ids(text)

    def prepare(self, request: Text | Chat) -> Prepared:
        """Everything but tokenizing what is not known. Raises `UntokenizableError` alone."""
        text = request.text if isinstance(request, Text) else self.rendered(request)
        try:
            return Prepared(self.pieces.look_up(text), request.special_tokens)
        except UnicodeEncodeError as error:
            raise UntokenizableError("a text that is no Unicode") from error

    def complete(self, prepared: Prepared) -> TokenIds:
        """The ids of a prepared prompt. Raises `UntokenizableError` alone."""
        ids = self.pieces.complete(prepared.lookup)
        if not prepared.special_tokens:
            return ids
        return array("I", self._before) + ids + array("I", self._after)

    def rendered(self, chat: Chat) -> str:
        """A chat as its template writes it. Raises `UntokenizableError`."""
        named = (
            "tool_use" if chat.tools is not None and "tool_use" in self._templates else "default"
        )
        template = self._templates.get(named)
        if template is None:
            raise UntokenizableError("the tokenizer has no chat template")
        return template.render(chat)

    def _encode(self, text: str) -> TokenIds:
        try:
            # As a batch of one: only so does the library let other threads run meanwhile.
            (found,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a bare Exception, or a panic, which is none
            raise UntokenizableError("the tokenizer fails") from error
        return array("I", found.ids)


def _around(found: files.TokenizerFiles) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens before and after a text. Raises `TokenizerError` for any others."""
    sample = "Hello"
    inner = found.tokenizer.encode(sample, add_special_tokens=False).ids
    whole = found.tokenizer.encode(sample).ids
    for begin in range(len(whole) - len(inner) + 1):
        end = begin + len(inner)
        if whole[begin:end] == inner:
            return tuple(whole[:begin]), tuple(whole[end:])
    raise TokenizerError(f"{found.path}: special tokens are put inside of texts")
