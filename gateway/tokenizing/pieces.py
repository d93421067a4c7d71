"""Text -> token ids, piece by piece, so that a growing conversation is not tokenized anew.

A tokenizer first looks for its added tokens, such as ``<|im_end|>``, and then treats what is
between them apart: no token reaches across one. So a text is cut *before* such tokens, and the
ids of its pieces, one after the other, are its ids. Each piece but the first begins with the
token it was cut at, so that what follows is never taken for the beginning of a text (there, some
tokenizers add a space).

That holds for an added token only if nothing but its own text decides where it is found:

- it is looked for in the text as it is (not ``normalized``) and anywhere (not ``single_word``);
- it takes no whitespace from what stands before it (no ``lstrip``);
- no other added token holds it (the longest is found first), and none ends as it begins;
- it begins with a sign, neither whitespace nor a letter (which could be part of a word that
  begins before it).

Whitespace that it takes from what follows (``rstrip``) is in its own piece. Whether the pieces
add up is tried, too, when the tokenizer is loaded.
"""

import re
from array import array
from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b
from secrets import token_bytes
from threading import Lock
from typing import TYPE_CHECKING, Protocol, TypeAlias

from tokenizers import AddedToken

if TYPE_CHECKING:
    TokenIds: TypeAlias = array[int]
    """Ids as unsigned 32-bit integers."""
else:  # Python 3.11 has no array[int] at run time
    TokenIds = array

LEAST_CHARACTERS = 128
"""Of a piece: shorter ones would cost more to look up than to tokenize."""

_ENTRY_BYTES = 240  # of a piece besides its ids: the digest, the array and their places
_SIGN = re.compile(r"[^\w\s]")
_TRIAL = ("Hello, world!", " a\n\nb  c", "\n", "user\nWhat is 1+1? é漢", " ", "x ", "")


class Encoder(Protocol):
    """A tokenizer without caching: no special tokens are added, none are left out."""

    def __call__(self, text: str) -> TokenIds:
        """The ids of a text."""


def cutting_tokens(added: Iterable[AddedToken], template: str) -> list[str]:
    """The added tokens that a text may be cut at: those in ``template`` that meet the conditions.

    Every further token makes finding the next one slower, and others hardly occur.
    """
    everyone = list(added)
    texts = [token.content for token in everyone]
    return [
        token.content
        for token in everyone
        if token.content in template
        and _SIGN.match(token.content)
        and not (token.normalized or token.single_word or token.lstrip)
        and not any(_blurs(other, token.content) for other in texts if other != token.content)
    ]


def _blurs(other: str, text: str) -> bool:
    """Whether ``other`` may be found where ``text`` stands."""
    return text in other or any(
        other.endswith(text[:i]) for i in range(1, min(len(text), len(other)))
    )


class Pieces:
    """Ids of texts, and of their pieces for as long as there is room; safe from any thread.

    ``room`` is what the cache may hold, in bytes; the least recently used piece makes way.
    """

    def __init__(
        self,
        encode: Encoder,
        cut_at: Iterable[str],
        room: int,
        least_characters: int = LEAST_CHARACTERS,
    ) -> None:
        self._encode = encode
        self._least = least_characters
        self.hits = 0
        """Characters whose ids were known."""
        self.misses = 0
        self._digest_key = token_bytes(16)  # clients can't aim at each other's pieces
        self._known: OrderedDict[bytes, TokenIds] = OrderedDict()  # least recently used first
        self._room = room
        self._lock = Lock()
        tokens = [token for token in cut_at if self._adds_up(token)]
        self._cut = re.compile("|".join(map(re.escape, tokens))) if tokens else None

    @property
    def cuts(self) -> bool:
        """Whether texts are cut at all; if not, a text is one piece."""
        return self._cut is not None

    @property
    def free_bytes(self) -> int:
        """What of the room is left."""
        return self._room

    def cut(self, text: str) -> list[str]:
        """The pieces of a text. A text that begins with another one begins with its pieces, too,
        but for the last one.
        """
        if self._cut is None:
            return [text]
        pieces = []
        begin = 0
        for found in self._cut.finditer(text):
            at = found.start()
            if at - begin >= self._least:
                pieces.append(text[begin:at])
                begin = at
        pieces.append(text[begin:])
        return pieces

    def look_up(self, text: str) -> "Lookup":
        """Cut a text and find which of its pieces are known. Raises UnicodeEncodeError for a
        text that no UTF-8 can hold.
        """
        pieces = self.cut(text)
        keys = [blake2b(p.encode(), digest_size=16, key=self._digest_key).digest() for p in pieces]
        with self._lock:
            found = [self._known.get(key) for key in keys]
            for key, ids in zip(keys, found, strict=True):
                if ids is not None:
                    self._known.move_to_end(key)
        unknown = sum(len(p) for p, ids in zip(pieces, found, strict=True) if ids is None)
        self.hits += len(text) - unknown
        self.misses += unknown
        return Lookup(pieces, keys, found, unknown)

    def complete(self, lookup: "Lookup") -> TokenIds:
        """The ids of the text that was looked up; what was not known is known from now on."""
        whole: TokenIds = array("I")
        for piece, key, known in zip(lookup.pieces, lookup.keys, lookup.found, strict=True):
            ids = known
            if ids is None:
                ids = self._encode(piece)
                self._keep(key, ids)
            whole += ids
        return whole

    def ids(self, text: str) -> TokenIds:
        """The ids of a text."""
        return self.complete(self.look_up(text))

    def _keep(self, key: bytes, ids: TokenIds) -> None:
        with self._lock:
            if key not in self._known:
                self._known[key] = ids
                self._room -= _weight(ids)
            while self._room < 0:
                self._room += _weight(self._known.popitem(last=False)[1])

    def _adds_up(self, token: str) -> bool:
        whole = token.join(_TRIAL)
        first, *others = whole.split(token)
        parts = self._encode(first)
        for other in others:
            parts += self._encode(token + other)
        return parts == self._encode(whole)


class Lookup:
    """A text's pieces, and the ids of those that are known; ``unknown`` characters are not."""

    __slots__ = ("found", "keys", "pieces", "unknown")

    def __init__(
        self, pieces: list[str], keys: list[bytes], found: list[TokenIds | None], unknown: int
    ) -> None:
        self.pieces = pieces
        self.keys = keys
        self.found = found
        self.unknown = unknown


def _weight(ids: TokenIds) -> int:
    return _ENTRY_BYTES + 4 * len(ids)
