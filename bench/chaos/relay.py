"""A TCP relay before one model server, which can be told to do mischief to what passes.

Without mischief bytes pass as they come. With some, each connection gets a `Passage` of its
own, which sees every piece on its way and may change, delay or swallow it, or cut the
connection. Mischief can begin and end while connections are open.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from random import Random
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
_PIECE = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class CutError(Exception):
    """A passage wants the connection reset."""


class Passage:
    """What becomes of one connection's bytes; this one leaves them alone.

    ``strikes`` counts how often a passage did harm.
    """

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.strikes = 0

    async def to_server(self, piece: bytes, reply: Callable[[bytes], None]) -> bytes:
        """What of a piece goes on to the server; ``reply`` answers in its place."""
        return piece

    async def to_client(self, piece: bytes) -> bytes:
        """What of a piece goes on to the client."""
        return piece


Mischief = Callable[[Random], Passage]


class Relay:
    """Relays to a port of this machine, from entering its context to leaving it.

    With ``tls`` it ends TLS, with the certificate of the moment (`present`).
    """

    def __init__(self, target: int, seed: str, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self._target = target
        self._dice = Random(seed)
        self._mischief: Mischief | None = None
        self._passages: list[Passage] = []
        self._lines: set[_Line] = set()
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def strikes(self) -> int:
        """How often mischief did harm so far."""
        return sum(passage.strikes for passage in self._passages)

    def begin(self, mischief: Mischief) -> None:
        """Do this to what passes from now on, on open connections too."""
        self._mischief = mischief

    def end(self) -> None:
        """Leave new connections alone, and reset those that mischief was done to."""
        self._mischief = None
        for line in [*self._lines]:
            if line.passage is not None and line.passage.strikes:
                line.reset()

    def reset_all(self) -> int:
        """Reset every open connection; how many there were."""
        lines = [*self._lines]
        for line in lines:
            line.reset()
        return len(lines)

    def passage_of(self, line: "_Line") -> Passage | None:
        """The passage of a connection; a new one when mischief has begun."""
        if self._mischief is None:
            return line.passage
        if line.passage is None or line.mischief is not self._mischief:
            line.mischief = self._mischief
            line.passage = self._mischief(self._dice)
            self._passages.append(line.passage)
        return line.passage

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        line = _Line(self, reader, writer)
        self._lines.add(line)
        try:
            await line.run(self._target)
        except asyncio.CancelledError:
            pass  # we stop; passed on, asyncio's streams would log it as a defect
        finally:
            self._lines.discard(line)


class _Line:
    """One connection through the relay."""

    def __init__(
        self, relay: Relay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.mischief: Mischief | None = None
        self.passage: Passage | None = None
        self._relay = relay
        self._reader = reader
        self._writer = writer

    async def run(self, target: int) -> None:
        try:
            from_server, to_server = await asyncio.open_connection(HOST, target)
        except OSError:
            self.reset()
            return
        forth = asyncio.create_task(self._forth(to_server))
        back = asyncio.create_task(self._back(from_server))
        try:
            await asyncio.wait((forth, back), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (forth, back):
                task.cancel()
            await asyncio.gather(forth, back, return_exceptions=True)
            to_server.transport.abort()
            self._writer.close()

    def reset(self) -> None:
        """Close the client's side with a reset."""
        sock = self._writer.get_extra_info("socket")
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._writer.transport.abort()

    async def _forth(self, to_server: asyncio.StreamWriter) -> None:
        while piece := await self._reader.read(_PIECE):
            passage = self._relay.passage_of(self)
            if passage is not None:
                piece = await passage.to_server(piece, self._writer.write)
            to_server.write(piece)
            await to_server.drain()

    async def _back(self, from_server: asyncio.StreamReader) -> None:
        while piece := await from_server.read(_PIECE):
            passage = self._relay.passage_of(self)
            if passage is not None:
                try:
                    piece = await passage.to_client(piece)
                except CutError:
                    self.reset()
                    return
            self._writer.write(piece)
            await self._writer.drain()
