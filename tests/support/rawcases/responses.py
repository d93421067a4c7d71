"""What an endpoint says, and what the client must get of it.

Endpoints are less hostile than clients and no less broken. What cannot be read is an answer
of 502 as long as nothing was relayed; nothing an endpoint writes outside of its response may
reach this client or, on a reused connection, the next one.
"""

from dataclasses import dataclass

from bench.fuzz.server import Answer

SAID = b'{"answer":42}'


@dataclass(frozen=True, slots=True)
class ResponseCase:
    """What an endpoint says and what the client gets for it.

    ``body``: None leaves it open (the gateway's own errors). ``passed``: the endpoint's fields
    that must reach the client, ``kept_out``: names that must not. ``reused``: whether the next
    request may travel on the same connection; None leaves it open.
    """

    name: str
    answer: Answer
    status: int
    body: bytes | None = None
    passed: tuple[tuple[bytes, bytes], ...] = ()
    kept_out: tuple[bytes, ...] = ()
    reused: bool | None = None
    method: bytes = b"POST"


def _answer(head: bytes, body: bytes = SAID, *, closes: bool = False) -> Answer:
    return Answer((b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body,), closes)


def _sized(fields: bytes = b"", body: bytes = SAID, *, more: bytes = b"") -> Answer:
    return _answer(b"Content-Length: %d\r\n%b" % (len(body), fields), body + more)


def _chunked(body: bytes, fields: bytes = b"") -> Answer:
    return _answer(b"Transfer-Encoding: chunked\r\n" + fields, body)


_WHOLE = b"d\r\n" + SAID + b"\r\n"
_N = b"Content-Length: %d\r\n" % len(SAID)


def _fine(
    name: str,
    answer: Answer,
    *,
    reused: bool | None = True,
    body: bytes = SAID,
    passed: tuple[tuple[bytes, bytes], ...] = (),
    kept_out: tuple[bytes, ...] = (),
) -> ResponseCase:
    return ResponseCase(name, answer, 200, body, passed, kept_out, reused)


def _bad(name: str, answer: Answer) -> ResponseCase:
    return ResponseCase(name, answer, 502, kept_out=(b"x-evil",), reused=False)


def _field(name: str, line: bytes) -> ResponseCase:
    return _bad(name, _sized(line))


_READ = (
    _fine("a length", _sized()),
    _fine("chunks", _chunked(_WHOLE + b"0\r\n\r\n")),
    _fine("chunk extensions", _chunked(b"d;a=b\r\n" + SAID + b"\r\n0;c\r\n\r\n")),
    _fine("the end of the connection", _answer(b"", closes=True), reused=False),
    _fine(
        "HTTP/1.0 and the end of the connection",
        Answer((b"HTTP/1.0 200 OK\r\n\r\n" + SAID,), closes=True),
        reused=False,
    ),
    _fine(
        "HTTP/1.0 with a length",
        Answer((b"HTTP/1.0 200 OK\r\n" + _N + b"\r\n" + SAID,)),
        reused=False,
    ),
    _fine("Connection: close", _answer(b"Connection: close\r\n" + _N, closes=True), reused=False),
    _fine("an empty reason", Answer((b"HTTP/1.1 200 \r\n" + _N + b"\r\n" + SAID,))),
    _fine("fields of its own", _sized(b"X-Own: a\r\n"), passed=((b"x-own", b"a"),)),
)

_INTERIM = (
    _fine(
        "100 before the response", Answer((b"HTTP/1.1 100 Continue\r\n\r\n" + _sized().pieces[0],))
    ),
    _fine(
        "103 before the response",
        Answer(
            (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nX-Evil: 1\r\n\r\n" + _sized().pieces[0],)
        ),
        kept_out=(b"link", b"x-evil"),
    ),
    _fine(
        "three interim responses, in another read",
        Answer((b"HTTP/1.1 102 Processing\r\nX-Evil: 1\r\n\r\n" * 3, _sized().pieces[0])),
        kept_out=(b"x-evil",),
    ),
    _bad(
        "101 that nobody asked for",
        Answer(
            (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw",)
        ),
    ),
    _bad(
        "an interim response with a body",
        Answer((b"HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\nhi" + _sized().pieces[0],)),
    ),
)

_TRAILERS = (
    _fine(
        "trailers in the same read",
        _chunked(_WHOLE + b"0\r\nX-Evil: 1\r\nSet-Cookie: a\r\n\r\n"),
        kept_out=(b"x-evil", b"set-cookie"),
    ),
    _fine(
        "trailers in another read",
        Answer((*_chunked(_WHOLE + b"0\r\n").pieces, b"X-Evil: 1\r\n\r\n")),
        kept_out=(b"x-evil",),
    ),
    _fine(
        "trailers after no body",
        _chunked(b"0\r\nX-Evil: 1\r\n\r\n"),
        body=b"",
        kept_out=(b"x-evil",),
    ),
    _bad("a length in a trailer", _chunked(_WHOLE + b"0\r\nContent-Length: 3\r\n\r\n")),
    _fine(
        "Connection: close in a trailer",
        _chunked(_WHOLE + b"0\r\nConnection: close\r\n\r\n"),
        reused=None,
    ),
    _bad("a trailer that is none", _chunked(b"0\r\nnonsense\r\n\r\n")),
)

_FRAMING = (
    _bad(
        "length and chunks", _answer(_N + b"Transfer-Encoding: chunked\r\n", _WHOLE + b"0\r\n\r\n")
    ),
    _bad(
        "chunks and length", _answer(b"Transfer-Encoding: chunked\r\n" + _N, _WHOLE + b"0\r\n\r\n")
    ),
    _bad("two lengths", _answer(_N + b"Content-Length: 5\r\n")),
    _bad("two equal lengths", _answer(_N + _N)),
    _bad("a list of lengths", _answer(b"Content-Length: 13, 13\r\n")),
    _bad("a signed length", _answer(b"Content-Length: +13\r\n")),
    _bad("a negative length", _answer(b"Content-Length: -13\r\n")),
    _bad("a length in hex", _answer(b"Content-Length: 0xd\r\n")),
    _bad("an empty length", _answer(b"Content-Length:\r\n")),
    _bad("a length of 2^64", _answer(b"Content-Length: 18446744073709551616\r\n")),
    _bad("gzip, chunked", _answer(b"Transfer-Encoding: gzip, chunked\r\n", _WHOLE + b"0\r\n\r\n")),
    _bad(
        "chunked twice", _answer(b"Transfer-Encoding: chunked, chunked\r\n", _WHOLE + b"0\r\n\r\n")
    ),
    _bad(
        "chunked in two fields",
        _answer(b"Transfer-Encoding: chunked\r\n" * 2, _WHOLE + b"0\r\n\r\n"),
    ),
    _bad("identity", _answer(b"Transfer-Encoding: identity\r\n", closes=True)),
    _bad("xchunked", _answer(b"Transfer-Encoding: xchunked\r\n", _WHOLE + b"0\r\n\r\n")),
    _bad(
        "chunks in HTTP/1.0",
        Answer(
            (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + _WHOLE + b"0\r\n\r\n",),
            closes=True,
        ),
    ),
    _bad("a chunk size that is none", _chunked(b"zz\r\n")),
    _bad("a chunk size with 0x", _chunked(b"0xd\r\n" + SAID + b"\r\n0\r\n\r\n")),
    _bad("a chunk size of 2^64", _chunked(b"1000000000000000d\r\n" + SAID)),
    _bad("a chunk size before bare LF", _chunked(b"d\n" + SAID + b"\r\n0\r\n\r\n")),
    _bad("the end before the length", Answer((_sized().pieces[0][:-13],), closes=True)),
    _bad("the end before the first chunk", Answer((_chunked(b"").pieces[0],), closes=True)),
    _bad("the end within the head", Answer((b"HTTP/1.1 200 OK\r\nContent-Le",), closes=True)),
    _bad("the end at once", Answer((), closes=True)),
)

_HEADS = (
    _fine(
        "fields that two Connections name",
        _sized(b"Connection: x-evil\r\nX-Evil: 1\r\nX-B: 2\r\nConnection: keep-alive, x-b\r\n"),
        kept_out=(b"x-evil", b"x-b"),
    ),
    _bad("no HTTP", Answer((b"SSH-2.0-OpenSSH\r\n",))),
    _bad("a request", Answer((b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",))),
    _bad("HTTP/2.0", Answer((b"HTTP/2.0 200 OK\r\n" + _N + b"\r\n" + SAID,))),
    _bad("a status of two digits", Answer((b"HTTP/1.1 20 OK\r\n" + _N + b"\r\n" + SAID,))),
    _bad("a status of four digits", Answer((b"HTTP/1.1 2000 OK\r\n" + _N + b"\r\n" + SAID,))),
    _bad("a status that is no number", Answer((b"HTTP/1.1 abc OK\r\n" + _N + b"\r\n" + SAID,))),
    _field("bare LF in a value", b"a: b\nx-evil: 1\r\n"),
    _field("bare CR in a value", b"a: b\rx-evil: 1\r\n"),
    _field("NUL in a value", b"a: b\x00x\r\n"),
    _field("control byte in a value", b"a: b\x01x\r\n"),
    _field("a folded value", b"a: b\r\n x-evil: 1\r\n"),
    _field("a space before the colon", b"x-evil : 1\r\n"),
    _field("a space in a name", b"x evil: 1\r\n"),
    _field("an empty name", b": 1\r\n"),
    _field("no colon", b"x-evil\r\n"),
    _fine(
        "fields that end at this hop",
        _sized(
            b"Connection: keep-alive, x-evil\r\nX-Evil: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\n"
            b"Proxy-Authenticate: x\r\nTrailer: x\r\nTE: x\r\n"
        ),
        kept_out=(b"x-evil", b"keep-alive", b"upgrade", b"proxy-authenticate", b"trailer", b"te"),
    ),
)


def _empty(name: str, status: int, answer: bytes, reused: bool | None) -> ResponseCase:
    return ResponseCase(name, Answer((answer,)), status, b"", (), (b"x-evil",), reused)


_EVIL = b"HTTP/1.1 200 OK\r\nX-Evil: 1\r\nContent-Length: 4\r\n\r\nevil"

_LEFTOVERS = (
    _empty("204", 204, b"HTTP/1.1 204 No Content\r\n\r\n", reused=True),
    _empty(
        "204 with a body",
        204,
        b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil",
        reused=False,
    ),
    _empty(
        "204 with chunks",
        204,
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
        reused=False,
    ),
    _empty("304", 304, b"HTTP/1.1 304 Not Modified\r\n\r\n", reused=True),
    _empty(
        "304 with a length",
        304,
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n",
        reused=None,
    ),
    _empty(
        "304 with a body",
        304,
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil",
        reused=False,
    ),
    # Bytes behind the length in one read with it: the length is wrong, so the body may be, too.
    _bad("a second response at once", _sized(more=_EVIL)),
    _fine(
        "a second response in another read",
        Answer((*_sized().pieces, _EVIL)),
        reused=False,
        kept_out=(b"x-evil",),
    ),
    _bad("half a response after the first", _sized(more=_EVIL[:20])),
    _bad("an interim response after the first", _sized(more=b"HTTP/1.1 100 Continue\r\n\r\n")),
    _bad("bytes after the length", _sized(more=b"evil")),
    _bad("a length that is too small", _answer(b"Content-Length: 5\r\n")),
    _bad("a length of nothing", _answer(b"Content-Length: 0\r\n")),
    _fine("line ends after the length", _sized(more=b"\r\n\r\n"), reused=None),
    _fine("bytes after the last chunk", _chunked(_WHOLE + b"0\r\n\r\nevil"), reused=False),
    _bad(
        "bytes after Connection: close",
        Answer((_sized(b"Connection: close\r\n").pieces[0] + _EVIL,), closes=True),
    ),
    ResponseCase(
        "HEAD with a length",
        Answer((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",)),
        200,
        b"",
        method=b"HEAD",
        reused=None,
    ),
    ResponseCase("HEAD with a body", _sized(), 200, b"", method=b"HEAD", reused=False),
    ResponseCase(
        "HEAD with chunks announced", _chunked(b""), 200, b"", method=b"HEAD", reused=None
    ),
)

RESPONSE_CASES: tuple[ResponseCase, ...] = (
    *_READ,
    *_INTERIM,
    *_TRAILERS,
    *_FRAMING,
    *_HEADS,
    *_LEFTOVERS,
)
