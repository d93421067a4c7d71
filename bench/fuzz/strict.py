"""Readers of HTTP/1.1 that share no code with the proxy: h11, and a grammar stricter than h11.

h11 is lenient where RFC 9112 lets a recipient be (bare LF, obs-fold, control bytes in values).
What the proxy itself writes must not need that leniency, so its heads are also held against
a regular expression, byte by byte.
"""

import re
from dataclasses import dataclass, field
from typing import TypeAlias

import h11

Fields: TypeAlias = list[tuple[bytes, bytes]]
"""Header fields in order, names in lower case."""

_LARGEST_HEAD = 1 << 20  # bytes; the proxy's own limit is what is tested, not h11's
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_FIELD_LINES = rb"(?:" + _TOKEN + rb":[\t -~\x80-\xff]*\r\n)*"
_EMPTY_LINES = b"\r\n"  # before a message RFC 9112 section 2.2 ignores them; h11 refuses them
_SPACED_LINE = re.compile(rb"^([A-Za-z]+) +(\S+) +(?=HTTP/)", re.MULTILINE)
_STATUS_LINE = re.compile(rb"(HTTP/1\.[01] ([0-9])[0-9]{2} )([^\r\n]+)(?=\r?\n)")
_REQUEST_HEAD = re.compile(rb"[A-Z]+ /[!-~]* HTTP/1\.1\r\n" + _FIELD_LINES + rb"\r\n")
_RESPONSE_HEAD = re.compile(
    rb"HTTP/1\.1 [1-5][0-9]{2} [\t -~\x80-\xff]*\r\n" + _FIELD_LINES + rb"\r\n"
)


class MalformedError(ValueError):
    """Bytes that are not the HTTP/1.1 they should be."""


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """One whole request as a strict reader understood it."""

    method: bytes
    target: bytes
    fields: Fields
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field; ``name`` in lower case."""
        return [value for key, value in self.fields if key == name]


@dataclass(frozen=True, slots=True)
class ReadResponse:
    """One response; ``whole`` is False for one that was cut off."""

    status: int
    fields: Fields
    body: bytes
    whole: bool = True

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field; ``name`` in lower case."""
        return [value for key, value in self.fields if key == name]


def _fresh(role: type[h11.CLIENT] | type[h11.SERVER]) -> h11.Connection:
    return h11.Connection(role, max_incomplete_event_size=_LARGEST_HEAD)


class RequestReader:
    """Reads the requests of one connection as their bytes come.

    ``grammar``: hold every head against the strict grammar, as is right for what the proxy
    wrote; without it this is plain h11, the second opinion on what a client sent.
    """

    def __init__(self, *, grammar: bool) -> None:
        self._grammar = grammar
        self._restart(b"")

    def _restart(self, data: bytes) -> None:
        self._h11 = _fresh(h11.SERVER)
        self._raw = b""
        self._request: h11.Request | None = None
        self._body = b""
        self.last = False
        """Whether the request in progress, or the one just read, ends the connection."""
        if data:
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        if self._request is None:
            if not self._grammar and not self._raw:
                data = data.lstrip(_EMPTY_LINES)
            self._raw += data
        if data:
            self._h11.receive_data(data)

    @property
    def partial(self) -> bool:
        """Whether a request has begun and is not whole."""
        return bool(self._raw) or self._request is not None

    def feed(self, data: bytes) -> list[ReadRequest]:
        """The requests that became whole; MalformedError for what is none."""
        if self.last:
            return []
        self._receive(data)
        whole: list[ReadRequest] = []
        try:
            while (request := self._next()) is not None:
                whole.append(request)
                rest, _ = self._h11.trailing_data
                self.last = self._ends_connection()
                if self.last:
                    self._raw, self._request = b"", None
                    break
                self._restart(bytes(rest))
        except h11.RemoteProtocolError as error:
            raise MalformedError(str(error)) from error
        return whole

    def _ends_connection(self) -> bool:
        """RFC 9112 section 9.3; h11 never keeps HTTP/1.0 alive, and forgets it for an Upgrade."""
        assert self._request is not None
        values = [bytes(value) for name, value in self._request.headers if name == b"connection"]
        options = {option.strip().lower() for option in b",".join(values).split(b",")}
        kept = self._request.http_version != b"1.0" or b"keep-alive" in options
        return b"close" in options or not kept

    def _next(self) -> ReadRequest | None:
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Request):
                self._request = event
                if self._grammar:
                    _hold_against(_REQUEST_HEAD, self._raw)
            elif isinstance(event, h11.Data):
                self._body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                request = self._request
                assert request is not None
                fields = [(bytes(name), bytes(value)) for name, value in request.headers]
                return ReadRequest(request.method, request.target, fields, self._body)
            else:
                return None


def _hold_against(grammar: re.Pattern[bytes], raw: bytes) -> bytes:
    """The head that ``raw`` begins with; MalformedError when it is not as strict as it must be."""
    head, end, _ = raw.partition(b"\r\n\r\n")
    if not grammar.fullmatch(head + end):
        raise MalformedError(f"not a strict head: {head!r}")
    return head


@dataclass(slots=True)
class Reference:
    """What h11 makes of all that a client sent."""

    requests: list[ReadRequest] = field(default_factory=list)
    refused: bool = False  # the bytes after the last request are no HTTP/1.1
    partial: bool = False  # they are the beginning of a request


def reference_reading(sent: bytes) -> Reference:
    """The second opinion on a client's whole input.

    As RFC 9112 section 3 allows, it takes more than one space between the words of a request
    line for one: what is forwarded has a line of its own.
    """
    sent = _SPACED_LINE.sub(rb"\1 \2 ", sent)
    reference = _read_in_steps(sent, max(1, len(sent)))
    # Byte by byte, so that what came before a malformed byte is not lost with it.
    return _read_in_steps(sent, 1) if reference.refused else reference


def _read_in_steps(sent: bytes, step: int) -> Reference:
    reference = Reference()
    reader = RequestReader(grammar=False)
    for at in range(0, len(sent), step):
        try:
            reference.requests += reader.feed(sent[at : at + step])
        except MalformedError:
            reference.refused = True
            return reference
        if reader.last:
            return reference
    reference.partial = reader.partial
    return reference


def read_responses(
    data: bytes,
    methods: list[bytes],
    *,
    closed: bool,
    grammar: bool = True,
    only_first: bool = False,
) -> list[ReadResponse]:
    """The responses, interim ones included, that a client got for requests of these methods.

    A response beyond ``methods`` is read as one to a GET. Raises MalformedError for bytes that
    are no response; the last one may be cut off when ``closed``. ``grammar`` as for requests;
    ``only_first``: stop after the first final response, whatever follows it.
    """
    responses: list[ReadResponse] = []
    answered = 0
    while data and not (only_first and answered):
        method = methods[answered] if answered < len(methods) else b"GET"
        data = _read_one(data, method, responses, closed=closed, grammar=grammar)
        answered += 1
    return responses


def _read_one(
    data: bytes, method: bytes, into: list[ReadResponse], *, closed: bool, grammar: bool
) -> bytes:
    """Read one final response and the interim ones before it; what is left of ``data``."""
    reader = _asked(method)
    data = data if grammar else _leniently(data)
    if not data:
        return b""
    reader.receive_data(data)
    if closed:
        reader.receive_data(b"")
    final: h11.Response | None = None
    body = b""
    try:
        while True:
            event = reader.next_event()
            if isinstance(event, h11.InformationalResponse | h11.Response):
                if grammar:
                    head = _hold_against(_RESPONSE_HEAD, data)
                    data = data[len(head) + 4 :]
                if isinstance(event, h11.Response):
                    final = event
                else:
                    into.append(_read_response(event, b"", whole=True))
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert final is not None
                rest = bytes(reader.trailing_data[0])
                if method == b"HEAD" and final.status_code >= 400 and rest[:5] == b'{"err':
                    # A refusal that came before the method was known to be sound.
                    body, rest = rest, b""
                into.append(_read_response(final, body, whole=True))
                return rest
            else:  # more is needed, or the end came between two responses
                break
    except h11.RemoteProtocolError as error:
        if final is None or not closed:
            raise MalformedError(f"{error}: {data[:200]!r}") from error
    if final is not None:
        into.append(_read_response(final, body, whole=False))
    return b""


def _leniently(data: bytes) -> bytes:
    """Responses as h11 takes them, where RFC 9112 is more lenient than h11.

    Empty lines before a status line are ignored, and a reason phrase may be any bytes, since
    it means nothing (section 4).
    """
    lenient = b""
    while True:
        data = data.lstrip(_EMPTY_LINES)
        line = _STATUS_LINE.match(data)
        end = data.find(b"\r\n\r\n") + 4
        if line is not None:
            data = line[1] + b"-" * len(line[3]) + data[line.end() :]
        if line is None or line[2] != b"1" or end < 4:
            return lenient + data
        lenient += data[:end]
        data = data[end:]


def _asked(method: bytes) -> h11.Connection:
    reader = _fresh(h11.CLIENT)
    reader.send(h11.Request(method=method, target=b"/", headers=[(b"host", b"gateway")]))
    reader.send(h11.EndOfMessage())
    return reader


def _read_response(
    event: h11.Response | h11.InformationalResponse, body: bytes, *, whole: bool
) -> ReadResponse:
    fields = [(bytes(name), bytes(value)) for name, value in event.headers]
    return ReadResponse(event.status_code, fields, body, whole)
