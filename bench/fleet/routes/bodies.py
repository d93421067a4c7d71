"""Request bodies of the OpenAI family: the fields that are honoured, the rest is skipped."""

from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct
from xxhash import xxh3_128_digest

from bench.fleet.engine.tokens import (
    MESSAGE_END,
    MESSAGE_START,
    Tokens,
    encode,
    from_bytes,
    tokens_of,
)
from bench.fleet.handover.wishes import HandoverFields
from bench.fleet.service import Prompt

_MEDIA_TOKENS = 256
"""What an image, a sound or a file costs; the tokens come from the part's digest."""


ABSENT = Raw()
"""A field that is not there; ``Raw | None`` would accept null alone."""

_NOTHING = (b"", b"null", b"[]")


class StreamOptions(Struct, frozen=True):
    """``stream_options``."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class Sampling(HandoverFields, frozen=True, kw_only=True):
    """Fields that bound and seed the answers of a chat or a completion."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    cache_salt: str | None = None
    request_id: str | None = None
    return_token_ids: bool | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop strings."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class Message(Struct, frozen=True):
    """A chat message; its content is text, or a list of typed parts."""

    role: str
    content: str | list[Raw] | None = None
    name: str | None = None
    tool_calls: Raw = ABSENT
    tool_call_id: str | None = None


class _Part(Struct, frozen=True):
    type: str = "text"
    text: str | None = None


_parts = msgspec.json.Decoder(str | _Part)


def render(
    messages: Sequence[Message],
    *,
    tools: Raw = ABSENT,
    generation_prompt: bool = True,
) -> Prompt:
    """A chat as tokens: tools, then each message between its marks, then the answer's beginning.

    Each role and each content begins on a token of its own. So an answer that comes back as a
    message has the tokens it was generated with, and its blocks are found in the cache.
    Echo mode says the last message.
    """
    tokens = tokens_of()
    if bytes(tools) not in _NOTHING:
        tokens += _message("tools", encode(bytes(tools).decode(errors="replace")))
    last = tokens_of()
    for message in messages:
        last = _content(message.content)
        if bytes(message.tool_calls) not in _NOTHING:
            last += encode(bytes(message.tool_calls).decode(errors="replace"))
        tokens += _message(message.role, last)
    if generation_prompt:
        tokens += _message("assistant", tokens_of())[:-1]
    return Prompt(tokens, last)


def _message(role: str, content: Tokens) -> Tokens:
    return tokens_of((MESSAGE_START, *encode(role))) + content + tokens_of((MESSAGE_END,))


def _content(content: str | Sequence[Raw] | None) -> Tokens:
    if content is None:
        return tokens_of()
    if isinstance(content, str):
        return encode(content)
    tokens = tokens_of()
    for raw in content:
        part = _parts.decode(raw)
        if isinstance(part, str):
            tokens += encode(part)
        elif part.text is not None:
            tokens += encode(part.text)
        else:
            tokens += from_bytes(xxh3_128_digest(bytes(raw))) * (_MEDIA_TOKENS // 4)
    return tokens
