"""Generators: valid requests and responses, and what random edits make of them.

An edit is one of: insert, delete, replace or duplicate bytes, duplicate or delete or move a
line, change the digits of a number (lengths, chunk sizes), change the case of a word. The
inserted bytes are mostly those that mean something to a parser.
"""

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import strategies as st

_BODY = b'{"model":"sim-8b","prompt":"hi"}'
_TELLING = (  # bytes that some parser reads in a way of its own
    *(bytes([byte]) for byte in b'\r\n\t :,;="\\/.#?%+-0x@[]\x00\x01\x0b\x0c\x7f\x80\xa0\xff'),
    *(b"\r\n", b"\n\n", b"\r\n\r\n", b"0\r\n\r\n", b"\r\n ", b" \r\n", b"\r\r\n"),
    *(b"Content-Length: 5\r\n", b"content-length:0\r\n", b"Content-Length: 32, 32\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"TE: trailers\r\n"),
    *(b"Host: evil\r\n", b"Connection: close\r\n", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
    *(b"Connection: content-length\r\n", b"Expect: 100-continue\r\n", b"X-Evil: 1\r\n"),
    *(b"x-prefiller-host-port: a:1\r\n", b"Trailer: a\r\n", b"chunked, ", b"identity", b";a=b"),
    *(
        b"HTTP/1.0",
        b"HTTP/1.1",
        b"HTTP/2.0",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD ",
        b"../",
    ),
    *(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"HTTP/1.1 100 Continue\r\n\r\n"),
)
_NUMBERS = (
    b"0",
    b"1",
    b"-1",
    b"+5",
    b"0x5",
    b"5, 5",
    b"18446744073709551616",
    b"ffffffff",
    b"20",
    b"00032",
)


@dataclass(frozen=True, slots=True)
class Said:
    """Bytes of one side, where they are cut into writes, and whether the side closes then."""

    data: bytes
    cuts: tuple[int, ...]
    closes: bool = False

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """The writes."""
        edges = [0, *sorted({cut for cut in self.cuts if 0 < cut < len(self.data)}), len(self.data)]
        return tuple(self.data[at:to] for at, to in pairwise(edges))


@st.composite
def _chunked(draw: st.DrawFn, body: bytes) -> bytes:
    wire = b""
    while body:
        size = draw(st.integers(1, len(body)))
        extension = draw(st.sampled_from((b"", b"", b"", b";a", b';a="b"')))
        wire += b"%x%b\r\n%b\r\n" % (size, extension, body[:size])
        body = body[size:]
    trailers = draw(st.sampled_from((b"", b"", b"x-t: 1\r\n", b"Host: evil\r\nx-evil: 1\r\n")))
    return wire + b"0\r\n" + trailers + b"\r\n"


_FIELDS = st.lists(
    st.sampled_from(
        (
            b"Accept: */*\r\n",
            b"X-A: b\r\n",
            b"X-A:  c\t\r\n",
            b"Authorization: Bearer k\r\n",
            b"Connection: keep-alive, x-a\r\n",
            b"Connection: x-a\r\n",
            b"Content-Type: application/json\r\n",
            b"Expect: 100-continue\r\n",
            b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        )
    ),
    max_size=3,
).map(b"".join)


@st.composite
def _request(draw: st.DrawFn) -> bytes:
    path = draw(
        st.sampled_from((b"/v1/completions", b"/v1/completions?a=b", b"/v1/files", b"/v1/models"))
    )
    version = draw(st.sampled_from((b"1.1",) * 7 + (b"1.0",)))
    fields = b"Host: gateway\r\n" + draw(_FIELDS)
    kind = draw(st.sampled_from(("length", "length", "chunked", "chunked", "none", "head")))
    if kind == "length":
        return b"POST %b HTTP/%b\r\n%bContent-Length: %d\r\n\r\n%b" % (
            path,
            version,
            fields,
            len(_BODY),
            _BODY,
        )
    if kind == "chunked":
        body = draw(_chunked(_BODY))
        return b"POST %b HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n%b" % (path, fields, body)
    method = b"GET" if kind == "none" else draw(st.sampled_from((b"HEAD", b"OPTIONS", b"DELETE")))
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method, path, version, fields)


@st.composite
def _response(draw: st.DrawFn) -> bytes:
    body = draw(st.sampled_from((b'{"a":1}', b"", b"data: x\n\ndata: [DONE]\n\n", _BODY * 3)))
    status = draw(
        st.sampled_from(
            (
                b"200 OK",
                b"200 OK",
                b"200 OK",
                b"404 Not Found",
                b"503 Busy",
                b"204 No Content",
                b"304 Not Modified",
            )
        )
    )
    interim = draw(st.sampled_from((b"", b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n")))
    fields = draw(
        st.sampled_from(
            (b"", b"X-B: c\r\n", b"Connection: close\r\n", b"Connection: x-b\r\nX-B: c\r\n")
        )
    )
    if body.startswith(b"data"):
        fields += b"Content-Type: text/event-stream\r\n"
    head = interim + b"HTTP/1.1 %b\r\n%b" % (status, fields)
    kind = draw(st.sampled_from(("length", "chunked", "close")))
    if kind == "length":
        return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    if kind == "chunked":
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + draw(_chunked(body))
    return head + b"\r\n" + body


@st.composite
def _edited(draw: st.DrawFn, wire: bytes) -> bytes:
    at = draw(st.integers(0, len(wire)))
    length = draw(st.integers(1, 4))
    edit = draw(
        st.sampled_from(
            ("insert", "insert", "replace", "delete", "repeat", "line", "number", "case")
        )
    )
    if edit == "insert":
        return wire[:at] + draw(st.sampled_from(_TELLING)) + wire[at:]
    if edit == "replace":
        return wire[:at] + draw(st.sampled_from(_TELLING)) + wire[at + length :]
    if edit == "delete":
        return wire[:at] + wire[at + length :]
    if edit == "repeat":
        length = draw(st.integers(1, 80))
        return wire[: at + length] + wire[at:]
    if edit == "line":
        return draw(_with_line_edited(wire))
    if edit == "number":
        return draw(_with_number_changed(wire))
    return wire[:at] + wire[at : at + 12].swapcase() + wire[at + 12 :]


@st.composite
def _with_line_edited(draw: st.DrawFn, wire: bytes) -> bytes:
    lines = wire.splitlines(keepends=True)
    if not lines:
        return wire
    one = draw(st.integers(0, len(lines) - 1))
    other = draw(st.integers(0, len(lines) - 1))
    edit = draw(st.sampled_from(("duplicate", "delete", "swap", "add")))
    if edit == "duplicate":
        lines.insert(other, lines[one])
    elif edit == "delete":
        del lines[one]
    elif edit == "swap":
        lines[one], lines[other] = lines[other], lines[one]
    else:
        lines.insert(one, draw(st.sampled_from(_TELLING)))
    return b"".join(lines)


@st.composite
def _with_number_changed(draw: st.DrawFn, wire: bytes) -> bytes:
    starts = [
        at
        for at in range(len(wire))
        if wire[at : at + 1].isdigit() and not wire[at - 1 : at].isdigit()
    ]
    if not starts:
        return wire
    at = to = draw(st.sampled_from(starts))
    while wire[to : to + 1].isdigit():
        to += 1
    return wire[:at] + draw(st.sampled_from(_NUMBERS)) + wire[to:]


@st.composite
def _mutated(draw: st.DrawFn, wire: bytes) -> Said:
    for _ in range(draw(st.sampled_from((0, 1, 1, 1, 2, 2, 3, 5)))):
        wire = draw(_edited(wire))
    cuts = draw(st.lists(st.integers(0, max(1, len(wire))), max_size=3))
    return Said(wire, tuple(cuts), draw(st.booleans()))


@st.composite
def _cut(draw: st.DrawFn, wire: bytes) -> Said:
    return Said(wire, tuple(draw(st.lists(st.integers(0, len(wire)), max_size=6))))


_connections = st.lists(_request(), min_size=1, max_size=3).map(b"".join)

client_inputs: st.SearchStrategy[Said] = _connections.flatmap(_mutated)
"""All that one client says on a connection: one to three requests, mutated as a whole."""

honest_inputs: st.SearchStrategy[Said] = _connections.flatmap(_cut)
"""The same without mutation, in any pieces."""

endpoint_outputs: st.SearchStrategy[Said] = _response().flatmap(_mutated)
"""What an endpoint says to one request, mutated."""
