"""Endpoints that are spoken to in HTTP/2 without TLS: one connection, a stream a request.

To a delivery each stream is an `UpstreamConnection` that serves one request. What HTTP/2 leaves to
its parser is checked here, as what is relayed becomes HTTP/1.1: names, values, and that a body has
the length that was announced.
"""

import asyncio
import re
from typing import Final, cast

from gateway.h2.channel import ClientChannel
from gateway.h2.client import ClientConnection, NoStreamError
from gateway.h2.frames import ErrorCode
from gateway.h2.limits import Limits
from gateway.h2.stream import Stream
from gateway.proxy.heads import Headers
from gateway.proxy.outbox import Outbox
from gateway.proxy.pool import Address, ConnectAttempt, EndpointPool, PoolSettings
from gateway.proxy.upstream import ConnectionKeeper, ResponseSink, State, UpstreamConnection

_LIMITS: Final = Limits(max_streams=1_000)
_NAME: Final = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+")
_BAD: Final = re.compile(rb"[\r\n\0]")
_BODILESS: Final = frozenset({204, 304})


class H2cStream(UpstreamConnection):
    """One request on a shared connection."""

    def __init__(
        self, keeper: ConnectionKeeper, outbox: Outbox, connection: ClientConnection
    ) -> None:
        super().__init__(keeper, outbox)
        self._connection = connection
        self._stream: Stream | None = None
        self._head_came = False
        self._is_head = False
        self._left: int | None = None  # bytes that the body still has to have; None: any number

    # --- for the delivery --------------------------------------------------------------------

    def send(self, sink: ResponseSink, head: bytes, body: bytes, *, bodiless: bool) -> None:
        """Send one request; everything its response brings goes to ``sink``."""
        self.state = State.BUSY
        self._sink = sink
        self._is_head = bodiless
        try:
            stream = self._stream = self._connection.open(request_fields(head), self)
        except NoStreamError:  # it went away just now
            asyncio.get_running_loop().call_soon(self._lost, True)
            return
        stream.send_data(body)
        stream.send_end(b"")

    def cancel(self) -> None:
        """Drop the request: the endpoint sees a reset and frees its engine."""
        self._sink = None
        self.close()

    def pause(self) -> None:
        """The client does not keep up."""
        if self._stream is not None:
            self._connection.hold(self._stream)

    def resume(self) -> None:
        """Read on."""
        if self._stream is not None:
            self._connection.release(self._stream)

    def close(self) -> None:
        """End the stream; idempotent."""
        self.state = State.CLOSED
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.reset(ErrorCode.CANCEL)

    # --- from HTTP/2 -------------------------------------------------------------------------

    def fields(self, fields: list[tuple[bytes, bytes]]) -> None:
        """A head, or trailers, which end here."""
        if self._head_came or self._sink is None:
            return
        try:
            status, headers, length = response_fields(fields)
        except ValueError:
            self._bad()
            return
        if status < 200:
            return
        self._head_came = True
        if not self._is_head and status not in _BODILESS:
            self._left = length
        self._sink.response_head(status, headers)

    def data(self, data: bytes) -> None:
        """A piece of the body."""
        sink = self._sink
        if sink is None:
            return
        if not self._head_came or self._is_head:
            self._bad()
            return
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                self._bad()
                return
        sink.response_data(data)

    def end(self) -> None:
        """The response is whole, or says so."""
        sink = self._sink
        if sink is None:
            return
        if not self._head_came or self._left:
            self._bad()
            return
        self._sink = None
        self.close()
        sink.response_complete()

    def cut(self, code: ErrorCode) -> None:
        """The stream or its connection ended first."""
        self._stream = None
        self._lost(code is ErrorCode.REFUSED_STREAM)

    def _lost(self, untouched: bool) -> None:
        sink, self._sink = self._sink, None
        self.close()
        if sink is not None:
            sink.response_failed("upstream_closed", untouched=untouched)

    def _bad(self) -> None:
        sink, self._sink = self._sink, None
        self.close()
        if sink is not None:
            sink.response_failed("bad_response", untouched=False)


class H2cPool(EndpointPool):
    """The connections to one such endpoint: further ones only when the first has no room."""

    def __init__(self, address: Address, settings: PoolSettings, outbox: Outbox) -> None:
        super().__init__(address, settings, outbox)
        self._channels: list[ClientChannel] = []
        self._used_at = 0.0
        self._lock = asyncio.Lock()

    @property
    def unused(self) -> bool:
        """Whether no connection is open or being opened."""
        return not self._channels and not self._connecting

    def take(self) -> UpstreamConnection | None:
        """A stream on an open connection, or None when one must be opened."""
        for channel in self._channels:
            if channel.free:
                return H2cStream(self, self._outbox, channel.connection)
        return None

    async def _open(self, attempt: ConnectAttempt) -> None:
        failure = ""
        async with self._lock:  # who comes meanwhile uses the same connection
            if self.take() is None:
                failure = await self._connect()
        if attempt.waiter is None:
            return
        stream = self.take()
        if stream is None:
            attempt.waiter.not_connected(failure or "connect_failed")
        else:
            attempt.waiter.connected(stream)

    async def _connect(self) -> str:
        address = self.address
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                await asyncio.get_running_loop().create_connection(
                    self._new_channel, address.host, address.port
                )
        except TimeoutError:
            return "connect_timeout"
        except OSError:
            return "connect_failed"
        return ""

    def _new_channel(self) -> asyncio.BaseProtocol:
        channel = ClientChannel(_LIMITS, self._gone)
        self._channels.append(channel)
        return cast(asyncio.BaseProtocol, cast(object, channel))

    def _gone(self, channel: ClientChannel) -> None:
        self._channels = [one for one in self._channels if one is not channel]

    def sweep(self, now: float) -> None:
        """Close connections that nobody used for a while."""
        if any(not channel.idle for channel in self._channels):
            self._used_at = now
        elif now - self._used_at > self._settings.idle_timeout and not self._connecting:
            for channel in list(self._channels):
                channel.close()

    def close(self) -> None:
        """Close every connection; requests in flight see theirs end."""
        super().close()
        for channel in list(self._channels):
            channel.close()


def request_fields(head: bytes) -> list[tuple[bytes, bytes]]:
    """A head that we wrote for HTTP/1.1, as HTTP/2 has it."""
    lines = head.split(b"\r\n")
    method, path, _version = lines[0].split(b" ")
    authority = b""
    fields = []
    for line in lines[1:]:
        if not line:
            continue
        name, _, value = line.partition(b": ")
        if name == b"host":
            authority = value
        else:
            fields.append((name, value.strip(b" \t")))
    return [
        (b":method", method),
        (b":scheme", b"http"),
        (b":authority", authority),
        (b":path", path),
        *fields,
    ]


def response_fields(fields: list[tuple[bytes, bytes]]) -> tuple[int, Headers, int | None]:
    """Status, fields and announced length. ValueError for a malformed head (RFC 9113 8.2, 8.3)."""
    if not fields or fields[0][0] != b":status":
        raise ValueError("no status")
    code = fields[0][1]
    if len(code) != 3 or not code.isdigit() or code < b"100":
        raise ValueError("the status is none")
    length: int | None = None
    for name, value in fields[1:]:
        if not _NAME.fullmatch(name) or _BAD.search(value):
            raise ValueError("a field is none")
        if name == b"content-length":
            if not value.isdigit() or length is not None:
                raise ValueError("the length is none")
            length = int(value)
    return int(code), fields[1:], length
