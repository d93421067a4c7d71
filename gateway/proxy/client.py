"""The side that faces a client: one connection, its requests answered in order.

Reading (`reader.RequestReader` has its states) and answering go on side by side: at most one
exchange is in flight, and requests that are read meanwhile wait in a queue, refusals among
them in their turn.

Reading never stops while an exchange is in flight, unless too many requests are queued:
the end of a connection shows only to a reader, and must free the engine at once.
"""

import asyncio
from collections import deque
from math import inf
from typing import Final, TypeAlias, cast

from gateway.apis.call import ApiError
from gateway.apis.catalogue import error_dialect
from gateway.proxy.context import ProxyContext
from gateway.proxy.exchange import Connection, Exchange
from gateway.proxy.heads import Origin, RequestHead, own_response
from gateway.proxy.outbox import Sender
from gateway.proxy.reader import Arrivals, Reading, RequestReader
from gateway.proxy.roster import Roster
from gateway.proxy.sidecar import SidecarExchange
from gateway.record import RequestRecord

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_MOST_QUEUED: Final = 16  # pipelined requests read ahead of the one being answered
_MOST_QUEUED_BYTES: Final = 1 << 20  # of their bodies; one body may exceed it
_LINGER: Final = 2.0  # seconds in which a refused client may still send before it is cut off
_LONGEST_REQUEST_ID: Final = 128

_Arrived: TypeAlias = tuple[RequestHead, bytes] | ApiError


class ClientConnection(Connection, Arrivals):
    """One client's connection: an `asyncio.Protocol` by shape (see decisions/0006)."""

    def __init__(self, context: ProxyContext, roster: Roster) -> None:
        self.deadline = inf
        self.write_blocked = False
        self.origin = Origin(b"", b"http", context.settings.forwarded)
        self._context = context
        self._roster = roster
        self._transport: asyncio.Transport | None = None
        self._sender: Sender | None = None
        self._peer = ""
        self._reader = RequestReader(context.settings, self)
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
        self._sender = Sender(self._context.pools.outbox, self._transport)
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
            self._turn_away(
                ApiError(
                    503,
                    "too_many_connections",
                    f"{limit} connections are open; come again later.",
                    retry_after=1,
                )
            )

    def data_received(self, data: bytes) -> None:
        """Parse what came; whole requests land in the queue."""
        self._reader.feed(data)
        self._take_next()
        self._set_deadline()

    def eof_received(self) -> bool:
        """A client that stops sending has gone: let the transport close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Free whatever worked for this client."""
        self._transport = None
        if self._sender is not None:
            self._sender.drop()
            self._sender = None
        self._reader.stop()
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

    # --- from the reader ---------------------------------------------------------------------

    def begins(self) -> None:
        """Time a request from its first bytes."""
        self._began = self._context.now()

    def arrived(self, head: RequestHead, body: bytes) -> None:
        """Queue a request."""
        self._queue.append((head, body))
        self._queued_bytes += len(body)

    def refused(self, error: ApiError) -> None:
        """Queue a refusal, to be answered in its turn."""
        self._queue.append(error)

    def expects_continue(self) -> None:
        """Tell the client to go on."""
        # Answers stay in order: behind another request it just sends after a while.
        if self._exchange is None and not self._queue:
            self.write(_CONTINUE)

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
            self._exchange = self.exchange(head, body)
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

    def _turn_away(self, error: ApiError) -> None:
        """Refuse whatever the client was about to ask."""
        self._reader.stop()
        self._queue.append(error)
        self._take_next()

    def exchange(self, head: RequestHead, body: bytes) -> Exchange:
        """What answers a request."""
        context, record = self._context, self.record(head, body)
        if context.pairing is not None:
            return SidecarExchange(context, self, head, body, record)
        return Exchange(context, self, head, body, record)

    def record(self, head: RequestHead, body: bytes) -> RequestRecord:
        """The books of a request that begins."""
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
        record = self.record(RequestHead("-", b"-", []), b"")
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
        transport, sender = self._transport, self._sender
        assert transport is not None
        assert sender is not None
        sender.flush()
        unsent = not sender.sent
        patience = self._context.settings.idle_timeout if unsent else _LINGER
        self.deadline = self._context.now() + patience
        if transport.can_write_eof():
            transport.write_eof()  # once everything is sent
        else:
            transport.close()

    # --- for the exchange --------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes, unless the client is gone."""
        if self._sender is not None and data:
            self._sender.write(data)

    def expect_until(self, deadline: float) -> None:
        """Have the exchange told when this time has passed."""
        self.deadline = deadline

    def exchange_over(self, *, keep_alive: bool) -> None:
        """The answer is written: go on with the next request, or close."""
        self._exchange = None
        self._idle_since = self._context.now()
        if not keep_alive:
            self._queue.clear()
            self._queued_bytes = 0
            self._reader.stop()
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
        if self._reader.state is Reading.BETWEEN:
            self.deadline = self._idle_since + settings.keepalive_timeout
        elif self._reader.state is Reading.HEAD:
            self.deadline = self._began + settings.header_timeout
        elif self._reader.state is Reading.BODY:
            self.deadline = self._began + settings.header_timeout + settings.body_timeout

    def deadline_passed(self) -> None:
        """What was waited for did not come in time."""
        self.deadline = inf
        if self._transport is None:
            return
        if self._exchange is not None:
            self._exchange.timed_out()
        elif self._reader.state in {Reading.HEAD, Reading.BODY}:
            what = "header" if self._reader.state is Reading.HEAD else "body"
            self._turn_away(ApiError(408, f"{what}_timeout", f"The {what} came too slowly."))
        else:
            self._transport.abort()

    def drain(self) -> None:
        """Shutting down: finish what is in flight, close what is idle."""
        if self._exchange is None and self._reader.state is not Reading.BODY and self._sender:
            self._sender.close()

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()
