"""What a prompt is for hashing: one canonical byte string with everything the KV cache sees.

The string is a sequence of *fields*, each a mark, a tag and a value::

    text    FF tag  UTF-8, up to the next mark or the end; what a client wrote as content
                    stands as it was written between its quotes, JSON escapes and all
    raw     FF tag  length (8 bytes, little-endian)  JSON exactly as the client wrote it
    media   FF tag  digest (16 bytes), repeated to fill MEDIA_TOKENS * 4 bytes
    mark    FF tag

The byte FF occurs in no UTF-8 text, and the other values have a known length, so a string can
be read back in one way only: two different prompts never give equal bytes. Text comes without
its length, so that two prompts that begin with the same text also begin with the same bytes,
wherever in a message they part; and nothing closes a message or a conversation, so that a
growing conversation's earlier turns are a prefix of the later ones.

JSON whitespace, key order and the form of content (a string or parts) make no difference.
Text itself and raw values (tools, tool calls, template arguments) are compared by the bytes
that the client wrote: a client spells the same text in the same way every time, and decoding
220 KB of it costs more than hashing and routing together (docs/decisions/0008).
"""

from typing import Final

from msgspec import Raw
from xxhash import xxh3_128_digest

from gateway.apis.bodies import ABSENT
from routing.prefix.chain import text_chain
from routing.request import Chain

BYTES_PER_TOKEN: Final = 4
"""Nominal length of a token of text; the router corrects it by what engines report."""

MEDIA_TOKENS: Final = 1024
"""Nominal length of an image, a sound or a video, in tokens: engines turn one into a few
hundred to a few thousand, which only they know. Its digest is repeated over as many bytes, so
that blocks and tokens of a prompt stay in proportion."""

_DIGEST_BYTES: Final = 16
_MEDIA_REPEATS: Final = MEDIA_TOKENS * BYTES_PER_TOKEN // _DIGEST_BYTES


class Tag:
    """The two bytes that begin a field, by what it holds.

    Plain constants and not an enum: they are looked up for every field of every request.
    """

    # What templates render before the first message.
    TEMPLATE: Final = b"\xffA"
    TEMPLATE_ARGUMENTS: Final = b"\xffB"
    MEDIA_ARGUMENTS: Final = b"\xffC"
    TRUNCATION: Final = b"\xffD"
    SPECIAL_TOKENS: Final = b"\xffE"
    EARLIER_RESPONSE: Final = b"\xffF"
    CONVERSATION: Final = b"\xffG"
    STORED_PROMPT: Final = b"\xffL"
    REASONING_EFFORT: Final = b"\xffM"
    DOCUMENTS: Final = b"\xffH"
    TOOLS: Final = b"\xffI"
    FUNCTIONS: Final = b"\xffJ"
    NO_TOOLS: Final = b"\xffK"
    # A message and what is in it; it ends where the next one begins.
    MESSAGE: Final = b"\xffa"
    NAME: Final = b"\xffb"
    TOOL_CALL_ID: Final = b"\xffc"
    REASONING: Final = b"\xffd"
    TEXT: Final = b"\xffe"
    MEDIA: Final = b"\xfff"
    OTHER: Final = b"\xffg"
    REFUSAL: Final = b"\xffh"
    TOOL_CALLS: Final = b"\xffi"
    FUNCTION_CALL: Final = b"\xffj"
    # A tool call or result that stands among parts or messages of other kinds.
    TOOL_USE: Final = b"\xffk"
    TOOL_RESULT: Final = b"\xffl"
    TOOL_FAILED: Final = b"\xffm"
    TOOL_RESULT_END: Final = b"\xffn"
    ITEM: Final = b"\xffo"
    TOKEN: Final = b"\xffp"
    # What only matters after the last message.
    THINKING: Final = b"\xffx"
    NO_GENERATION_PROMPT: Final = b"\xffy"
    CONTINUE: Final = b"\xffz"


def salt(model: str, cache_salt: str | None) -> bytes:
    """Everything that separates one KV cache from another before the first token.

    `model` is the name as asked for, which is the adapter's name when there is one. Prompts of
    messages, of text and of token ids need no salt to stay apart: the first begin with a mark,
    the second hold none, and the third are hashed as another kind.
    """
    if cache_salt is None:
        return model.encode()
    return model.encode() + b"\xff" + cache_salt.encode()


class Prompt:
    """Writes the canonical bytes of one prompt, field by field, in the engine's order."""

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        self._pieces: list[bytes | memoryview] = []

    def text(self, tag: bytes, text: str | None) -> None:
        """Add a field of text; None adds nothing."""
        if text is not None:
            self._pieces.append(tag)
            self._pieces.append(text.encode())

    def written(self, tag: bytes, string: memoryview) -> None:
        """Add a field of text as the client wrote it: a JSON string with its quotes."""
        self._pieces.append(tag)
        self._pieces.append(string[1:-1])

    def raw(self, tag: bytes, raw: Raw) -> None:
        """Add a field of JSON as the client wrote it; ``null`` and `ABSENT` add nothing."""
        if raw is ABSENT or (value := bytes(raw)) == b"null":
            return
        self._pieces += (tag, len(value).to_bytes(8, "little"), value)

    def media(self, raw: Raw) -> None:
        """Add an image, a sound or a video by the digest of the JSON with its URL or data."""
        self._pieces += (Tag.MEDIA, xxh3_128_digest(memoryview(raw)) * _MEDIA_REPEATS)

    def mark(self, tag: bytes) -> None:
        """Add a field without a value."""
        self._pieces.append(tag)

    def canonical(self) -> bytes:
        """The prompt's bytes so far."""
        return b"".join(self._pieces)


def chain_of(prompt: Prompt, prompt_salt: bytes) -> tuple[Chain, float]:
    """Hash a prompt: its chain of blocks, and its nominal length in tokens; see `salt`."""
    canonical = prompt.canonical()
    return text_chain(prompt_salt, canonical), len(canonical) / BYTES_PER_TOKEN
