"""Methods, other protocols, Expect, keep-alive and pipelining."""

from tests.support.rawcases.case import (
    BODY,
    LAST,
    SMUGGLED,
    RawCase,
    Seen,
    chunk,
    chunked,
    post,
    refused,
    served,
    sized,
)

_OK = frozenset({200})
_CONTINUE = frozenset({100})
_MODELS = b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\n\r\n"

_TLS = (  # a ClientHello of TLS 1.3 as far as any server reads before it answers
    b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(range(32)) + b"\x00\x00\x06\x13\x01"
    b"\x13\x02\x13\x03\x01\x00" + b"\x00" * 60
)
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def _method(name: str, method: bytes, *statuses: int, keeps: bool | None = None) -> RawCase:
    wire = b"%b /v1/completions HTTP/1.1\r\nHost: gateway\r\n\r\n" % method
    return RawCase(name, wire, (frozenset(statuses),), keeps=keeps)


_METHODS = (
    _method("unknown method", b"FROB", 400, 405, keeps=False),
    _method("lower-case method", b"post", 400, keeps=False),
    _method("mixed-case method", b"Post", 400, keeps=False),
    _method("method with a control byte", b"PO\x01ST", 400, keeps=False),
    _method("method with a colon", b"PO:ST", 400, keeps=False),
    _method("no method", b"", 400, keeps=False),
    _method("TRACE", b"TRACE", 400, 405),
    _method("PROPFIND", b"PROPFIND", 400, 405),
    _method("SOURCE", b"SOURCE", 400, 405),
    _method("GET on a POST's path", b"GET", 405, keeps=True),
    refused("CONNECT", b"CONNECT gateway:443 HTTP/1.1\r\nHost: gateway:443\r\n\r\n", 400, 405),
    refused("CONNECT with a path", b"CONNECT /v1/models HTTP/1.1\r\nHost: g\r\n\r\n", 400, 405),
    refused(
        "CONNECT with bytes for the tunnel",
        b"CONNECT gateway:443 HTTP/1.1\r\nHost: gateway:443\r\n\r\n" + SMUGGLED,
        400,
        405,
    ),
    RawCase("HEAD", _MODELS.replace(b"GET", b"HEAD"), (_OK,), keeps=True, methods=(b"HEAD",)),
    RawCase(
        "OPTIONS",
        b"OPTIONS /v1/completions HTTP/1.1\r\nHost: gateway\r\n\r\n",
        (frozenset({200, 204}),),
        keeps=True,
        methods=(b"OPTIONS",),
    ),
    RawCase(
        "OPTIONS of everything",
        b"OPTIONS * HTTP/1.1\r\nHost: gateway\r\n\r\n",
        (frozenset({200, 204}),),
        keeps=True,
        methods=(b"OPTIONS",),
    ),
    RawCase(
        "OPTIONS with a body",
        b"OPTIONS /v1/models HTTP/1.1\r\nHost: gateway\r\nContent-Length: 2\r\n\r\n{}" + _MODELS,
        (frozenset({200, 204}), _OK),
        keeps=True,
        methods=(b"OPTIONS",),
    ),
    RawCase(
        "GET with a body",
        _MODELS.replace(
            b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n%b" % (len(SMUGGLED), SMUGGLED)
        )
        + _MODELS,
        (_OK, _OK),
        keeps=True,
    ),
    served(
        "a body that looks like a request",
        sized(body=b"--x\r\n\r\n" + SMUGGLED, path=b"/v1/audio/transcriptions"),
        Seen(b"/v1/audio/transcriptions", b"--x\r\n\r\n" + SMUGGLED),
    ),
)

_OTHER_PROTOCOLS = (
    refused("the HTTP/2 preface", _PREFACE, 400, 405),
    refused("a TLS ClientHello", _TLS),
    refused("an SSLv2 ClientHello", b"\x80\x2e\x01\x03\x01\x00\x15" + b"\x00" * 40),
    refused("an SSH banner", b"SSH-2.0-OpenSSH_9.6\r\n"),
    refused("the PROXY protocol", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + sized()),
    served(
        "Upgrade: h2c with a body",
        sized(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n"),
        Seen(),
    ),
    served(
        "Upgrade: h2c with a chunked body",
        chunked(chunk() + LAST, b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        Seen(),
    ),
    RawCase(
        "Upgrade: websocket",
        _MODELS.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        (_OK,),
        keeps=True,
    ),
    RawCase(
        "Upgrade: h2c before a pipelined request",
        sized(b"Connection: Upgrade\r\nUpgrade: h2c\r\n") + _MODELS,
        (_OK, _OK),
        keeps=True,
        seen=(Seen(),),
    ),
    served(
        "Upgrade with close",
        sized(b"Connection: Upgrade, close\r\nUpgrade: h2c\r\n") + SMUGGLED,
        Seen(),
        keeps=False,
    ),
    served(
        "Upgrade with fields that Connection names",
        sized(b"Connection: Upgrade, x-a\r\nX-A: 1\r\nX-B: 2\r\nUpgrade: h2c\r\n"),
        Seen(fields=((b"x-b", b"2"),)),
    ),
    RawCase(
        "Upgrade in HTTP/1.0 without Host",
        b"GET /v1/models HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        (_OK,),
        keeps=False,
    ),
    RawCase(
        "Upgrade after a request",
        sized() + sized(b"Connection: Upgrade\r\nUpgrade: h2c\r\n") + sized(),
        (_OK, _OK, _OK),
        keeps=True,
        seen=(Seen(), Seen(), Seen()),
    ),
    refused(
        "Upgrade with two lengths",
        post(
            b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\nContent-Length: 32\r\n",
            BODY,
        ),
    ),
    refused(
        "Upgrade with length and coding",
        post(
            b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\n",
            LAST + SMUGGLED,
        ),
    ),
    refused(
        "Upgrade with another coding",
        post(b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: gzip\r\n", SMUGGLED),
    ),
)


def _expecting(value: bytes, *, version: bytes = b"HTTP/1.1", extra: bytes = b"") -> bytes:
    fields = b"Expect: %b\r\nContent-Length: %d\r\n" % (value, len(BODY))
    return post(fields + extra, BODY, version=version)


_EXPECT = (
    RawCase("Expect", _expecting(b"100-continue"), (_CONTINUE, _OK), True, (Seen(),)),
    RawCase("Expect in capitals", _expecting(b"100-Continue"), (_CONTINUE, _OK), True, (Seen(),)),
    # RFC 9110 section 10.1.1 allows 417 or ignoring it; it is ignored, and not passed on.
    served("an unknown expectation", _expecting(b"bananas"), Seen()),
    served(
        "Expect in HTTP/1.0", _expecting(b"100-continue", version=b"HTTP/1.0"), Seen(), keeps=False
    ),
    refused(
        "Expect before a body too large",
        post(b"Expect: 100-continue\r\nContent-Length: 99999999999\r\n"),
        413,
    ),
    refused(
        "Expect with doubtful framing",
        _expecting(b"100-continue", extra=b"Transfer-Encoding: chunked\r\n"),
    ),
)


def _old(fields: bytes = b"") -> bytes:
    return post(b"Content-Length: %d\r\n" % len(BODY) + fields, BODY, version=b"HTTP/1.0")


_KEEPING = (
    served("Connection: close", sized(b"Connection: close\r\n"), Seen(), keeps=False),
    served("Connection: CLOSE", sized(b"Connection: CLOSE\r\n"), Seen(), keeps=False),
    served("close among others", sized(b"Connection: x, close\r\n"), Seen(), keeps=False),
    served("HTTP/1.0", _old(), Seen(), keeps=False),
    served("HTTP/1.0 with keep-alive", _old(b"Connection: keep-alive\r\n"), Seen()),
    served("HTTP/1.0 without Host", _old().replace(b"Host: gateway\r\n", b""), Seen(), keeps=False),
    refused("HTTP/1.0 with two Hosts", _old(b"Host: evil\r\n")),
    served("nothing after close", sized(b"Connection: close\r\n") + SMUGGLED, Seen(), keeps=False),
    served("nothing after HTTP/1.0", _old() + SMUGGLED, Seen(), keeps=False),
)

_PIPELINES = (
    served("three in a row", sized() * 3, Seen(), Seen(), Seen()),
    served(
        "length, then chunks, then length",
        sized() + chunked(chunk() + b"0\r\na: b\r\n\r\n") + sized(b"c: d\r\n"),
        Seen(),
        Seen(),
        Seen(fields=((b"c", b"d"),)),
    ),
    RawCase(
        "bare LF between requests",
        sized() + b"\n" + sized(),
        (_OK, frozenset({400})),
        keeps=False,
        seen=(Seen(),),
    ),
    RawCase(
        "another protocol behind a request",
        sized() + b"GET /v1/models RTSP/1.1\r\nHost: gateway\r\n\r\n",
        (_OK, frozenset({400})),
        keeps=False,
        seen=(Seen(),),
    ),
    served("empty lines between requests", sized() + b"\r\n\r\n" + sized(), Seen(), Seen()),
    RawCase(
        "a good one, then a bad one",
        sized() + b"NONSENSE\r\n\r\n",
        (_OK, frozenset({400})),
        False,
        (Seen(),),
    ),
    RawCase(
        "a bad one, then a good one",
        post(b"Content-Length: 5, 5\r\n", b"xxxxx") + sized(),
        (frozenset({400}),),
        keeps=False,
    ),
    RawCase(
        "a body longer than its length",
        sized() + b"xx" + sized(),
        (_OK, frozenset({400})),
        keeps=False,
        seen=(Seen(),),
    ),
    RawCase(
        "a good one, then two lengths",
        sized() + post(b"Content-Length: 1\r\nContent-Length: 2\r\n", b"xx") + sized(),
        (_OK, frozenset({400})),
        keeps=False,
        seen=(Seen(),),
    ),
    RawCase(
        "a refused path, then a good one",
        sized(path=b"/v1/nothing%20here") + sized(),
        (frozenset({400, 404}), _OK),
        keeps=True,
        seen=(Seen(),),
    ),
    RawCase("more than are read ahead", sized() * 40, (_OK,) * 40, True, (Seen(),) * 40),
)

CONNECTION_CASES: tuple[RawCase, ...] = (
    *_METHODS,
    *_OTHER_PROTOCOLS,
    *_EXPECT,
    *_KEEPING,
    *_PIPELINES,
)
