"""Which fields pass to the server and which end at this hop; requests with little or no body."""

from tests.support.rawcases.case import RawCase, Seen, post, served, sized

FIELD_CASES: tuple[RawCase, ...] = (
    served(
        "hop-by-hop fields",
        sized(
            b"TE: trailers\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTrailer: a\r\nUpgrade: x\r\n"
            b"Proxy-Authorization: x\r\nA: b\r\n"
        ),
        Seen(fields=((b"a", b"b"),)),
    ),
    served(
        "fields that Connection names",
        sized(
            b"Connection: keep-alive, X-A,x-b ,\tx-c\r\nX-A: 1\r\nx-b: 2\r\nx-C: 3\r\nx-d: 4\r\n"
        ),
        Seen(fields=((b"x-d", b"4"),)),
    ),
    served(
        "fields that two Connections name",
        sized(b"Connection: x-a\r\nX-A: 1\r\nX-B: 2\r\nConnection: keep-alive, x-b\r\n"),
        Seen(),
    ),
    served(
        "close in the first of two Connections",
        sized(b"Connection: close\r\nConnection: x-a\r\nX-A: 1\r\n"),
        Seen(),
        keeps=False,
    ),
    served(
        "a short name that Connection names",
        sized(b"Connection: x-a\r\nX-A: 1\r\nx-d: 4\r\n"),
        Seen(fields=((b"x-d", b"4"),)),
    ),
    served(
        "Connection names the framing",
        sized(b"Connection: content-length, host, transfer-encoding\r\n"),
        Seen(),
    ),
    served(
        "fields that only the gateway sets",
        sized(
            b"x-prefiller-host-port: evil:1\r\nX-Prefiller-Host-Port: evil:2\r\n"
            b"x-gateway-destination-endpoint: evil:3\r\nx_prefiller_host_port: evil:4\r\n"
            b"x-gateway-destination-endpoint-served: evil:5\r\n"
            b"x-data-parallel-host-port: evil:6\r\n"
        ),
        Seen(),
    ),
    served(
        "an underscore in a framing field",
        sized(b"Content_Length: 3\r\nTransfer_Encoding: x\r\n"),
        Seen(),
    ),
    served(
        "order and repetition are kept",
        sized(b"a: 1\r\nb: 2\r\nA: 3\r\n"),
        Seen(fields=((b"a", b"1"), (b"b", b"2"), (b"a", b"3"))),
    ),
    served(
        "a body without a path of its own",
        sized(body=b"{}", path=b"/v1/files"),
        Seen(b"/v1/files", b"{}"),
    ),
    served(
        "DELETE without a body",
        b"DELETE /v1/files/a HTTP/1.1\r\nHost: gateway\r\n\r\n",
        Seen(b"/v1/files/a", b"", b"DELETE"),
        methods=(b"DELETE",),
    ),
    served(
        "an empty body", post(b"Content-Length: 0\r\n", path=b"/v1/files"), Seen(b"/v1/files", b"")
    ),
    served("no framing is no body", post(b"", path=b"/v1/files"), Seen(b"/v1/files", b"")),
    RawCase(
        "no framing, yet bytes",
        post(b"", b"{}", path=b"/v1/files"),
        (frozenset({200}), frozenset({400})),
        False,
        (Seen(b"/v1/files", b""),),
    ),
)
