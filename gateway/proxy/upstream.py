"""The side that faces an endpoint: one connection, one response at a time.

States::

    IDLE --send()--> BUSY --response complete--> IDLE      kept alive: back to the pool
                      |----response complete---> CLOSED    it may not be used again
                      |----lost, broken, cancelled-> CLOSED

Parser callbacks only collect; `_deliver` hands what one read brought to the sink, so a
response that arrives whole is relayed in one write.
"""

import asyncio
from enum import Enum
from typing import Final, cast

import httptools
from mypy_extensions import trait

from gateway.proxy.heads import Headers
from gateway.proxy.outbox import Outbox, Sender

_BODILESS_STATUSES: Final = frozenset({204, 304})
_WRITE_JOINED_BELOW: Final = 16_384  # bytes; a copy this small is cheaper than a second buffer


class _UnreadableError(Exception):
    """A response in a coding that this hop does not take off; stops the parser."""


class State(Enum):
    """Where an upstream connection is in its life."""

    IDLE = 1
    BUSY = 2
    CLOSED = 3


@trait
class ResponseSink:
    """Whom a response is for; the exchange in production."""

    def response_head(self, status: int, headers: Headers) -> None:
        """The final head came (interim 1xx responses are skipped)."""

    def response_data(self, data: bytes) -> None:
        """A piece of the body came, its framing taken off."""

    def response_complete(self) -> None:
        """The response ended as its framing promised; the connection was let go before."""

    def response_failed(self, reason: str, *, untouched: bool) -> None:
        """The connection ended or broke first and is closed. ``untouched``: a kept-alive
        connection that closed without a response byte, most likely before our request came.
        """


@trait
class ConnectionKeeper:
    """Whoever lent the connection; the pool in production."""

    def release(self, connection: "UpstreamConnection") -> None:
        """Take back an idle connection that may be used again."""

    def discard(self, connection: "UpstreamConnection") -> None:
        """Forget a connection that is closed or must not be used again."""


class UpstreamConnection:
    """One connection to an endpoint: an `asyncio.Protocol` by shape (see decisions/0006)."""

    def __init__(self, keeper: ConnectionKeeper, outbox: Outbox) -> None:
        self.state = State.IDLE
        self.idle_since = 0.0
        self._keeper = keeper
        self._outbox = outbox
        self._sender: Sender | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._sink: ResponseSink | None = None
        self._responses = 0
        self._paused = False
        self._expect_response()

    def _expect_response(self) -> None:
        self._headers: Headers = []
        self._piece = b""  # of the body, as one read brought it
        self._pieces: list[bytes] = []  # when it brought several, with the first
        self._status = 0
        self._bodiless = False
        self._started = False  # a byte of the response came
        self._is_http_1_1 = False  # as its first line says; asking the parser takes longer
        self._head_new = False  # the head is parsed and not delivered yet
        self._until_close = False  # the body ends when the connection does
        self._sized = False  # the body ends where Content-Length says
        self._surplus = False  # bytes came behind the end, in the read that brought the end
        self._complete = False
        self._reusable = False

    # --- for the exchange --------------------------------------------------------------------

    def send(self, sink: ResponseSink, head: bytes, body: bytes, *, bodiless: bool) -> None:
        """Send one request; everything its response brings goes to ``sink``.

        ``bodiless``: it is a HEAD, whose response ends with its head.
        """
        assert self.state is State.IDLE
        sender = self._sender
        assert sender is not None
        self.state = State.BUSY
        self._sink = sink
        self._bodiless = bodiless
        if len(body) < _WRITE_JOINED_BELOW:
            sender.write(head + body)
        else:
            sender.write(head)
            sender.write(body)

    def cancel(self) -> None:
        """Drop request and connection at once: the endpoint sees a reset and frees its engine."""
        self._sink = None
        self.close()

    def pause(self) -> None:
        """Stop reading: the client does not keep up."""
        if self.state is State.BUSY and self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        """Close for good; idempotent."""
        self.state = State.CLOSED
        self._keeper.discard(self)
        if self._sender is not None:
            self._sender.drop()
        if self._transport is not None:
            self._transport.abort()

    # --- from the event loop -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape only
        self._sender = Sender(self._outbox, self._transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came and hand it on."""
        if self._sink is None:  # nobody asked: bytes on an idle connection, or after a cancel
            self.close()
            return
        if not self._started:
            self._started = True
            self._is_http_1_1 = data.startswith(b"HTTP/1.1 ")
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._complete:
                self._fail("bad_response")
                return
            self._surplus = True
        if self._surplus:
            self._reusable = False
            if self._sized:
                # The length is wrong (RFC 9112, 6.3): what looks whole is not to be trusted.
                self._fail("bad_response")
                return
        self._deliver()

    def _deliver(self) -> None:
        sink = self._sink
        assert sink is not None
        if self._head_new:
            self._head_new = False
            sink.response_head(self._status, self._headers)
        if self._piece and self._sink is sink:
            data, self._piece = self._piece, b""
            if self._pieces:
                data = b"".join(self._pieces)
                self._pieces = []
            sink.response_data(data)
        if self._complete and self._sink is sink:
            self._let_go()
            sink.response_complete()

    def _let_go(self) -> None:
        assert self._sender is not None
        self._sink = None
        if self._reusable and self._sender.sent:
            self._responses += 1
            self._expect_response()
            self.state = State.IDLE
            self.resume()
            self._keeper.release(self)
        else:
            self.close()

    def _fail(self, reason: str) -> None:
        sink, self._sink = self._sink, None
        untouched = not self._started and self._responses > 0
        self.close()
        if sink is not None:
            sink.response_failed(reason, untouched=untouched)

    def eof_received(self) -> bool:
        """An endpoint that stops sending has nothing more to say: let the transport close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End the response in flight, if there is one, as its framing allows."""
        self._transport = None
        if self._sink is not None and self._until_close and exc is None:
            sink, self._sink = self._sink, None
            self.close()
            sink.response_complete()
        else:
            self._fail("upstream_closed")

    # --- from the parser ---------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A head begins; after a complete response it is one that nobody asked for."""
        if self._complete:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field. Trailers come after the head and end here."""
        if not self._status:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self._complete:
            return
        self._status = self._parser.get_status_code()
        if self._status < 200:
            return
        version = "1.1" if self._is_http_1_1 else self._parser.get_http_version()
        if version not in {"1.0", "1.1"}:
            raise _UnreadableError
        framed = coded = False
        for name, value in self._headers:
            if name == b"transfer-encoding":
                # Any other coding would have to be taken off before the client could read it.
                if coded or value.strip().lower() != b"chunked" or version != "1.1":
                    raise _UnreadableError
                framed = coded = True
            elif name == b"content-length":
                framed = True
        self._head_new = True
        bodiless = self._bodiless or self._status in _BODILESS_STATUSES
        self._until_close = not framed and self._status not in _BODILESS_STATUSES
        self._sized = framed and not coded and not bodiless
        if self._bodiless:
            self._complete = True

    def on_body(self, data: bytes) -> None:
        """Collect a piece of the body."""
        if self._complete:
            return
        if not self._piece:
            self._piece = data
        else:
            if not self._pieces:
                self._pieces.append(self._piece)
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        """The response, or an interim one before it, is whole."""
        if self._status < 200:
            self._headers = []
            self._status = 0
            self._is_http_1_1 = False
        elif not self._complete:
            self._complete = True
            self._reusable = self._parser.should_keep_alive()
