"""What an HTTP/1.1 request must be beyond what the parser checks.

llhttp refuses malformed lines, names, values, lengths and chunks. It accepts what some hop
could still read differently from the next: other transfer codings, missing or doubtful
hosts, other protocol versions. Each of these is refused here, once the head is whole.
"""

import re
from functools import lru_cache
from typing import Final

from gateway.apis.call import ApiError
from gateway.proxy.heads import RequestHead

# RFC 3986 section 3.2 without userinfo: a name or address, bracketed for IPv6, and a port.
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]+)(?::[0-9]{0,5})?")
_VERSIONS: Final = frozenset({"1.0", "1.1"})


_EMPTY_LINES: Final = re.compile(rb"\A(?:\r\n)+")
_REQUEST_LINE: Final = re.compile(rb"[A-Z]+ [!-~]+ HTTP/[0-9]\.[0-9]\r\n")


class RequestLine:
    """Checks the raw first line of a request, as it comes.

    The parser tolerates a bare CR or LF before it, more than one space, and other protocols
    than HTTP.
    """

    __slots__ = ("_seen", "_whole", "version")

    def __init__(self) -> None:
        self._seen = b""
        self._whole = False
        self.version = ""
        """Of HTTP, as ``1.1``; empty where the line was not checked as a whole."""

    def wrong(self, data: bytes) -> bool:
        """Whether the line is wrong as far as it is there. ``data``: what was read now."""
        if self._whole:
            return False
        line = data
        found = None if self._seen else _REQUEST_LINE.match(line)
        if found is None:
            line = _EMPTY_LINES.sub(b"", self._seen + data, count=1)
            found = _REQUEST_LINE.match(line)
        if found is not None:
            self._seen = b""
            self._whole = True
            self.version = line[found.end() - 5 : found.end() - 2].decode()
            return False
        self._seen = line
        return b"\n" in line or (line[:1] == b"\r" and line != b"\r")

    def begin(self) -> None:
        """The next request is expected."""
        self._whole = False

    def end(self) -> None:
        """The request is whole; the next one's line may stand where it is not seen here."""
        self.version = ""


def _refused(reason: str, message: str) -> ApiError:
    return ApiError(400, reason, message)


@lru_cache(maxsize=256)  # a gateway has a few names, and a head is of bounded size
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value.strip(b" \t")) is not None


def problem_of(head: RequestHead, version: str) -> ApiError | None:
    """Why a request with this head is refused; None when it may be served."""
    if version not in _VERSIONS:
        return _refused("bad_version", f"HTTP/{version} is not spoken here; use HTTP/1.1.")
    if head.method == "CONNECT":
        return ApiError(405, "wrong_method", "This is no forward proxy.", allow="GET, POST")
    fields = head.fields
    host = fields.get(b"host")
    if host is None:
        if version == "1.1":
            return _refused("bad_host", "The Host field is missing.")
    elif not _is_host(host):
        return _refused("bad_host", "The Host field is not a host name and port.")
    coding = fields.get(b"transfer-encoding")
    if coding is not None and (coding.strip(b" \t").lower() != b"chunked" or version == "1.0"):
        return _refused("bad_framing", "The only transfer coding is a final chunked, in HTTP/1.1.")
    if len(fields) < len(head.headers):
        for name in (b"host", b"transfer-encoding", b"content-length"):
            if sum(one == name for one, _ in head.headers) > 1:
                return _refused("bad_framing", f"There is more than one {name.decode()} field.")
    return None
