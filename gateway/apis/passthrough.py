"""Any other ``/v1/*`` path: forwarded by load to an endpoint that serves the body's model."""

import json
import re
from typing import Final

import msgspec

from gateway.apis.bodies import Common
from gateway.apis.call import ApiError, Call
from gateway.apis.decoding import decode_body
from gateway.apis.fields import internal_fields
from gateway.apis.multipart import form_fields
from gateway.apis.prompt import BYTES_PER_TOKEN, MEDIA_TOKENS

_FORM_FIELDS: Final = frozenset({"model", "stream"})

_FIRST: Final = re.compile(rb"[ \t\n\r]*+(\{|--)?")
_LOOK: Final = 64  # bytes, in which a file shows that it is no JSON in an odd encoding

_body: Final = msgspec.json.Decoder(Common)


def read_passthrough(body: bytes) -> Call:
    """Read what a JSON object or a form says of model and streaming; other bodies say nothing.

    The size of a form is that of a file, which says little of the work: it counts as one
    image or sound does.

    Raises:
        ApiError: 400 for a body that begins like a JSON object and is none, also in an
            encoding other than UTF-8: an engine might read what we did not.

    """
    first = _FIRST.match(body)
    start = first[1] if first else None
    if start == b"{":
        common = decode_body(_body, body)
        return Call(
            model=common.model or None,
            streamed=common.stream is True,
            prompt_tokens=len(body) / BYTES_PER_TOKEN,
            priority=int(common.priority or 0),
            internal_fields=internal_fields(common, body),
        )
    if start == b"--":
        form = form_fields(body, _FORM_FIELDS)
        return Call(
            model=form.get("model") or None,
            streamed=form.get("stream", "").strip().lower() in {"true", "1"},
            prompt_tokens=MEDIA_TOKENS,
        )
    if _is_object_in_disguise(body):
        raise ApiError(
            400, "invalid_json", "Send JSON as UTF-8, without a byte order mark at its start."
        )
    return Call(model=None)


def _is_object_in_disguise(body: bytes) -> bool:
    """Whether Python's JSON, which most engines use, would find an object in UTF-16 or so."""
    encoding = json.detect_encoding(body)
    if encoding == "utf-8":
        return False
    start = body[:_LOOK].decode(encoding, errors="replace").lstrip(" \t\n\r")
    return not start or start.startswith("{")
