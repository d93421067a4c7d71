"""What engines say about a finished request: token counts and errors, read from a few bytes."""

import json
import re
from typing import Final

import msgspec

from gateway.apis.call import Usage

_USAGE: Final = b'"usage"'
_TIMINGS: Final = b'"timings"'
_MAX_OBJECT: Final = 8192
"""Bytes of one usage object that are looked at; real ones have a few hundred."""

_MAX_OBJECTS: Final = 16
"""Usage objects that are looked at: a stream may carry one an event."""

_OPENS_OBJECT: Final = re.compile(rb"\s*:\s*(?=\{)")
_STREAM_ERROR: Final = re.compile(
    rb"(?:^|[\r\n])"
    rb"(?:event: ?(?:error|response\.failed)[\r\n]"
    rb"|data: ?\{\s*\"(?:error\"\s*:\s*[^\sn]|object\"\s*:\s*\"error\"|type\"\s*:\s*\"error\"))"
)
_LAST_EVENT: Final = re.compile(
    rb"(?:^|[\r\n])data: ?"
    rb"(?:\[DONE\]|\{\s*\"type\"\s*:\s*\"(?:message_stop|response\.completed)\"[^\r\n]*)\s*\Z"
)
_PLAIN_OBJECT: Final = re.compile(rb"\{[^{}]*+(?:\{[^{}]*+\}[^{}]*+)*\}")
_plain_decoder: Final = msgspec.json.Decoder(dict[str, object])
_decoder: Final = json.JSONDecoder()


def usage_in(tail: bytes) -> Usage | None:
    """Read token counts from the last bytes of a unary or streamed response.

    Understands, by what the object holds, the usage of OpenAI (``prompt_tokens``), of Responses
    and Anthropic (``input_tokens``), and ``timings`` of llama.cpp. ``prompt_tokens`` always
    counts the whole prompt: Anthropic's ``input_tokens`` leaves out what was read from or
    written to the cache, in separate counts (vLLM and llama.cpp do the same), which are added.
    A stream whose last usage lacks the prompt (Anthropic's ``message_delta``) takes it from an
    earlier one. None when the tail holds no counts; never raises, whatever the bytes.
    """
    usage: Usage | None = None
    end = len(tail)
    for _ in range(_MAX_OBJECTS):
        end = tail.rfind(_USAGE, 0, end)
        if end < 0:
            break
        counts = _object_at(tail, end + len(_USAGE))
        if counts is not None:
            usage = _merge(usage, _from_usage(counts))
            if usage is not None and usage.prompt_tokens is not None:
                break
    if usage is None or usage.cached_tokens is None:
        at = tail.rfind(_TIMINGS)
        timings = None if at < 0 else _object_at(tail, at + len(_TIMINGS))
        if timings is not None:
            usage = _merge(usage, _from_timings(timings))
    return usage


def is_stream_error(events: bytes) -> bool:
    """Tell whether server-sent events hold an error: an engine may report one inside a 200."""
    # Nearly every chunk of a stream ends here: a substring search costs a tenth of the pattern.
    if b"error" not in events and b"failed" not in events:
        return False
    return _STREAM_ERROR.search(events) is not None


def is_last_event(events: bytes) -> bool:
    """Tell whether server-sent events end with the one after which a client waits for no more."""
    return _LAST_EVENT.search(events) is not None


def _object_at(tail: bytes, at: int) -> dict[str, object] | None:
    """The object that is the value of the key that ends at ``at``; None when it is none.

    A quote inside a JSON string is escaped, so the key never matches in generated text.
    """
    opening = _OPENS_OBJECT.match(tail, at)
    if opening is None:
        return None
    start = opening.end()
    # As engines write it, an object has at most others without strings in it: 0.3 us instead of 1.
    plain = _PLAIN_OBJECT.match(tail, start, start + _MAX_OBJECT)
    if plain is not None:
        try:
            return _plain_decoder.decode(plain[0])
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # a brace in a string, say
    text = tail[start : start + _MAX_OBJECT].decode(errors="replace")
    try:
        value, _ = _decoder.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _from_usage(counts: dict[str, object]) -> Usage | None:
    if "prompt_tokens" in counts or "completion_tokens" in counts:
        return _known(
            prompt=_count(counts, "prompt_tokens"),
            cached=_detail(counts, "prompt_tokens_details"),
            completion=_count(counts, "completion_tokens"),
        )
    fresh = _count(counts, "input_tokens")
    read = _count(counts, "cache_read_input_tokens")
    written = _count(counts, "cache_creation_input_tokens")
    return _known(
        prompt=None if fresh is None else fresh + (read or 0) + (written or 0),
        cached=_detail(counts, "input_tokens_details") if read is None else read,
        completion=_count(counts, "output_tokens"),
    )


def _from_timings(timings: dict[str, object]) -> Usage | None:
    cached = _count(timings, "cache_n")
    evaluated = _count(timings, "prompt_n")
    return _known(
        prompt=None if cached is None or evaluated is None else cached + evaluated,
        cached=cached,
        completion=_count(timings, "predicted_n"),
    )


def _merge(usage: Usage | None, earlier: Usage | None) -> Usage | None:
    """Fill what `usage` does not tell from what was reported earlier."""
    if usage is None or earlier is None:
        return usage or earlier
    return Usage(
        prompt_tokens=_either(usage.prompt_tokens, earlier.prompt_tokens),
        cached_tokens=_either(usage.cached_tokens, earlier.cached_tokens),
        completion_tokens=_either(usage.completion_tokens, earlier.completion_tokens),
    )


def _either(first: int | None, second: int | None) -> int | None:
    return second if first is None else first


def _known(prompt: int | None, cached: int | None, completion: int | None) -> Usage | None:
    """Build a `Usage`, or None when nothing is known."""
    if prompt is None and cached is None and completion is None:
        return None
    return Usage(prompt_tokens=prompt, cached_tokens=cached, completion_tokens=completion)


def _detail(counts: dict[str, object], key: str) -> int | None:
    details = counts.get(key)
    return _count(details, "cached_tokens") if isinstance(details, dict) else None


def _count(counts: dict[str, object], key: str) -> int | None:
    """Read a count; anything but a non-negative integer was not reported."""
    value = counts.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return None
