"""A client's connection on a socket: frames in, one write for all that is to be said."""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from gateway.h2.client import ClientConnection
from gateway.h2.connection import Phase
from gateway.h2.limits import Limits

_HIGH_WATER: Final = 1 << 20  # bytes in the socket's buffer at which streams wait


class ClientChannel:
    """One connection: an `asyncio.Protocol` by shape. ``gone`` is called once, at its end."""

    def __init__(self, limits: Limits, gone: Callable[["ClientChannel"], None]) -> None:
        self._transport: asyncio.Transport | None = None
        self._flushing = False
        self.connection = ClientConnection(limits, self._wake)
        self._gone = gone

    @property
    def free(self) -> bool:
        """Whether another stream can be opened."""
        return self._transport is not None and self.connection.free

    @property
    def idle(self) -> bool:
        """Whether no stream is open."""
        return not self.connection.streams

    def close(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    # --- from the event loop -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape only
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Frames came."""
        self.connection.receive(data, asyncio.get_running_loop().time())
        self._flush()
        if self.connection.phase is Phase.CLOSED or self.connection.drained:
            self.close()

    def eof_received(self) -> bool:
        """A peer that sends nothing more has gone."""
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        """Every stream ends."""
        self._transport = None
        self.connection.lost()
        self._gone(self)

    def pause_writing(self) -> None:
        """The peer does not keep up."""
        self.connection.pause()

    def resume_writing(self) -> None:
        """It caught up."""
        self.connection.resume()

    def _wake(self) -> None:
        if not self._flushing and self._transport is not None:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is not None and (out := self.connection.take()):
            self._transport.write(b"".join(out))
