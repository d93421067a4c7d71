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
from collections.abc import Iterator
from enum import Enum
from math import inf
from typing import TypeAlias, cast

import httptools

from gateway.apis.call import ApiError
from gateway.apis.catalogue import error_dialect
from gateway.proxy.context import ProxyContext
from gateway.proxy.exchange import Exchange
from gateway.proxy.heads import RequestHead, own_response
from gateway.record import RequestRecord

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_MOST_QUEUED = 16  # pipelined requests read ahead of the one being answered
_LINGER = 2.0  # seconds in which a refused client may still send before it is cut off
_LONGEST_REQUEST_ID = 128

_Arrived: TypeAlias = tuple[RequestHead, bytes] | ApiError


class Reading(Enum):
    """What the next byte from the client belongs to."""

    BETWEEN = 1
    HEAD = 2
    BODY = 3
    STOPPED = 4


class Roster:
    """The client connections that are open."""

    def __init__(self) -> None:
        self._open: set[ClientConnection] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator["ClientConnection"]:
        """Iterate over a copy: what is done to a connection may close it."""
        return iter(list(self._open))

    def opened(self, connection: "ClientConnection") -> None:
        """Enter a connection."""
        self._open.add(connection)
        self._empty.clear()

    def closed(self, connection: "ClientConnection") -> None:
        """Strike a connection off."""
        self._open.discard(connection)
        if not self._open:
            self._empty.set()

    async def emptied(self) -> None:
        """Wait until none is open."""
        await self._empty.wait()


class _RefusedError(Exception):
    """Stops the parser; the refusal is queued already."""


class ClientConnection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, context: ProxyContext, roster: Roster) -> None:
        self.deadline = inf
        self.write_blocked = False
        self._context = context
        self._roster = roster
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._parser = httptools.HttpRequestParser(self)
        self._reading = Reading.BETWEEN
        self._head = RequestHead()
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._began = 0.0
        self._queue: deque[_Arrived] = deque()
        self._exchange: Exchange | None = None
        self._taking = False

    # --- from the event loop -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape only
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else ""
        self._roster.opened(self)
        self.deadline = self._context.now() + self._context.settings.header_timeout

    def data_received(self, data: bytes) -> None:
        """Parse what came; whole requests land in the queue."""
        if self._reading is Reading.STOPPED:
            return
        if self._reading is Reading.BETWEEN:
            self._began = self._context.now()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The upgrade is not taken (RFC 9110 section 7.8); what follows is not HTTP/1.1.
            self._stop_reading()
        except httptools.HttpParserError as error:
            if not isinstance(error.__context__, _RefusedError):
                self._refuse(ApiError(400, "invalid_http", f"The request is not HTTP/1.1: {error}"))
        else:
            if self._reading is Reading.HEAD:
                self._head_bytes += len(data)
                if self._head_bytes > self._context.settings.max_header_bytes:
                    self._refuse(self._head_too_large())
        self._take_next()
        self._set_deadline()

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
        self._head = RequestHead()
        self._head_bytes = 0
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Collect the request target, which may come in pieces."""
        self._head.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > self._context.settings.max_header_bytes:
            self._refuse_and_raise(self._head_too_large())
        self._head.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole: see whether its body may come."""
        head = self._head
        self._reading = Reading.BODY
        head.method = self._parser.get_method().decode()
        head.keep_alive = self._parser.should_keep_alive()
        head.chunked_ok = self._parser.get_http_version() != "1.0"
        length = head.header(b"content-length")
        if length is not None and int(length) > self._context.settings.max_body_bytes:
            self._refuse_and_raise(self._body_too_large())
        expected = head.header(b"expect")
        waits = expected is not None and expected.lower() == b"100-continue"
        # Answers stay in order: behind another request the client just sends after a while.
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
        self._reading = Reading.BETWEEN
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        self._queue.append((self._head, body))
        if not self._head.keep_alive:
            self._stop_reading()

    # --- refusing ----------------------------------------------------------------------------

    def _head_too_large(self) -> ApiError:
        limit = self._context.settings.max_header_bytes
        return ApiError(431, "header_too_large", f"The request head is larger than {limit} bytes.")

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
            self._context.telemetry.started()
            self._exchange = Exchange(self._context, self, head, body, self._record(head, body))
            self._exchange.start()
        self._taking = False
        if self._transport is not None:
            if len(self._queue) >= _MOST_QUEUED:
                self._transport.pause_reading()
            elif not self._transport.is_reading():
                self._transport.resume_reading()

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
        record = self._record(RequestHead(method="-", target=b"-"), b"")
        record.status = error.status
        record.reason = error.reason
        record.duration = context.now() - record.started
        body = error_dialect(record.path).error_body(error)
        self.write(
            own_response(
                error.status, body, keep_alive=False, request_id=record.request_id.encode()
            )
        )
        context.telemetry.started()
        context.finished(record)
        self._linger()

    def _linger(self) -> None:
        """Close without a reset that could overtake the answer: the client may still send."""
        assert self._transport is not None
        self.deadline = self._context.now() + _LINGER
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    # --- for the exchange --------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes, unless the client is gone."""
        if self._transport is not None and data:
            self._transport.write(data)

    def exchange_over(self, *, keep_alive: bool) -> None:
        """The answer is written: go on with the next request, or close."""
        self._exchange = None
        if not keep_alive:
            self._queue.clear()
            self._stop_reading()
            if self._transport is not None:
                self._transport.close()
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
            self.deadline = self._context.now() + settings.keepalive_timeout
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
