"""An endpoint that reads strictly, keeps every byte it got and answers with given bytes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeAlias, cast

from bench.fuzz.strict import MalformedError, ReadRequest, RequestReader

_GAP = 0.001  # seconds between two pieces, so that they mostly arrive in two reads


@dataclass(frozen=True, slots=True)
class Answer:
    """The bytes of a response, in the pieces they are written in."""

    pieces: tuple[bytes, ...]
    closes: bool = False  # the connection ends with the answer


Answering: TypeAlias = Callable[[ReadRequest], Answer]

OK = Answer((b'HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{"ok":true}',))


class RecordingServer:
    """A strict endpoint on a free loopback port."""

    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        self.requests: list[ReadRequest] = []
        self.violations: list[str] = []
        """What was wrong with the bytes that came."""
        self.connections = 0
        self.open: set[_Connection] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for connection in list(self.open):
            connection.abort()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def speaking(self) -> bool:
        """Whether an answer is not said to its end."""
        return any(connection.answering for connection in self.open)

    @property
    def partial(self) -> bool:
        """Whether a request began to come on an open connection and is not whole."""
        return any(connection.partial for connection in self.open)


class _Connection(asyncio.Protocol):
    """One connection from the proxy."""

    def __init__(self, server: RecordingServer) -> None:
        self._server = server
        self._reader = RequestReader(grammar=True)
        self._transport: asyncio.Transport | None = None
        self.answering = False

    @property
    def partial(self) -> bool:
        return self._reader.partial

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape only
        self._server.connections += 1
        self._server.open.add(self)

    def data_received(self, data: bytes) -> None:
        server = self._server
        if self.answering:
            server.violations.append(f"bytes after a request that is not answered yet: {data!r}")
            return
        try:
            requests = self._reader.feed(data)
        except MalformedError as error:
            server.violations.append(f"{error} in {data!r}")
            self.abort()
            return
        server.requests += requests
        if requests and (len(requests) > 1 or self._reader.partial):
            server.violations.append(f"more than one request at once: {data!r}")
        for request in requests:
            self.answering = True
            self._say(server.answering(request), 0)

    def _say(self, answer: Answer, at: int) -> None:
        if self._transport is None:
            return
        last = at + 1 >= len(answer.pieces)
        if last:
            self.answering = False
        if answer.pieces:
            self._transport.write(answer.pieces[at])
        if not last:
            asyncio.get_running_loop().call_later(_GAP, self._say, answer, at + 1)
        elif answer.closes:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reader.partial:
            self._server.violations.append("a connection ended within a request")
        self._transport = None
        self._server.open.discard(self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
