"""HTTP/1.1 heads: what is taken from one side and what is written to the other.

Both directions follow RFC 9110 section 7.6.1: hop-by-hop fields, and the fields that
``Connection`` names, end here. Framing fields are never copied; they are written anew
for the framing that this hop uses. Field names are lower case throughout.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Final, TypeAlias, overload

from gateway.ours import ONLY_OURS

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Header fields in order, names in lower case."""

_HOP_BY_HOP: Final = frozenset(
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
        b"http2-settings",
        b"content-length",  # written anew with this hop's framing
    }
)
# accept-encoding: token counts are read from the response, so it must come uncompressed.
# expect: answered by this hop. host and x-request-id: set by this hop.
_NOT_FORWARDED: Final = _HOP_BY_HOP | {b"accept-encoding", b"expect", b"host", b"x-request-id"}
_NOT_RELAYED: Final = _HOP_BY_HOP | {b"x-request-id", b"x-inferway-endpoint"}
_FORWARDED: Final = (
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"forwarded",
    b"via",
)

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_LONGEST_KNOWN: Final = 128
_NOTHING: Final[frozenset[bytes]] = frozenset()
_CONNECTION_OPTIONS: Final = frozenset({b"close", b"keep-alive"})
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


def by_name(headers: Headers) -> dict[bytes, bytes]:
    """Header values by name; of several with one name a list (RFC 9110 section 5.3)."""
    fields = dict(headers)
    if len(fields) < len(headers):
        fields.clear()
        for name, value in headers:
            fields[name] = fields[name] + b", " + value if name in fields else value
    return fields


class RequestHead:
    """The head of a client's request."""

    __slots__ = ("chunked_ok", "fields", "headers", "keep_alive", "method", "target")

    def __init__(
        self,
        method: str,
        target: bytes,
        headers: Headers,
        *,
        keep_alive: bool = True,
        chunked_ok: bool = True,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.keep_alive = keep_alive
        self.chunked_ok = chunked_ok
        """HTTP/1.1: may be answered in chunks."""
        self.fields = by_name(headers)
        """The headers by name; see `by_name`."""

    @overload
    def header(self, name: bytes) -> bytes | None: ...

    @overload
    def header(self, name: bytes, default: bytes) -> bytes: ...

    def header(self, name: bytes, default: bytes | None = None) -> bytes | None:
        """The value of a field; ``name`` in lower case."""
        return self.fields.get(name, default)


def without_upgrade(head: RequestHead) -> bytes:
    """A head as it came, less the offer to go on in another protocol."""
    lines = [b"%b %b HTTP/1.%d\r\n" % (head.method.encode(), head.target, head.chunked_ok)]
    for name, value in head.headers:
        if name == b"connection":
            options = [option.strip() for option in value.split(b",")]
            kept = b", ".join(one for one in options if one.lower() != b"upgrade")
            lines.append(b"connection: %b\r\n" % kept)
        elif name != b"upgrade":
            lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines) + b"\r\n"


@lru_cache(maxsize=4096)  # names recur; what clients invent beyond that is just not remembered
def _passes(name: bytes) -> bool:
    """Whether a field goes on to the endpoint as it is, unless ``Connection`` names it."""
    # Some servers read an underscore in a name as a hyphen: what ends here ends in both.
    plain = name.replace(b"_", b"-")
    return not (plain in _NOT_FORWARDED or plain in _FORWARDED or plain.startswith(ONLY_OURS))


def _named(connection: bytes) -> frozenset[bytes]:
    """The fields that a ``Connection`` field names."""
    if connection.lower() in _CONNECTION_OPTIONS:
        return _NOTHING
    return frozenset(token.strip().lower() for token in connection.split(b","))


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a client's requests come from, and what endpoints are told of it."""

    address: bytes  # IP address
    scheme: bytes  # http or https
    mode: str  # append: to what earlier hops said; replace: it; off: pass it on as it is

    def lines(self, fields: Mapping[bytes, bytes]) -> bytes:
        """X-Forwarded-* and Via for a request with these fields."""
        if self.mode == "off":
            return b"".join(
                b"%b: %b\r\n" % (name, fields[name]) for name in _FORWARDED if name in fields
            )
        earlier = fields if self.mode == "append" else {}
        came_from = earlier.get(b"x-forwarded-for")
        via = earlier.get(b"via")
        host = earlier.get(b"x-forwarded-host") or fields.get(b"host", b"")
        return b"x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\nvia: %b\r\n%b" % (
            self.address if came_from is None else came_from + b", " + self.address,
            earlier.get(b"x-forwarded-proto") or self.scheme,
            b"1.1 inferway" if via is None else via + b", 1.1 inferway",
            b"x-forwarded-host: %b\r\n" % host if host else b"",
        )


def request_head(
    head: RequestHead,
    authority: bytes,
    request_id: bytes,
    body_length: int,
    origin: Origin,
    extra: bytes = b"",
) -> bytes:
    """The head that goes to an endpoint: the client's fields less what ends at this hop.

    ``extra``: whole lines of our own.
    """
    fields = head.fields
    connection = fields.get(b"connection")
    named = _NOTHING if connection is None else _named(connection)
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
        if _passes(name) and name not in named:
            lines += (name, b": ", value, b"\r\n")
    lines.append(origin.lines(fields))
    if body_length or head.method in _WITH_BODY:
        lines.append(b"content-length: %d\r\n" % body_length)
    lines += (extra, b"\r\n")
    return b"".join(lines)


def response_head(
    status: int,
    headers: Headers,
    framing: bytes,
    *,
    request_id: bytes,
    endpoint: bytes,
    extra: bytes,
    own_cors: bool,
    keep_alive: bool,
) -> bytes:
    """The head that goes to the client: the endpoint's fields, our framing, our own fields.

    ``framing`` and ``extra`` are whole header lines. ``own_cors``: the gateway answers CORS,
    so what the endpoint says of it is left out.
    """
    named = _NOTHING
    for name, value in headers:
        if name == b"connection":
            named |= _named(value)
    if own_cors:
        headers = [one for one in headers if not one[0].startswith(b"access-control-")]
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
    for name, value in headers:
        if name not in _NOT_RELAYED and name not in named:
            lines += (name, b": ", value, b"\r\n")
    lines += (framing, extra)
    lines += (b"x-request-id: ", request_id, b"\r\nx-inferway-endpoint: ", endpoint)
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
    extra: bytes = b"",
    bodiless: bool = False,
) -> bytes:
    """A whole response made by the gateway itself; ``body`` is JSON, empty for a 204.

    ``bodiless``: the answer to HEAD, which states the length of a body that it leaves out.
    """
    lines = [_STATUS_LINES[status]]
    if status != 204:
        lines.append(
            b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body),
        )
    if request_id is not None:
        lines.append(b"x-request-id: %b\r\n" % request_id)
    if retry_after is not None:
        lines.append(b"retry-after: %d\r\n" % retry_after)
    if allow is not None:
        lines.append(b"allow: %b\r\n" % allow.encode())
    lines.append(extra)
    if not keep_alive:
        lines.append(b"connection: close\r\n")
    lines.append(b"\r\n")
    if not bodiless:
        lines.append(body)
    return b"".join(lines)


def own_answer(
    status: int,
    headers: Headers,
    body: bytes,
    *,
    keep_alive: bool,
    request_id: bytes,
    bodiless: bool,
) -> bytes:
    """A whole response whose fields somebody else gave: a redirect, say."""
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
    for name, value in headers:
        if name not in _NOT_RELAYED:
            lines += (name, b": ", value, b"\r\n")
    if status not in {204, 304}:
        lines.append(b"content-length: %d\r\n" % len(body))
    lines.append(b"x-request-id: %b\r\n" % request_id)
    lines.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
    if not bodiless and status not in {204, 304}:
        lines.append(body)
    return b"".join(lines)
