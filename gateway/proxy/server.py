"""The proxy as a whole: listening, the clock that enforces deadlines, the graceful end."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast

from gateway.proxy.client import ClientConnection
from gateway.proxy.context import ProxyContext
from gateway.proxy.roster import Roster

_TICK: Final = 0.25  # seconds between two looks at every deadline: coarse, and one timer for all
_TLS_SHUTDOWN_SECONDS: Final = 2.0
_log = logging.getLogger("inferway.proxy")


class ProxyServer:
    """Accepts clients and keeps time for them."""

    def __init__(
        self,
        context: ProxyContext,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        connection: Callable[[ProxyContext, Roster], ClientConnection] = ClientConnection,
    ) -> None:
        self._context = context
        self._host = host
        self._port = port
        self._tls = tls
        self._connection = connection
        self._roster = Roster()
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The port in use, which the system chose when 0 was asked for."""
        return self._port

    @property
    def connections(self) -> int:
        """Open client connections."""
        return len(self._roster)

    async def start(self) -> None:
        """Listen. Raises OSError when the address can't be had."""
        loop = asyncio.get_running_loop()
        timeouts: tuple[float | None, float | None] = (None, None)  # not to be given without TLS
        if self._tls is not None:
            timeouts = (self._context.settings.header_timeout, _TLS_SHUTDOWN_SECONDS)
        self._server = await loop.create_server(
            self._accept,
            self._host,
            self._port,
            backlog=4096,
            ssl=self._tls,
            ssl_handshake_timeout=timeouts[0],
            ssl_shutdown_timeout=timeouts[1],
        )
        self._port = self._server.sockets[0].getsockname()[1]
        self._tick()

    def _accept(self) -> asyncio.BaseProtocol:
        return cast(asyncio.BaseProtocol, self._connection(self._context, self._roster))

    def _tick(self) -> None:
        now = self._context.now()
        for connection in self._roster:
            if connection.deadline <= now:
                connection.deadline_passed()
        self._context.pools.sweep(now)
        self._timer = asyncio.get_running_loop().call_later(_TICK, self._tick)

    async def drain(self, grace: float) -> None:
        """Stop accepting, let what is in flight finish for ``grace`` seconds, then cut it."""
        self._context.draining = True
        if self._server is not None:
            self._server.close()
        for connection in self._roster:
            connection.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._roster.emptied()
        if len(self._roster):
            _log.warning(
                "grace period over, cutting connections",
                extra={"connections": len(self._roster)},
            )

    async def stop(self) -> None:
        """Close everything now."""
        self._context.draining = True
        if self._server is not None:
            self._server.close()
        for connection in self._roster:
            connection.abort()
        self._context.pools.close()
        if self._timer is not None:
            self._timer.cancel()
        await self._roster.emptied()
