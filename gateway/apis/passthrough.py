"""Any other ``/v1/*`` path: forwarded by load to an endpoint that serves the body's model."""

import msgspec

from gateway.apis.call import Call
from gateway.apis.decoding import decode
from gateway.apis.fields import Common
from gateway.apis.multipart import form_fields
from gateway.apis.prompt import BYTES_PER_TOKEN, MEDIA_TOKENS

_FORM_FIELDS = frozenset({"model", "stream"})

_body = msgspec.json.Decoder(Common)


def read_passthrough(body: bytes) -> Call:
    """Read what a JSON object or a form says of model and streaming; other bodies say nothing.

    The size of a form is that of a file, which says little of the work: it counts as one
    image or sound does.

    Raises:
        ApiError: 400 for a body that begins like a JSON object and is none.

    """
    start = body[:64].lstrip()
    if start.startswith(b"{"):
        common = decode(_body, body)
        return Call(
            model=common.model or None,
            streamed=common.stream is True,
            prompt_tokens=len(body) / BYTES_PER_TOKEN,
            priority=int(common.priority or 0),
        )
    if start.startswith(b"--"):
        form = form_fields(body, _FORM_FIELDS)
        return Call(
            model=form.get("model") or None,
            streamed=form.get("stream", "").strip().lower() in {"true", "1"},
            prompt_tokens=MEDIA_TOKENS,
        )
    return Call(model=None)
