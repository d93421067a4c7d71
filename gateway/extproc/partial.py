"""What the beginning of a body says, for Envoy in BUFFERED_PARTIAL mode when the body is larger.

JSON that is cut off can't be decoded, and its prompt is not whole. What can still be told is the
model, if it stands before the cut, and whether the answer is to be streamed: the request is then
routed by load. The scan below knows strings and depth, so only fields of the object itself count.
"""

import re
from typing import Final

import msgspec

from gateway.apis.call import Call
from gateway.apis.prompt import BYTES_PER_TOKEN

_TOKEN: Final = re.compile(
    rb'"(?:[^"\\]|\\(?:.|\Z))*+(?:"|\Z)|[{}\[\],]|[^\s"{}\[\],:]+', re.DOTALL
)
"""Strings, also one that the cut goes through, brackets, commas, and whatever else is a value."""
_decode = msgspec.json.Decoder(str).decode


def read_part(body: bytes) -> Call:
    """The model and streaming of a body whose end is missing; None and False where it tells not."""
    depth = 0
    name = b""  # of the field whose value comes next
    model: str | None = None
    streamed = False
    for token in _TOKEN.finditer(body):
        text = token[0]
        if text in b"{[":
            depth += 1
        elif text in b"}]":
            depth -= 1
        if depth != 1 or text in b"{[,":
            name = b""
        elif not name:
            name = text
        elif name == b'"model"' and text.startswith(b'"'):
            model = _text(text)
        elif name == b'"stream"':
            streamed = text == b"true"
    return Call(model=model or None, streamed=streamed, prompt_tokens=len(body) / BYTES_PER_TOKEN)


def _text(string: bytes) -> str:
    try:
        return _decode(string)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
