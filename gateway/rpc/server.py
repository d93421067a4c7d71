"""The thin shell around `h2.Connection`: sockets, one write a read, deadlines, a graceful end."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast

from gateway.h2.connection import Connection
from gateway.h2.frames import ErrorCode
from gateway.h2.limits import Limits
from gateway.rpc.call import Services

_TICK: Final = 1.0
_JOIN_BYTES: Final = 65_536  # up to here copying is cheaper than handing over pieces
_HIGH_WATER: Final = 1 << 20  # bytes in the socket's buffer at which streams wait
_HANDSHAKE_SECONDS: Final = 10.0
_SHUTDOWN_SECONDS: Final = 2.0
_log = logging.getLogger("inferway.extproc")


class Peer(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, server: "RpcServer") -> None:
        self._server = server
        self._loop = server.loop
        self._now = server.now
        self._flushing = True  # whatever there is before the socket goes out with it
        self.connection = Connection(server.limits, server.services.open, self._wake)
        self.stalled_since: float | None = None
        """Since when the client has not read what was sent; None: it reads."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape only
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)
        self.opened_at = self._now()
        if not self._server.entered(self):
            self.connection.close(ErrorCode.ENHANCE_YOUR_CALM, "too many connections")
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Let the connection look at it, and send what came of it in one write."""
        self.connection.receive(data, self._now())
        self._flush()

    def eof_received(self) -> bool:
        """The client sends nothing more: nothing that is under way can end well."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self.connection.lost()
        self._server.left(self)

    def pause_writing(self) -> None:
        """The client reads too slowly: neither say more nor hear more until it does."""
        self.stalled_since = self._now()
        self.connection.pause()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It caught up."""
        self.stalled_since = None
        self.connection.resume()
        self._flush()
        self._transport.resume_reading()

    def drain(self) -> None:
        """Finish what is open and go."""
        self.connection.drain()
        self._flush()

    def abort(self) -> None:
        """Go now."""
        self.connection.close()
        self._flush()
        self._transport.abort()

    def _wake(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        transport, connection = self._transport, self.connection
        out = connection.take()
        if out and not transport.is_closing():
            if sum(map(len, out)) <= _JOIN_BYTES:
                transport.write(b"".join(out))
            else:
                transport.writelines(out)
        if connection.drained and not transport.is_closing():
            if connection.fault is not None:
                _log.warning(
                    "a connection was ended: %s",
                    connection.fault.message,
                    extra={"peer": str(transport.get_extra_info("peername"))},
                )
            transport.close()


class RpcServer:
    """Listens, and keeps time for its connections.

    ``max_connections``: more are told to go. ``stall_seconds``: a client that reads nothing of
    what was sent for so long is cut off, as is one that says nothing at first.
    """

    def __init__(
        self,
        services: Services,
        limits: Limits,
        now: Callable[[], float],
        *,
        max_connections: int = 1_000,
        stall_seconds: float = 30.0,
    ) -> None:
        self.services = services
        self.limits = limits
        self.now = now
        self._max_connections = max_connections
        self._stall_seconds = stall_seconds
        self._peers: set[Peer] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.port = 0
        """Where it listens, once started."""

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._peers)

    @property
    def streams(self) -> int:
        """Open streams of all connections."""
        return sum(len(peer.connection.streams) for peer in self._peers)

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Listen. Raises OSError when the address can't be had."""
        self.loop = asyncio.get_running_loop()
        self._server = await self.loop.create_server(
            lambda: Peer(self),
            host,
            port,
            backlog=1024,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else _HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=None if tls is None else _SHUTDOWN_SECONDS,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._tick()

    def entered(self, peer: Peer) -> bool:
        """A connection is there; False when there are too many."""
        self._peers.add(peer)
        self._empty.clear()
        return len(self._peers) <= self._max_connections

    def left(self, peer: Peer) -> None:
        """A connection is gone."""
        self._peers.discard(peer)
        if not self._peers:
            self._empty.set()

    def _tick(self) -> None:
        latest = self.now() - self._stall_seconds
        for peer in list(self._peers):
            stalled = peer.stalled_since is not None and peer.stalled_since < latest
            if stalled or (not peer.connection.begun and peer.opened_at < latest):
                peer.abort()
        self._timer = self.loop.call_later(_TICK, self._tick)

    async def drain(self, grace: float) -> None:
        """Accept nothing new and let what is open end, for ``grace`` seconds at most."""
        if self._server is not None:
            self._server.close()
        for peer in list(self._peers):
            peer.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._empty.wait()

    async def stop(self) -> None:
        """Close everything now."""
        if self._server is not None:
            self._server.close()
        if self._timer is not None:
            self._timer.cancel()
        for peer in list(self._peers):
            peer.abort()
        await self._empty.wait()
