"""CORS: which pages of other origins a browser lets call us, and what it lets them see.

The rules are the Fetch Standard's (https://fetch.spec.whatwg.org/#http-cors-protocol). We only
tell the browser; it is the browser that keeps a page out. So a request of an origin that may
not call is served like any other, its answer just does not say that the page may read it.
Every answer depends on Origin unless all origins may call, and says so (``vary``): a shared
cache must not give one page's answer to another.
"""

from typing import Final

from gateway.proxy.heads import RequestHead
from gateway.settings import CorsSettings

_VARY: Final = b"vary: origin\r\n"
_VARY_PREFLIGHT: Final = (
    b"vary: origin, access-control-request-method, access-control-request-headers\r\n"
)


class Cors:
    """The header lines of CORS, made ready once so that a request only looks them up."""

    def __init__(self, settings: CorsSettings | None = None) -> None:
        settings = CorsSettings() if settings is None else settings
        self._off = not settings.origins
        self._all = "*" in settings.origins
        self._origins = frozenset(origin.encode() for origin in settings.origins)
        names = [name.lower().encode() for name in settings.headers]
        self._names = frozenset(name for name in names if not name.endswith(b"*"))
        self._prefixes = tuple(name[:-1] for name in names if name.endswith(b"*"))
        credentials = b"access-control-allow-credentials: true\r\n" if settings.credentials else b""
        expose = ", ".join(settings.expose).encode()
        self._answer = credentials
        if expose:
            self._answer += b"access-control-expose-headers: %b\r\n" % expose
        self._preflight = credentials
        if settings.methods:
            methods = ", ".join(settings.methods).encode()
            self._preflight += b"access-control-allow-methods: %b\r\n" % methods
        self._preflight += b"access-control-max-age: %d\r\n" % settings.max_age

    @property
    def on(self) -> bool:
        """Whether CORS is ours to answer; the endpoints' own fields must not get through then."""
        return not self._off

    def response_fields(self, head: RequestHead) -> bytes:
        """The header lines that any answer to this request has; empty when CORS is off."""
        if self._off:
            return b""
        allowed = self._allow_origin(head)
        return (b"" if self._all else _VARY) + (allowed and allowed + self._answer)

    def preflight(self, head: RequestHead) -> bytes:
        """The header lines of the answer to an OPTIONS request.

        Those of a preflight when it is one: it has Origin and Access-Control-Request-Method.
        The requested header fields come back less those that are not allowed.
        """
        if self._off or head.header(b"access-control-request-method") is None:
            return self.response_fields(head)
        allowed = self._allow_origin(head)
        if not allowed:
            return _VARY_PREFLIGHT
        requested = head.header(b"access-control-request-headers") or b""
        names = [name for one in requested.split(b",") if self._may_send(name := one.strip())]
        fields = b"access-control-allow-headers: %b\r\n" % b", ".join(names) if names else b""
        return allowed + self._preflight + fields + _VARY_PREFLIGHT

    def _allow_origin(self, head: RequestHead) -> bytes:
        """The line that lets the page in; empty when there is no page or it may not call."""
        origin = head.header(b"origin")
        if origin is None:
            return b""
        if self._all:
            return b"access-control-allow-origin: *\r\n"
        if origin in self._origins:
            return b"access-control-allow-origin: %b\r\n" % origin
        return b""

    def _may_send(self, name: bytes) -> bool:
        plain = name.lower()
        return plain in self._names or (plain.startswith(self._prefixes) and _is_name(plain))


def _is_name(name: bytes) -> bool:
    """Whether it can be a field's name, so that repeating it can't break our own head."""
    return name.replace(b"-", b"").replace(b"_", b"").isalnum()
