"""What a prefill leg's answer says: tokens, how it ended, and what the decode leg is to be told.

One reading for the four APIs (chat and text completions, Responses, Messages): the objects differ
in where they say these things, and none says one of them in another's place.
"""

from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import Raw, Struct

_BAD_ENDS: Final = frozenset({"abort", "error", "failed", "cancelled"})
_ABSENT: Final = Raw()


class _Details(Struct):
    cached_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    input_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    cache_read_input_tokens: int | None = None


class _Choice(Struct):
    finish_reason: str | None = None


class _Body(Struct):
    kv_transfer_params: Raw = _ABSENT
    choices: list[_Choice] = []
    status: str | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None
    error: Raw = _ABSENT


_decoder: Final = msgspec.json.Decoder(_Body)


@dataclass(frozen=True, slots=True)
class PrefillAnswer:
    """A 200 to a prefill leg. Counts that the engine did not report are None."""

    params: bytes | None = None
    """``kv_transfer_params`` exactly as they were written; None: absent or null."""
    failure: str | None = None
    """Why nothing was computed although the status was 200: ``abort``, ``error``, ..."""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None


def read_answer(body: bytes) -> PrefillAnswer:
    """Read the body of a 200; ValueError for one that is no such answer."""
    try:
        said = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"the prefill leg's answer can't be read: {error}") from None
    params = bytes(said.kv_transfer_params)
    ends = {choice.finish_reason for choice in said.choices} | {said.status, said.stop_reason}
    bad = sorted(end for end in ends if end in _BAD_ENDS)
    failure = bad[0] if bad else None
    if failure is None and bytes(said.error) not in {b"", b"null"}:
        failure = "error"
    prompt, cached = _counts(said.usage)
    return PrefillAnswer(
        params=None if params in {b"", b"null"} else params,
        failure=failure,
        prompt_tokens=prompt,
        cached_tokens=cached,
    )


def _counts(usage: _Usage | None) -> tuple[int | None, int | None]:
    """Prompt and cached tokens."""
    if usage is None:
        return None, None
    details = usage.prompt_tokens_details or usage.input_tokens_details
    cached = usage.cache_read_input_tokens if details is None else details.cached_tokens
    prompt = usage.prompt_tokens
    if prompt is None and usage.input_tokens is not None:
        # Messages counts apart what was read from the cache; Responses counts it in.
        apart = usage.cache_read_input_tokens or 0
        prompt = usage.input_tokens + apart
    return prompt, cached
