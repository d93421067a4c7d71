"""The shape of a row about requests, and the words that rows are written with."""

from dataclasses import dataclass
from typing import TypeAlias

Statuses: TypeAlias = frozenset[int]

PATH = b"/v1/completions"
BODY = b'{"model":"sim-8b","prompt":"hi"}'

LARGEST_HEAD = 8192
"""Bytes of a request head that the tables' proxy accepts."""
LARGEST_BODY = 65_536
"""Bytes of a request body that the tables' proxy accepts."""
MOST_HEADERS = 100
"""Fields of a request head that the tables' proxy accepts."""

REFUSED: Statuses = frozenset({400})


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as the server must see it.

    ``fields`` are the client's that pass, in order, names in lower case; what the gateway
    itself writes (host, content-length, x-request-id, x-forwarded-*, via) is checked apart.
    """

    target: bytes = PATH
    body: bytes = BODY
    method: bytes = b"POST"
    fields: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class RawCase:
    """What a client sends, what it gets for it, and what the server sees of it.

    ``answers``: the statuses it may get, one set for each answer in order, interim ones
    included. ``keeps``: whether the connection then serves another request; None leaves it open.
    """

    name: str
    wire: bytes
    answers: tuple[Statuses, ...]
    keeps: bool | None
    seen: tuple[Seen, ...] = ()
    methods: tuple[bytes, ...] = ()


def refused(name: str, wire: bytes, *statuses: int) -> RawCase:
    """A malformed request: one 4xx (400 unless told), the connection closed, nothing seen."""
    return RawCase(name, wire, (frozenset(statuses) or REFUSED,), keeps=False)


def served(
    name: str, wire: bytes, *seen: Seen, keeps: bool = True, methods: tuple[bytes, ...] = ()
) -> RawCase:
    """Requests that the server answers, each with 200."""
    return RawCase(name, wire, (frozenset({200}),) * len(seen), keeps, seen, methods)


def post(
    fields: bytes, body: bytes = b"", *, path: bytes = PATH, version: bytes = b"HTTP/1.1"
) -> bytes:
    """A POST whose framing and further fields the case says."""
    return b"POST %b %b\r\nHost: gateway\r\n%b\r\n%b" % (path, version, fields, body)


def sized(fields: bytes = b"", body: bytes = BODY, *, path: bytes = PATH) -> bytes:
    """A well-framed POST with these further fields."""
    return post(fields + b"Content-Length: %d\r\n" % len(body), body, path=path)


def chunked(body: bytes, fields: bytes = b"") -> bytes:
    """A POST whose body is exactly these bytes of chunks."""
    return post(b"Transfer-Encoding: chunked\r\n" + fields, body)


def chunk(data: bytes = BODY) -> bytes:
    """One chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST = b"0\r\n\r\n"
"""The last chunk, without trailers."""

SMUGGLED = b"POST /v1/embeddings HTTP/1.1\r\nHost: evil\r\nContent-Length: 2\r\n\r\n{}"
"""A request hidden in what should be another one's body; no server may ever see it."""
