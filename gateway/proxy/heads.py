"""HTTP/1.1 heads: what is taken from one side and what is written to the other.

Both directions follow RFC 9110 section 7.6.1: hop-by-hop fields, and the fields that
``Connection`` names, end here. Framing fields are never copied; they are written anew
for the framing that this hop uses.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Header fields in order, names as they came."""

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",  # written anew with this hop's framing
    }
)
# accept-encoding: token counts are read from the response, so it must come uncompressed.
# expect: answered by this hop. host and x-request-id: set by this hop.
_NOT_FORWARDED = _HOP_BY_HOP | {b"accept-encoding", b"expect", b"host", b"x-request-id"}
# Only the gateway may tell an engine or a sidecar where a request goes or where its KV comes from.
_ONLY_OURS = (
    b"x-gateway-destination-endpoint",
    b"x-prefiller-host-port",
    b"x-encoder-hosts-ports",
    b"x-kv-cache-source-host-port",
    b"x-data-parallel-rank",
    b"x-inferway-",
)
_NOT_RELAYED = _HOP_BY_HOP | {b"x-request-id", b"x-inferway-endpoint"}

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


@dataclass(slots=True)
class RequestHead:
    """The head of a client's request."""

    method: str = ""
    target: bytes = b""
    headers: Headers = field(default_factory=list)
    keep_alive: bool = True
    chunked_ok: bool = True  # HTTP/1.1 or later: may be answered in chunks
    expects_continue: bool = False
    content_length: int | None = None

    def header(self, name: bytes) -> bytes | None:
        """The first value of a field; ``name`` in lower case."""
        for key, value in self.headers:
            if len(key) == len(name) and key.lower() == name:
                return value
        return None


class BadTargetError(ValueError):
    """A request target that no honest client sends."""


def matchable_path(target: bytes) -> str:
    """The path of a request target, percent-decoded, as routes are matched against.

    Raises `BadTargetError` for anything whose meaning could differ between this hop and the
    next: dot segments, empty segments, backslashes, control bytes, or a form other than
    origin-form.
    """
    path = target.partition(b"?")[0]
    if b"%" in path:
        path = unquote_to_bytes(path)
    if not path.startswith(b"/"):
        raise BadTargetError("the request target must be a path that starts with /")
    try:
        text = path.decode()
    except UnicodeDecodeError as error:
        raise BadTargetError("the path is not UTF-8") from error
    if "//" in text or "\\" in text or "/." in text or not text.isprintable():
        raise BadTargetError("the path has an empty or dot segment, a backslash or a control byte")
    return text


def _named_by_connection(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    named: set[bytes] = set()
    for name, value in headers:
        if len(name) == 10 and name.lower() == b"connection":
            named.update(token.strip().lower() for token in value.split(b","))
    return frozenset(named - {b"close", b"keep-alive"})


def request_head(head: RequestHead, authority: bytes, request_id: bytes, body_length: int) -> bytes:
    """The head that goes to an endpoint: the client's fields less what ends at this hop."""
    named = _named_by_connection(head.headers)
    lines = [
        head.method.encode(),
        b" ",
        head.target,
        b" HTTP/1.1\r\nhost: ",
        authority,
        b"\r\nx-request-id: ",
        request_id,
        b"\r\n",
    ]
    for name, value in head.headers:
        lowered = name.lower()
        if lowered in _NOT_FORWARDED or lowered in named or lowered.startswith(_ONLY_OURS):
            continue
        lines += (name, b": ", value, b"\r\n")
    if body_length or head.method in {"POST", "PUT", "PATCH"}:
        lines.append(b"content-length: %d\r\n" % body_length)
    lines.append(b"\r\n")
    return b"".join(lines)


def response_head(
    status: int,
    headers: Sequence[tuple[bytes, bytes]],
    framing: bytes,
    *,
    request_id: bytes,
    endpoint: bytes,
    keep_alive: bool,
) -> bytes:
    """The head that goes to the client: the endpoint's fields, our framing, our two fields."""
    named = _named_by_connection(headers)
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
    for name, value in headers:
        lowered = name.lower()
        if lowered in _NOT_RELAYED or lowered in named:
            continue
        lines += (name, b": ", value, b"\r\n")
    lines += (framing, b"x-request-id: ", request_id, b"\r\nx-inferway-endpoint: ", endpoint)
    lines.append(b"\r\n\r\n" if keep_alive else b"\r\nconnection: close\r\n\r\n")
    return b"".join(lines)


def own_response(
    status: int,
    body: bytes,
    *,
    keep_alive: bool,
    request_id: bytes | None = None,
    retry_after: int | None = None,
    allow: str | None = None,
) -> bytes:
    """A whole response made by the gateway itself; ``body`` is JSON."""
    lines = [
        _STATUS_LINES[status],
        b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body),
    ]
    if request_id is not None:
        lines.append(b"x-request-id: %b\r\n" % request_id)
    if retry_after is not None:
        lines.append(b"retry-after: %d\r\n" % retry_after)
    if allow is not None:
        lines.append(b"allow: %b\r\n" % allow.encode())
    if not keep_alive:
        lines.append(b"connection: close\r\n")
    lines += (b"\r\n", body)
    return b"".join(lines)
