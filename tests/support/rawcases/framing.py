"""Where a request's body ends: lengths, transfer codings, chunks, trailers, limits."""

from tests.support.rawcases.case import (
    BODY,
    LARGEST_BODY,
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

N = len(BODY)
CL = b"Content-Length: %d\r\n" % N
TE = b"Transfer-Encoding: chunked\r\n"


def _length(name: str, value: bytes, body: bytes = BODY) -> RawCase:
    return refused(name, post(b"Content-Length: %b\r\n" % value, body))


_LENGTHS = (
    served("one Content-Length", post(CL, BODY), Seen()),
    served(
        "Content-Length with spaces around", post(b"Content-Length: \t%d \r\n" % N, BODY), Seen()
    ),
    served(
        "Content-Length with leading zeros", post(b"Content-Length: 00%d\r\n" % N, BODY), Seen()
    ),
    refused("conflicting Content-Length", post(CL + b"Content-Length: 5\r\n", BODY)),
    refused("conflicting Content-Length, short first", post(b"Content-Length: 5\r\n" + CL, BODY)),
    refused("repeated equal Content-Length", post(CL + CL, BODY)),
    _length("Content-Length as a list", b"%d, %d" % (N, N)),
    _length("Content-Length as a list without spaces", b"%d,%d" % (N, N)),
    _length("Content-Length with a plus", b"+%d" % N),
    _length("Content-Length with a minus", b"-%d" % N),
    _length("Content-Length in hex", b"0x%x" % N),
    _length("Content-Length with hex digits", b"1f"),
    _length("Content-Length with a fraction", b"%d.0" % N),
    _length("Content-Length with an exponent", b"1e1"),
    _length("Content-Length with a space inside", b"3 2"),
    _length("Content-Length with an underscore", b"3_2"),
    _length("Content-Length in other digits", "٣٢".encode()),
    _length("empty Content-Length", b""),
    _length("blank Content-Length", b" \t "),
    _length("Content-Length of 2^64", b"18446744073709551616"),
    _length("Content-Length of 2^64 + the body's", b"%d" % ((1 << 64) + N)),
    refused("Content-Length of 2^63", post(b"Content-Length: 9223372036854775808\r\n"), 400, 413),
    _length("Content-Length of a hundred digits", b"1" * 100),
    _length("Content-Length of ten thousand zeros", b"0" * 6000 + b"x"),
)

_LENGTH_AND_CODING = (
    refused("Content-Length, then chunked", chunked(chunk() + LAST, CL)),
    refused("chunked, then Content-Length", post(CL + TE, chunk() + LAST)),
    refused("chunked ends before Content-Length does", post(CL + TE, LAST + SMUGGLED)),
    refused(
        "Content-Length ends before chunked does",
        post(b"Content-Length: 4\r\n" + TE, chunk(SMUGGLED) + LAST),
    ),
    refused("Content-Length: 0 with chunked", post(b"Content-Length: 0\r\n" + TE, chunk() + LAST)),
)


def _coding(name: str, value: bytes) -> RawCase:
    return refused(name, post(b"Transfer-Encoding: %b\r\n" % value, chunk() + LAST))


_CODINGS = (
    served("chunked", chunked(chunk(BODY[:5]) + chunk(BODY[5:]) + LAST), Seen()),
    served("chunked in capitals", post(b"Transfer-Encoding: CHUNKED\r\n", chunk() + LAST), Seen()),
    _coding("gzip", b"gzip"),
    _coding("gzip, chunked", b"gzip, chunked"),
    _coding("chunked, gzip", b"chunked, gzip"),
    _coding("chunked, chunked", b"chunked, chunked"),
    _coding("chunked, identity", b"chunked, identity"),
    _coding("identity", b"identity"),
    _coding("identity, chunked", b"identity, chunked"),
    _coding("xchunked", b"xchunked"),
    _coding("chunkedx", b"chunkedx"),
    _coding("chunked with a parameter", b"chunked;q=1"),
    _coding("quoted chunked", b'"chunked"'),
    _coding("a comma before chunked", b", chunked"),
    _coding("a comma after chunked", b"chunked,"),
    _coding("empty Transfer-Encoding", b""),
    _coding("vertical tab before chunked", b"\x0bchunked"),
    _coding("vertical tab after chunked", b"chunked\x0b"),
    _coding("form feed before chunked", b"\x0cchunked"),
    _coding("NUL after chunked", b"chunked\x00"),
    _coding("no-break space before chunked", b"\xa0chunked"),
    refused("two Transfer-Encoding fields", post(TE + TE, chunk() + LAST)),
    refused("gzip and chunked in two fields", post(b"Transfer-Encoding: gzip\r\n" + TE, LAST)),
    refused(
        "chunked and identity in two fields", post(TE + b"Transfer-Encoding: identity\r\n", LAST)
    ),
    refused(
        "space before the colon of Transfer-Encoding",
        post(b"Transfer-Encoding : chunked\r\n", chunk() + LAST),
    ),
    refused(
        "folded Transfer-Encoding", post(b"Transfer-Encoding:\r\n chunked\r\n", chunk() + LAST)
    ),
    refused("Transfer-Encoding in HTTP/1.0", post(TE, chunk() + LAST, version=b"HTTP/1.0")),
    refused(
        "Transfer-Encoding in HTTP/1.0 with keep-alive",
        post(TE + b"Connection: keep-alive\r\n", chunk() + LAST, version=b"HTTP/1.0"),
    ),
    refused(
        "Transfer-Encoding on a GET in HTTP/1.0",
        b"GET /v1/models HTTP/1.0\r\nHost: g\r\n%b\r\n0\r\n\r\n" % TE,
    ),
)


def _size(name: str, line: bytes) -> RawCase:
    return refused(name, chunked(line + b"\r\n" + BODY + b"\r\n" + LAST))


_CHUNKS = (
    served("chunk size in capitals", chunked(b"0020\r\n" + BODY + b"\r\n" + LAST), Seen()),
    _size("no chunk size", b""),
    _size("chunk size with a plus", b"+20"),
    _size("chunk size with a minus", b"-20"),
    _size("chunk size with 0x", b"0x20"),
    _size("chunk size that is no number", b"zz"),
    _size("chunk size after a space", b" 20"),
    _size("chunk size after a tab", b"\t20"),
    _size("chunk size before a space", b"20 "),
    _size("chunk size with a space inside", b"2 0"),
    _size("chunk size with an underscore", b"2_0"),
    _size("chunk size of 2^64", b"10000000000000000"),
    _size("chunk size of 2^64 + the body's", b"10000000000000020"),
    _size("chunk size before NUL", b"20\x00"),
    refused("chunk size before bare LF", chunked(b"20\n" + BODY + b"\r\n" + LAST)),
    refused("chunk size before bare CR", chunked(b"20\r" + BODY + b"\r\n" + LAST)),
    refused("chunk data before bare LF", chunked(b"20\r\n" + BODY + b"\n" + LAST)),
    refused("chunk data before bare CR", chunked(b"20\r\n" + BODY + b"\r" + LAST)),
    refused("chunk data without terminator", chunked(b"20\r\n" + BODY + LAST)),
    refused("chunk data longer than its size", chunked(b"1f\r\n" + BODY + b"\r\n" + LAST)),
    refused("chunk data of two bytes where CRLF belongs", chunked(b"20\r\n" + BODY + b"xx" + LAST)),
    refused("last chunk before bare LF", chunked(chunk() + b"0\n\r\n")),
    refused("body ended by bare LF", chunked(chunk() + b"0\r\n\n")),
    refused("body ended by bare CR", chunked(chunk() + b"0\r\n\rX")),
    served("chunk extension", chunked(b'20;a=b;c="d"\r\n' + BODY + b"\r\n0;e\r\n\r\n"), Seen()),
    refused("bare LF in a chunk extension", chunked(b"20;a\n" + BODY + b"\r\n" + LAST)),
    refused("bare CR in a chunk extension", chunked(b"20;a\rb\r\n" + BODY + b"\r\n" + LAST)),
    refused("NUL in a chunk extension", chunked(b"20;a\x00b\r\n" + BODY + b"\r\n" + LAST)),
    refused("endless chunk extension", chunked(b"20;" + b"a" * 70_000), 400, 413, 431),
)


def _trailers(name: str, trailers: bytes) -> RawCase:
    return served(name, chunked(chunk() + b"0\r\n" + trailers + b"\r\n"), Seen())


_TRAILERS = (
    _trailers("trailers are dropped", b"x-checksum: 1\r\nx-more: 2\r\n"),
    refused("Content-Length in a trailer", chunked(chunk() + b"0\r\nContent-Length: 3\r\n\r\n")),
    refused("Transfer-Encoding in a trailer", chunked(chunk() + b"0\r\n" + TE + b"\r\n")),
    _trailers("Host in a trailer", b"Host: evil\r\n"),
    _trailers("the prefill server in a trailer", b"x-prefiller-host-port: 10.0.0.1:80\r\n"),
    _trailers("Authorization in a trailer", b"authorization: Bearer stolen\r\n"),
    RawCase(
        "Connection in a trailer",
        chunked(chunk() + b"0\r\nConnection: close\r\n\r\n"),
        (frozenset({200}),),
        keeps=None,
        seen=(Seen(),),
    ),
    refused("trailer without colon", chunked(chunk() + b"0\r\nnonsense\r\n\r\n")),
    refused("trailer with a space before the colon", chunked(chunk() + b"0\r\na : b\r\n\r\n")),
    refused("trailer with NUL", chunked(chunk() + b"0\r\na: b\x00c\r\n\r\n")),
    refused("trailer before bare LF", chunked(chunk() + b"0\r\na: b\n\r\n")),
    refused("folded trailer", chunked(chunk() + b"0\r\na: b\r\n c\r\n\r\n")),
    refused("too many trailers", chunked(chunk() + b"0\r\n" + b"a: b\r\n" * 5000), 400, 431),
)

_LIMITS = (
    refused(
        "body too large by its length", post(b"Content-Length: %d\r\n" % (LARGEST_BODY + 1)), 413
    ),
    refused("body too large in one chunk", chunked(b"%x\r\n" % (1 << 20) + b"x" * 100_000), 413),
    refused("body too large in many chunks", chunked(chunk(b"x" * 1000) * 80), 413),
    RawCase(
        "JSON nested too deeply",
        sized(body=b'{"model":"sim-8b","prompt":"hi","x":' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
        (frozenset({400}),),
        keeps=None,
    ),
    RawCase(
        "JSON objects nested too deeply",
        sized(body=b'{"model":"sim-8b","prompt":"hi","x":' + b'{"a":' * 8000 + b"1" + b"}" * 8001),
        (frozenset({400}),),
        keeps=None,
    ),
)

FRAMING_CASES: tuple[RawCase, ...] = (
    *_LENGTHS,
    *_LENGTH_AND_CODING,
    *_CODINGS,
    *_CHUNKS,
    *_TRAILERS,
    *_LIMITS,
)
