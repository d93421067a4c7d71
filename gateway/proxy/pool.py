"""Connections to endpoints: one pool an endpoint, the most recently used lent first."""

import asyncio
import ssl
import time
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from mypy_extensions import trait

from gateway.proxy.outbox import Outbox
from gateway.proxy.upstream import ConnectionKeeper, State, UpstreamConnection
from routing.fleet import Endpoint


@trait
class Waiter:
    """Who waits for a new connection; the exchange in production."""

    def connected(self, connection: UpstreamConnection) -> None:
        """Here it is, idle."""

    def not_connected(self, reason: str) -> None:
        """It could not be opened: ``connect_failed`` or ``connect_timeout``."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Bounds of an endpoint's pool.

    ``idle_timeout`` (seconds) lies below the 5 s after which uvicorn, which serves vLLM and
    SGLang, closes an idle connection: so a connection is rarely lent just as it dies.
    """

    connect_timeout: float = 2.0
    idle_timeout: float = 4.0
    max_idle: int = 256
    tls: ssl.SSLContext | None = None  # for https endpoints; None: the system's authorities


@dataclass(frozen=True, slots=True)
class Address:
    """Where an endpoint listens, taken apart once."""

    host: str
    port: int
    authority: bytes
    tls: bool

    @classmethod
    def of(cls, url: str) -> "Address":
        """From an ``http://`` or ``https://`` URL without a path."""
        parts = urlsplit(url)
        assert parts.hostname is not None, url  # discovery checked it
        tls = parts.scheme == "https"
        return cls(
            parts.hostname, parts.port or (443 if tls else 80), parts.netloc.encode("idna"), tls
        )


class ConnectAttempt:
    """A connection being opened for a waiter, who may lose interest meanwhile."""

    def __init__(self, waiter: Waiter) -> None:
        self.waiter: Waiter | None = waiter

    def cancel(self) -> None:
        """Nobody waits any more: the connection, if it comes, serves the next request."""
        self.waiter = None


class EndpointPool(ConnectionKeeper):
    """The connections to one endpoint."""

    def __init__(self, address: Address, settings: PoolSettings, outbox: Outbox) -> None:
        self.address = address
        self._settings = settings
        self._outbox = outbox
        self._idle: list[UpstreamConnection] = []
        self._all: set[UpstreamConnection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._ssl = (settings.tls or ssl.create_default_context()) if address.tls else None
        self._closed = False

    @property
    def unused(self) -> bool:
        """Whether no connection is open or being opened."""
        return not self._all and not self._connecting

    def take(self) -> UpstreamConnection | None:
        """An idle connection, or None when a new one must be opened."""
        while self._idle:
            connection = self._idle.pop()
            if connection.state is State.IDLE:
                return connection
        return None

    def connect(self, waiter: Waiter) -> ConnectAttempt:
        """Open a connection; the waiter is called exactly once, unless it cancels."""
        attempt = ConnectAttempt(waiter)
        task = asyncio.get_running_loop().create_task(self._open(attempt))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return attempt

    async def _open(self, attempt: ConnectAttempt) -> None:
        address = self.address
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                opened = await asyncio.get_running_loop().create_connection(
                    self._track, address.host, address.port, ssl=self._ssl
                )
        except TimeoutError:
            failure = "connect_timeout"
        except OSError:  # refused, unreachable, unresolvable, TLS failure
            failure = "connect_failed"
        else:
            connection = cast(UpstreamConnection, cast(object, opened[1]))
            if attempt.waiter is not None:
                attempt.waiter.connected(connection)
            else:
                self.release(connection)
            return
        if attempt.waiter is not None:
            attempt.waiter.not_connected(failure)

    def _track(self) -> asyncio.BaseProtocol:
        connection = UpstreamConnection(self, self._outbox)
        self._all.add(connection)
        return cast(asyncio.BaseProtocol, cast(object, connection))

    def release(self, connection: UpstreamConnection) -> None:
        """Take back an idle connection."""
        if self._closed or len(self._idle) >= self._settings.max_idle:
            connection.close()
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)

    def discard(self, connection: UpstreamConnection) -> None:
        """Forget a connection; an idle one is skipped when its turn comes, or swept."""
        self._all.discard(connection)

    def sweep(self, now: float) -> None:
        """Close what has been idle too long; the oldest lie at the front."""
        horizon = now - self._settings.idle_timeout
        kept = 0
        for connection in self._idle:
            if connection.state is State.IDLE and connection.idle_since > horizon:
                break
            kept += 1
        expired, self._idle = self._idle[:kept], self._idle[kept:]
        for connection in expired:
            connection.close()

    def close(self) -> None:
        """Close every connection; exchanges in flight see theirs end."""
        self._closed = True
        for task in list(self._connecting):
            task.cancel()
        for connection in list(self._all):
            connection.close()
        self._idle.clear()


class Pools:
    """The pools of all endpoints, made on first use."""

    def __init__(self, settings: PoolSettings) -> None:
        self.outbox = Outbox()
        """What goes out in this turn, towards endpoints and clients alike."""
        self._settings = settings
        self._pools: dict[str, EndpointPool] = {}  # by URL

    def of(self, endpoint: Endpoint) -> EndpointPool:
        """The pool of an endpoint."""
        return self.at(endpoint.url)

    def at(self, url: str) -> EndpointPool:
        """The pool of whoever listens at ``scheme://host:port``."""
        pool = self._pools.get(url)
        if pool is None:
            pool = self._pools[url] = self._new(url)
        return pool

    def _new(self, url: str) -> EndpointPool:
        if url.startswith("h2c:"):
            from gateway.proxy.h2c import H2cPool  # noqa: PLC0415 - it builds on this module

            return H2cPool(Address.of(url), self._settings, self.outbox)
        return EndpointPool(Address.of(url), self._settings, self.outbox)

    def sweep(self, now: float) -> None:
        """Close idle connections past their time, and drop pools that hold none."""
        for url, pool in list(self._pools.items()):
            pool.sweep(now)
            if pool.unused:
                del self._pools[url]

    def close(self) -> None:
        """Close everything."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
