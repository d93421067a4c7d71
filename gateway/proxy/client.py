"""The side that faces a client: one connection, its requests answered in order.

Reading and answering go on side by side, each with its own states::

    reading    BETWEEN --first byte--> HEAD --> BODY --> BETWEEN ...
                  +------ refused, `close`, shutting down --> STOPPED   input is thrown away
    answering  nothing, or one exchange; requests read meanwhile wait in a queue

Reading never stops while an exchange is in flight, unless too many requests are queued:
the end of a connection shows only to a reader, and must free the engine at once.
"""

import asyncio
from collections import deque
from enum import Enum
from math import inf
from typing import TypeAlias, cast

import httptools

from gateway.apis.call import ApiError
from gateway.apis.catalogue import error_dialect
from gateway.proxy.context import ProxyContext
from gateway.proxy.exchange import Exchange
from gateway.proxy.heads import Headers, Origin, RequestHead, own_response, without_upgrade
from gateway.proxy.roster import Roster
from gateway.proxy.strictness import RequestLine, problem_of
from gateway.record import RequestRecord

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_MOST_QUEUED = 16  # pipelined requests read ahead of the one being answered
_MOST_QUEUED_BYTES = 1 << 20  # of their bodies; one body may exceed it
_LINGER = 2.0  # seconds in which a refused client may still send before it is cut off
_LONGEST_REQUEST_ID = 128

_Arrived: TypeAlias = tuple[RequestHead, bytes] | ApiError


class Reading(Enum):
    """What the next byte from the client belongs to."""

    BETWEEN = 1
    HEAD = 2
    BODY = 3
    STOPPED = 4


class _RefusedError(Exception):
    """Stops the parser; the refusal is queued already."""


class ClientConnection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, context: ProxyContext, roster: Roster) -> None:
        self.deadline = inf
        self.write_blocked = False
        self.origin = Origin(b"", b"http", context.settings.forwarded)
        self._context = context
        self._roster = roster
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._parser = httptools.HttpRequestParser(self)
        self._reading = Reading.BETWEEN
        self._head: RequestHead | None = None
        self._target = b""
        self._fields: Headers = []
        self._request_line = RequestLine()
        self._head_bytes = 0  # of a head or trailers that did not come in one read
        self._read_size = 0  # of the read being parsed
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._began = 0.0
        self._idle_since = 0.0
        self._queue: deque[_Arrived] = deque()
        self._queued_bytes = 0
        self._exchange: Exchange | None = None
        self._taking = False
        self._read_paused = False

    # --- from the event loop -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape only
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else ""
        scheme = b"http" if transport.get_extra_info("sslcontext") is None else b"https"
        self.origin = Origin(self._peer.encode(), scheme, self._context.settings.forwarded)
        self._roster.opened(self)
        self._idle_since = self._began = self._context.now()
        self.deadline = self._began + self._context.settings.header_timeout
        limit = self._context.settings.max_connections
        if len(self._roster) > limit:
            self._roster.turned_away(self)
            self._refuse(
                ApiError(
                    503,
                    "too_many_connections",
                    f"{limit} connections are open; come again later.",
                    retry_after=1,
                )
            )
            self._take_next()

    def data_received(self, data: bytes) -> None:
        """Parse what came; whole requests land in the queue."""
        if self._reading is Reading.STOPPED:
            return
        if self._reading is Reading.BETWEEN:
            self._began = self._context.now()
            self._request_line.begin()
        if self._request_line.wrong(data):
            self._refuse(ApiError(400, "invalid_http", "The request line is not HTTP/1.1."))
            self._take_next()
            return
        body_bytes, self._read_size = self._body_bytes, len(data)
        self._feed(data)
        # Heads and trailers are bounded as they come, however long a field gets.
        if self._reading is Reading.HEAD or (
            self._reading is Reading.BODY and self._body_bytes == body_bytes
        ):
            self._head_bytes += len(data)
            if self._head_bytes > self._context.settings.max_header_bytes:
                self._refuse(self._head_too_large())
        self._take_next()
        self._set_deadline()

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
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

    def eof_received(self) -> bool:
        """A client that stops sending has gone: let the transport close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Free whatever worked for this client."""
        self._transport = None
        self._reading = Reading.STOPPED
        self._queue.clear()
        self._roster.closed(self)
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None

    def pause_writing(self) -> None:
        """The client does not keep up."""
        self.write_blocked = True
        if self._exchange is not None:
            self._exchange.client_blocked()

    def resume_writing(self) -> None:
        """The client caught up."""
        self.write_blocked = False
        if self._exchange is not None:
            self._exchange.client_unblocked()

    # --- from the parser ---------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._reading = Reading.HEAD
        self._target = b""
        self._fields = []
        self._head_bytes = 0
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Collect the request target, which may come in pieces."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field."""
        fields = self._fields
        if len(fields) >= self._context.settings.max_headers:
            self._refuse_and_raise(self._head_too_large())
        fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole: see whether it may be served, and its body may come."""
        parser, settings = self._parser, self._context.settings
        self._reading = Reading.BODY
        if self._head_bytes + self._read_size > settings.max_header_bytes:
            size = sum(len(name) + len(value) + 4 for name, value in self._fields)
            if size + len(self._target) > settings.max_header_bytes:
                self._refuse_and_raise(self._head_too_large())
        version = parser.get_http_version()
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
        if length is not None and int(length) > settings.max_body_bytes:
            self._refuse_and_raise(self._body_too_large())
        if head.chunked_ok and head.header(b"expect") is not None:
            self._answer_expectation(head)

    def _answer_expectation(self, head: RequestHead) -> None:
        # Answers stay in order: behind another request the client just sends after a while.
        waits = head.fields[b"expect"].lower() == b"100-continue"
        if waits and self._exchange is None and not self._queue:
            self.write(_CONTINUE)

    def on_body(self, data: bytes) -> None:
        """Collect a piece of the body."""
        self._body_bytes += len(data)
        if self._body_bytes > self._context.settings.max_body_bytes:
            self._refuse_and_raise(self._body_too_large())
        self._body.append(data)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._parser.should_upgrade():
            return  # the parser leaves its body to the other protocol, which we decline
        self._reading = Reading.BETWEEN
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        head = self._head
        assert head is not None
        self._queue.append((head, body))
        self._queued_bytes += len(body)
        if not head.keep_alive:
            self._stop_reading()

    # --- refusing ----------------------------------------------------------------------------

    def _head_too_large(self) -> ApiError:
        settings = self._context.settings
        return ApiError(
            431,
            "header_too_large",
            f"A request head has at most {settings.max_header_bytes} bytes "
            f"and {settings.max_headers} fields.",
        )

    def _body_too_large(self) -> ApiError:
        limit = self._context.settings.max_body_bytes
        return ApiError(413, "body_too_large", f"The request body is larger than {limit} bytes.")

    def _refuse_and_raise(self, error: ApiError) -> None:
        self._refuse(error)
        raise _RefusedError

    def _refuse(self, error: ApiError) -> None:
        """Answer with an error, in its turn; the rest of the input makes no sense any more."""
        self._queue.append(error)
        self._stop_reading()

    def _stop_reading(self) -> None:
        self._reading = Reading.STOPPED
        self._body = []

    # --- answering ---------------------------------------------------------------------------

    def _take_next(self) -> None:
        """Turn to the next queued request; one at a time, without recursion."""
        if self._taking:
            return
        self._taking = True
        while self._queue and self._exchange is None and self._transport is not None:
            arrived = self._queue.popleft()
            if isinstance(arrived, ApiError):
                self._answer_refused(arrived)
                break
            head, body = arrived
            self._queued_bytes -= len(body)
            self._context.telemetry.started()
            self._exchange = Exchange(self._context, self, head, body, self._record(head, body))
            self._exchange.start()
        self._taking = False
        self._read_ahead(
            wanted=len(self._queue) < _MOST_QUEUED and self._queued_bytes < _MOST_QUEUED_BYTES
        )

    def _read_ahead(self, *, wanted: bool) -> None:
        """Stop reading while too many requests are queued."""
        if self._transport is None or wanted is not self._read_paused:
            return
        self._read_paused = not wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _record(self, head: RequestHead, body: bytes) -> RequestRecord:
        named = head.header(b"x-request-id")
        if named is not None and named.isascii() and len(named) <= _LONGEST_REQUEST_ID:
            request_id = named.decode()
        else:
            request_id = self._context.request_id()
        return RequestRecord(
            request_id=request_id,
            client=self._peer,
            method=head.method,
            path=head.target.partition(b"?")[0].decode("latin-1"),
            started=self._began,
            bytes_in=len(body),
        )

    def _answer_refused(self, error: ApiError) -> None:
        context = self._context
        record = self._record(RequestHead("-", b"-", []), b"")
        record.status = error.status
        record.reason = error.reason
        record.duration = context.now() - record.started
        body = error_dialect(record.path).error_body(error)
        self.write(
            own_response(
                error.status,
                body,
                keep_alive=False,
                request_id=record.request_id.encode(),
                retry_after=error.retry_after,
                allow=error.allow,
            )
        )
        context.telemetry.started()
        context.finished(record)
        self._linger()

    def _linger(self) -> None:
        """Close without a reset that could overtake the answer: the client may still send."""
        transport = self._transport
        assert transport is not None
        unsent = transport.get_write_buffer_size() > 0
        patience = self._context.settings.idle_timeout if unsent else _LINGER
        self.deadline = self._context.now() + patience
        if transport.can_write_eof():
            transport.write_eof()  # once everything is sent
        else:
            transport.close()

    # --- for the exchange --------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes, unless the client is gone."""
        if self._transport is not None and data:
            self._transport.write(data)

    def exchange_over(self, *, keep_alive: bool) -> None:
        """The answer is written: go on with the next request, or close."""
        self._exchange = None
        self._idle_since = self._context.now()
        if not keep_alive:
            self._queue.clear()
            self._queued_bytes = 0
            self._stop_reading()
            if self._transport is not None:
                self._linger()
            return
        self._take_next()
        self._set_deadline()

    # --- time and the end --------------------------------------------------------------------

    def _set_deadline(self) -> None:
        """What to wait for when no exchange is in flight: it keeps its own deadline."""
        if self._exchange is not None or self._transport is None:
            return
        settings = self._context.settings
        if self._reading is Reading.BETWEEN:
            self.deadline = self._idle_since + settings.keepalive_timeout
        elif self._reading is Reading.HEAD:
            self.deadline = self._began + settings.header_timeout
        elif self._reading is Reading.BODY:
            self.deadline = self._began + settings.header_timeout + settings.body_timeout

    def deadline_passed(self) -> None:
        """What was waited for did not come in time."""
        self.deadline = inf
        if self._transport is None:
            return
        if self._exchange is not None:
            self._exchange.timed_out()
        elif self._reading in {Reading.HEAD, Reading.BODY}:
            what = "head" if self._reading is Reading.HEAD else "body"
            self._refuse(ApiError(408, f"{what}_timeout", f"The request's {what} came too slowly."))
            self._take_next()
        else:
            self._transport.abort()

    def drain(self) -> None:
        """Shutting down: finish what is in flight, close what is idle."""
        if self._exchange is None and self._reading is not Reading.BODY and self._transport:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()
