"""Cached tokens in the decode endpoint's usage, as the prefill endpoint counted them.

To some decode engines KV that was handed over looks like their own cache: they would tell the
client that its whole prompt was cached. Only the number changes, and only where it is wrong;
everything else goes on as it came. (llm-d's sidecar does the same.)

Anthropic's usage counts cached tokens apart from the others; engines that speak it already report
what the prefill server told them, so it is left as it is.
"""

import re
from typing import Final

from gateway.proxy.framing import EventAligner
from gateway.proxy.heads import Headers

# A quote inside of a JSON string is escaped, so generated text never matches.
_CACHED: Final = re.compile(rb'((?<!\\)"cached_tokens"\s*:\s*)(null|\d+)')
_NO_DETAILS: Final = re.compile(rb'((?<!\\)"prompt_tokens_details"\s*:\s*)null')


def restored(data: bytes, cached: int) -> bytes:
    """The data with its counts of cached tokens set; the very same object when they are right."""
    if b"tokens" not in data:
        return data
    number = b"%d" % cached
    wrong = False
    for found in _CACHED.finditer(data):
        wrong = wrong or found[2] != number
    if wrong:
        data = _CACHED.sub(rb"\g<1>" + number, data)
    if b"prompt_tokens_details" in data:
        data = _NO_DETAILS.sub(rb'\g<1>{"cached_tokens":' + number + b"}", data)
    return data


class UsageRestorer:
    """Restores one response as it comes: streams event by event, other bodies at their end."""

    __slots__ = ("_aligner", "_cached", "_held", "streams")

    def __init__(self, cached: int) -> None:
        self._cached = cached
        self._aligner = EventAligner()
        self._held: list[bytes] = []
        self.streams = False
        """Set when the head says that it is a stream of events."""

    def feed(self, data: bytes) -> bytes:
        """What may go on of what came."""
        if not self.streams:
            self._held.append(data)
            return b""
        return restored(self._aligner.align(data), self._cached)

    def rest(self) -> bytes:
        """What is left at the end."""
        if self.streams:
            return restored(self._aligner.rest(), self._cached)
        held, self._held = b"".join(self._held), []
        return restored(held, self._cached)


def with_length(headers: Headers, length: int) -> Headers:
    """The headers with the length of another body, where they tell one."""
    return [
        (name, b"%d" % length if name == b"content-length" else value) for name, value in headers
    ]
