"""Reading requests: bytes in, whole requests or refusals out. No sockets, no clock.

States::

    BETWEEN --first byte--> HEAD --> BODY --> BETWEEN ...
       +------ refused, `close`, stopped --> STOPPED   input is thrown away
"""

from enum import Enum

import httptools
from mypy_extensions import trait

from gateway.apis.call import ApiError
from gateway.proxy.heads import Headers, RequestHead, without_upgrade
from gateway.proxy.strictness import RequestLine, problem_of
from gateway.settings import ProxySettings


class Reading(Enum):
    """What the next byte from the client belongs to."""

    BETWEEN = 1
    HEAD = 2
    BODY = 3
    STOPPED = 4


@trait
class Arrivals:
    """Whom a reader tells what came; the client's connection in production."""

    def begins(self) -> None:
        """The first bytes of a request came."""

    def arrived(self, head: RequestHead, body: bytes) -> None:
        """A request is whole."""

    def refused(self, error: ApiError) -> None:
        """What came can't be served, and nothing after it is read."""

    def expects_continue(self) -> None:
        """The client waits for a word before it sends the body."""


class _RefusedError(Exception):
    """Stops the parser; the refusal was told already."""


class RequestReader:
    """The requests of one connection, one after another."""

    def __init__(self, settings: ProxySettings, arrivals: Arrivals) -> None:
        self.state = Reading.BETWEEN
        self._settings = settings
        self._arrivals = arrivals
        self._parser = httptools.HttpRequestParser(self)
        self._head: RequestHead | None = None
        self._target = b""
        self._fields: Headers = []
        self._request_line = RequestLine()
        self._head_bytes = 0  # of a head or trailers that did not come in one read
        self._read_size = 0  # of the part being parsed
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._body_left: int | None = None  # None: chunked

    def feed(self, data: bytes) -> None:
        """Parse what came."""
        at = 0
        while at < len(data) and self.state is not Reading.STOPPED:
            at = self._read(data, at)

    def stop(self) -> None:
        """Throw away whatever else comes."""
        self.state = Reading.STOPPED
        self._body = []

    def _read(self, data: bytes, at: int) -> int:
        """Parse up to the end of a head, or of a body of known length; where that was comes back.

        So the parser is told where each request begins, and every request line is checked
        as it came. (Behind a chunked body only what the parser tells is known.)
        """
        end = len(data)
        if self.state is Reading.BODY:
            if self._body_left is not None and self._body_left < end - at:
                end = at + self._body_left
            # A view: bodies are long, and the parser copies what it hands on.
            part: bytes | memoryview = data if end - at == len(data) else memoryview(data)[at:end]
        else:
            if self.state is Reading.BETWEEN:
                self._arrivals.begins()
                self._request_line.begin()
            blank = data.find(b"\r\n\r\n", at)
            if blank >= 0:
                end = blank + 4
            head = data[at:end]
            if self._request_line.wrong(head):
                self._refuse(ApiError(400, "invalid_http", "The request line is not HTTP/1.1."))
                return end
            part = head
        body_bytes, self._read_size = self._body_bytes, end - at
        self._feed(part)
        # Heads and trailers are bounded as they come, however long a field gets.
        if self.state is Reading.HEAD or (
            self.state is Reading.BODY and self._body_bytes == body_bytes
        ):
            self._head_bytes += end - at
            if self._head_bytes > self._settings.max_header_bytes:
                self._refuse(self._head_too_large())
        return end

    def _feed(self, data: bytes | memoryview) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(bytes(data[upgrade.args[0] :]))
        except httptools.HttpParserError as error:
            if not isinstance(error.__context__, _RefusedError):
                self._refuse(ApiError(400, "invalid_http", f"The request is not HTTP/1.1: {error}"))

    def _decline_upgrade(self, rest: bytes) -> None:
        """Go on in HTTP/1.1, as a server may (RFC 9110 section 7.8).

        The parser stops where the other protocol would begin, so a new one reads the same head
        without the offer, and then what followed it.
        """
        head = self._head
        assert head is not None
        self._parser = httptools.HttpRequestParser(self)
        self._feed(without_upgrade(head) + rest)

    # --- from the parser ---------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self.state = Reading.HEAD
        self._target = b""
        self._fields = []
        self._head_bytes = 0
        self._body = []
        self._body_bytes = 0
        self._body_left = None

    def on_url(self, url: bytes) -> None:
        """Collect the request target, which may come in pieces."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field."""
        fields = self._fields
        if len(fields) >= self._settings.max_headers:
            self._refuse_and_raise(self._head_too_large())
        fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole: see whether it may be served, and its body may come."""
        parser, settings = self._parser, self._settings
        self.state = Reading.BODY
        if self._head_bytes + self._read_size > settings.max_header_bytes:
            size = sum(len(name) + len(value) + 4 for name, value in self._fields)
            if size + len(self._target) > settings.max_header_bytes:
                self._refuse_and_raise(self._head_too_large())
        version = self._request_line.version or parser.get_http_version()
        self._head = head = RequestHead(
            parser.get_method().decode(),
            self._target,
            self._fields,
            keep_alive=parser.should_keep_alive(),
            chunked_ok=version == "1.1",
        )
        self._fields = []  # trailers may follow; they end here
        problem = problem_of(head, version)
        if problem is not None:
            self._refuse_and_raise(problem)
        length = head.header(b"content-length")
        if length is not None:
            self._body_left = int(length)
            if self._body_left > settings.max_body_bytes:
                self._refuse_and_raise(self._body_too_large())
        if head.chunked_ok and head.header(b"expect", b"").lower() == b"100-continue":
            self._arrivals.expects_continue()

    def on_body(self, data: bytes) -> None:
        """Collect a piece of the body."""
        self._body_bytes += len(data)
        if self._body_bytes > self._settings.max_body_bytes:
            self._refuse_and_raise(self._body_too_large())
        if self._body_left is not None:
            self._body_left -= len(data)
        self._body.append(data)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._parser.should_upgrade():
            return  # the parser leaves its body to the other protocol, which we decline
        self.state = Reading.BETWEEN
        self._request_line.end()
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        head = self._head
        assert head is not None
        self._arrivals.arrived(head, body)
        if not head.keep_alive:
            self.stop()

    # --- refusing ----------------------------------------------------------------------------

    def _head_too_large(self) -> ApiError:
        settings = self._settings
        return ApiError(
            431,
            "header_too_large",
            f"A request head has at most {settings.max_header_bytes} bytes "
            f"and {settings.max_headers} fields.",
        )

    def _body_too_large(self) -> ApiError:
        limit = self._settings.max_body_bytes
        return ApiError(413, "body_too_large", f"The request body is larger than {limit} bytes.")

    def _refuse_and_raise(self, error: ApiError) -> None:
        self._refuse(error)
        raise _RefusedError

    def _refuse(self, error: ApiError) -> None:
        self._arrivals.refused(error)
        self.stop()
