"""What a request head is made of: its line, names, values, Host, version, size."""

from tests.support.rawcases.case import (
    BODY,
    LARGEST_HEAD,
    MOST_HEADERS,
    PATH,
    RawCase,
    Seen,
    post,
    refused,
    served,
    sized,
)

_EITHER = (frozenset({200, 400}),)


def _field(name: str, line: bytes) -> RawCase:
    return refused(name, sized(line + b"\r\n"))


_LINES = (
    refused("bare LF after the request line", sized().replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n")),
    refused("bare CR after the request line", sized().replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r")),
    refused("bare LF between fields", sized(b"a: b\nc: d\r\n")),
    refused("bare CR between fields", sized(b"a: b\rc: d\r\n")),
    refused("bare LF everywhere", sized().replace(b"\r\n", b"\n")),
    refused("bare LF at the head's end", sized().replace(b"\r\n\r\n", b"\r\n\n")),
    refused("bare CR at the head's end", sized().replace(b"\r\n\r\n", b"\r\n\rx")),
    refused("CR CR LF after a field", sized(b"a: b\r\r\n")),
    _field("obs-fold with a space", b"a: b\r\n c"),
    _field("obs-fold with a tab", b"a: b\r\n\tc"),
    _field("obs-fold of an empty value", b"a:\r\n b"),
    refused("obs-fold before the first field", b"POST /v1/completions HTTP/1.1\r\n a: b\r\n\r\n"),
    refused("space before the first field", b"GET /v1/models HTTP/1.1\r\n Host: gateway\r\n\r\n"),
    refused("tab before the first field", b"GET /v1/models HTTP/1.1\r\n\tHost: gateway\r\n\r\n"),
    refused("leading space", b" " + sized()),
    refused("leading tab", b"\t" + sized()),
    refused("leading NUL", b"\x00" + sized()),
    refused("leading bare LF and space", b"\n " + sized()),
    refused("leading bare CR", b"\r" + sized()),
    refused("leading bare LF", b"\n" + sized()),
    # RFC 9112 section 3 lets a recipient take these for one space; nothing of it is forwarded.
    RawCase(
        "two spaces after the method", b"GET  /v1/models HTTP/1.1\r\nHost: g\r\n\r\n", _EITHER, None
    ),
    RawCase(
        "two spaces before the version",
        b"GET /v1/models  HTTP/1.1\r\nHost: g\r\n\r\n",
        _EITHER,
        None,
    ),
    refused("a tab after the method", b"GET\t/v1/models HTTP/1.1\r\nHost: g\r\n\r\n"),
    refused("a tab before the version", b"GET /v1/models\tHTTP/1.1\r\nHost: g\r\n\r\n"),
    served("an empty line before the request", b"\r\n" + sized(), Seen()),
)

_NAMES = (
    _field("space before the colon", b"a : b"),
    _field("tab before the colon", b"a\t: b"),
    _field("space inside a name", b"a b: c"),
    _field("empty name", b": b"),
    _field("no colon", b"nonsense"),
    _field("NUL in a name", b"a\x00b: c"),
    _field("control byte in a name", b"a\x01b: c"),
    _field("DEL in a name", b"a\x7fb: c"),
    _field("high byte in a name", b"a\xe9b: c"),
    _field("parenthesis in a name", b"a(b: c"),
    _field("slash in a name", b"a/b: c"),
    _field("brackets in a name", b"a[b]: c"),
    _field("quote in a name", b'a"b: c'),
    _field("backslash in a name", b"a\\b: c"),
    served(
        "every token sign in a name",
        sized(b"a!#$%&'*+-.^_`|~1: c\r\n"),
        Seen(fields=((b"a!#$%&'*+-.^_`|~1", b"c"),)),
    ),
)

_VALUES = (
    _field("NUL in a value", b"a: b\x00c"),
    _field("NUL at a value's end", b"a: b\x00"),
    _field("control byte in a value", b"a: b\x01c"),
    _field("backspace in a value", b"a: b\x08c"),
    _field("vertical tab in a value", b"a: b\x0bc"),
    _field("escape in a value", b"a: \x1b[31m"),
    _field("DEL in a value", b"a: b\x7fc"),
    served("tab inside a value", sized(b"a: b\tc\r\n"), Seen(fields=((b"a", b"b\tc"),))),
    served(
        "high bytes in a value",
        sized(b"a: caf\xc3\xa9\xff\r\n"),
        Seen(fields=((b"a", b"caf\xc3\xa9\xff"),)),
    ),
    served("empty value", sized(b"a:\r\n"), Seen(fields=((b"a", b""),))),
    served("spaces around a value", sized(b"a: \t b \t\r\n"), Seen(fields=((b"a", b"b"),))),
    served("no space before a value", sized(b"a:b\r\n"), Seen(fields=((b"a", b"b"),))),
)


def _host(name: str, lines: bytes) -> RawCase:
    return refused(
        name,
        b"POST %b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (PATH, lines, len(BODY), BODY),
    )


_HOSTS = (
    _host("no Host", b""),
    _host("two Hosts", b"Host: a\r\nHost: b\r\n"),
    _host("two equal Hosts", b"Host: a\r\nHost: a\r\n"),
    _host("empty Host", b"Host:\r\n"),
    _host("Host with userinfo", b"Host: user@gateway\r\n"),
    _host("Host with user and password", b"Host: user:secret@gateway:80\r\n"),
    _host("Host with a space", b"Host: gate way\r\n"),
    _host("Host with a tab", b"Host: gate\tway\r\n"),
    _host("Host with a path", b"Host: gateway/v1\r\n"),
    _host("Host with a query", b"Host: gateway?x\r\n"),
    _host("Host with a fragment", b"Host: gateway#x\r\n"),
    _host("Host with a scheme", b"Host: http://gateway\r\n"),
    _host("Host as a list", b"Host: a, b\r\n"),
    _host("Host with a word as port", b"Host: gateway:http\r\n"),
    _host("Host with a signed port", b"Host: gateway:+80\r\n"),
    _host("Host with two ports", b"Host: gateway:80:80\r\n"),
    _host("Host with an open bracket", b"Host: [::1\r\n"),
    _host("Host with a backslash", b"Host: gateway\\evil\r\n"),
    _host("Host with a high byte", b"Host: g\xe9teway\r\n"),
    _host("space before Host's colon", b"Host : gateway\r\n"),
    served("Host with spaces around", sized().replace(b"gateway", b"\t gateway \t"), Seen()),
    served("Host with a port", sized().replace(b"gateway", b"gateway:8080"), Seen()),
    served("Host in IPv6", sized().replace(b"gateway", b"[::1]:8080"), Seen()),
)


def _version(name: str, version: bytes) -> RawCase:
    return refused(name, b"GET /v1/models %b\r\nHost: gateway\r\n\r\n" % version)


_VERSIONS = (
    _version("HTTP/0.9", b"HTTP/0.9"),
    _version("HTTP/1.2", b"HTTP/1.2"),
    _version("HTTP/1.9", b"HTTP/1.9"),
    _version("HTTP/2.0", b"HTTP/2.0"),
    _version("HTTP/3", b"HTTP/3"),
    _version("HTTP/1", b"HTTP/1"),
    _version("HTTP/11", b"HTTP/11"),
    _version("HTTP/1.10", b"HTTP/1.10"),
    _version("HTTP/01.1", b"HTTP/01.1"),
    _version("HTTP/1,1", b"HTTP/1,1"),
    _version("lower-case http/1.1", b"http/1.1"),
    _version("Http/1.1", b"Http/1.1"),
    _version("HTTPS/1.1", b"HTTPS/1.1"),
    _version("ICE/1.0", b"ICE/1.0"),
    _version("RTSP/1.0", b"RTSP/1.0"),
    _version("ICE/1.1", b"ICE/1.1"),
    _version("RTSP/1.1", b"RTSP/1.1"),
    _version("no version but a space", b""),
    _version("a word after the version", b"HTTP/1.1 x"),
    _version("a space after the version", b"HTTP/1.1 "),
    _version("a NUL after the version", b"HTTP/1.1\x00"),
    refused("no version", b"GET /v1/models\r\n\r\n"),
    refused("no version, yet fields", b"GET /v1/models\r\nHost: gateway\r\n\r\n"),
    refused(
        "ICE with a method of its own", b"SOURCE /v1/models ICE/1.0\r\nHost: g\r\n\r\n", 400, 405
    ),
    refused(
        "RTSP with a method of its own",
        b"DESCRIBE /v1/models RTSP/1.0\r\nHost: g\r\n\r\n",
        400,
        405,
    ),
    refused("a version only", b"HTTP/1.1\r\nHost: g\r\n\r\n"),
    refused("a response", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
)

_LIMITS = (
    refused("one field too large", sized(b"a: %b\r\n" % (b"x" * LARGEST_HEAD)), 431),
    refused("one name too large", sized(b"%b: x\r\n" % (b"x" * LARGEST_HEAD)), 431),
    refused("many fields too large", sized(b"a: %b\r\n" % (b"x" * 200) * 60), 431),
    refused("an endless field", post(b"a: " + b"x" * 5 * LARGEST_HEAD).removesuffix(b"\r\n"), 431),
    refused("too many fields", sized(b"a:b\r\n" * (MOST_HEADERS + 1)), 431),
    refused("an endless target", b"GET /v1/" + b"x" * 5 * LARGEST_HEAD, 400, 414, 431),
    refused("a target too large", sized(path=PATH + b"?" + b"x" * LARGEST_HEAD), 400, 414, 431),
)

HEAD_CASES: tuple[RawCase, ...] = (*_LINES, *_NAMES, *_VALUES, *_HOSTS, *_VERSIONS, *_LIMITS)
