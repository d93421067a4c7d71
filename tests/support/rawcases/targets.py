"""Request targets: what is no path, what could be read in two ways, what leaves the API.

A target that is well-formed HTTP and no path of ours is answered 4xx without harm to the
connection; one with bytes that no target may have ends it.
"""

from tests.support.rawcases.case import PATH, RawCase, Seen, refused, served, sized

_NOT_SERVED = frozenset({400, 404, 405})


def _unserved(name: str, target: bytes, statuses: frozenset[int] = _NOT_SERVED) -> RawCase:
    return RawCase(name, sized(path=target), (statuses,), keeps=None)


def _malformed(name: str, target: bytes) -> RawCase:
    return refused(name, sized(path=target))


_FORMS = (
    _unserved("absolute-form", b"http://gateway/v1/completions"),
    _unserved("absolute-form of another host", b"http://evil/v1/completions"),
    _unserved("absolute-form with userinfo", b"http://u:p@gateway/v1/completions"),
    _unserved("absolute-form of another scheme", b"ftp://gateway/v1/completions"),
    _unserved("asterisk-form", b"*"),
    _unserved("authority-form", b"gateway:80"),
    _unserved("no leading slash", b"v1/completions"),
    _unserved("question mark only", b"?x"),
    _unserved("scheme-relative", b"//evil/v1/completions"),
)

_DOTS = (
    _unserved("dot segments to another path", b"/v1/../metrics"),
    _unserved("dot segments to the same path", b"/v1/x/../completions"),
    _unserved("dot segments beyond the root", b"/../../v1/completions"),
    _unserved("one dot", b"/v1/./completions"),
    _unserved("dots at the end", b"/v1/completions/.."),
    _unserved("one dot at the end", b"/v1/completions/."),
    _unserved("encoded dots", b"/v1/%2e%2e/metrics"),
    _unserved("encoded dots in capitals", b"/v1/%2E%2E/metrics"),
    _unserved("half-encoded dots", b"/v1/.%2e/metrics"),
    _unserved("dots with encoded slashes", b"/v1/..%2fmetrics"),
    _unserved("dots with encoded backslashes", b"/v1/..%5cmetrics"),
    _unserved("doubly encoded dots", b"/v1/%252e%252e/metrics"),
    _unserved("dots with a parameter", b"/v1/..;x/metrics"),
    _unserved("overlong UTF-8 dots", b"/v1/%c0%ae%c0%ae/metrics"),
    _unserved("full-width dots", b"/v1/%ef%bc%8e%ef%bc%8e/metrics"),
)

_SLASHES = (
    _unserved("double slash", b"/v1//completions"),
    _unserved("leading double slash", b"//v1/completions"),
    _unserved("trailing slash", b"/v1/completions/"),
    _unserved("encoded slash", b"/v1%2fcompletions"),
    _unserved("encoded double slash", b"/v1/%2fcompletions"),
    _unserved("backslash", b"/v1\\completions"),
    _unserved("backslash to another path", b"/v1/x\\..\\..\\metrics"),
    _unserved("encoded backslash", b"/v1%5ccompletions"),
    _unserved("encoded backslash within", b"/v1/a%5cb"),
)

_BYTES = (
    _malformed("NUL in a target", b"/v1/completions\x00"),
    _malformed("control byte in a target", b"/v1/\x01completions"),
    _malformed("DEL in a target", b"/v1/completions\x7f"),
    _malformed("tab in a target", b"/v1/completions\tx"),
    _malformed("form feed in a target", b"/v1/completions\x0cx"),
    _malformed("space in a target", b"/v1/completions x"),
    _malformed("bare CR in a target", b"/v1/completions\rx"),
    _malformed("bare LF in a target", b"/v1/completions\nx"),
    _unserved("high byte in a path", b"/v1/caf\xe9"),
    _unserved("high byte in a query", PATH + b"?q=\xe9"),
    _unserved("UTF-8 in a path", "/v1/café".encode()),
    _unserved("encoded NUL", b"/v1/completions%00"),
    _unserved("encoded LF", b"/v1/completions%0a"),
    _unserved("encoded CRLF and a field", b"/v1/x%0d%0aHost:%20evil"),
    _unserved("encoded space", b"/v1/a%20b"),
    _unserved("half a percent escape", b"/v1/%2"),
    _unserved("no percent escape", b"/v1/%zz"),
    _unserved("fragment", b"/v1/completions#x"),
    _unserved("fragment after a query", b"/v1/completions?a#x"),
    _unserved("encoded fragment", b"/v1/a%23b"),
)

_PREFIXES = (
    _unserved("the engine's metrics", b"/metrics"),
    _unserved("the engine's health", b"/health"),
    _unserved("the root", b"/"),
    _unserved("another version's path", b"/v3/completions"),
    _unserved("a path that only begins like the API's", b"/v1x/completions"),
    _unserved("the API's prefix only", b"/v1"),
    _unserved("the API's prefix with a slash", b"/v1/"),
    _unserved("capitals", b"/V1/completions"),
    _unserved("an operator's path below the API", b"/v1/load_lora_adapter"),
    _unserved("an encoded operator's path", b"/v1/load%5flora_adapter"),
    _unserved("an encoded letter of an operator's path", b"/v1/%6coad_lora_adapter"),
    _unserved("an operator's path with a trailing slash", b"/v1/load_lora_adapter/"),
    _unserved("an operator's path with a query", b"/v1/load_lora_adapter?x"),
    served("a query", sized(path=PATH + b"?a=b&c=%2e%2e/"), Seen(PATH + b"?a=b&c=%2e%2e/")),
    served("dots in a query", sized(path=PATH + b"?../../metrics"), Seen(PATH + b"?../../metrics")),
    served("another path of the API", sized(path=b"/v1/audio/speech"), Seen(b"/v1/audio/speech")),
)

TARGET_CASES: tuple[RawCase, ...] = (*_FORMS, *_DOTS, *_SLASHES, *_BYTES, *_PREFIXES)
