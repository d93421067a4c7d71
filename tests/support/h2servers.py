"""Endpoints that speak HTTP/2 without TLS and say what they are told to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from gateway.h2.connection import Connection
from gateway.h2.frames import ErrorCode
from gateway.h2.headers import Block, literal_block
from gateway.h2.limits import Limits
from gateway.h2.stream import Stream

Fields = list[tuple[bytes, bytes]]
TRAILERS = literal_block([(b"x-trailer", b"1")])


@dataclass
class Request:
    """One request as the server saw it, and its stream."""

    stream: Stream
    fields: dict[bytes, bytes]
    body: bytes = b""
    cut_by: ErrorCode | None = None

    def answer(self, body: bytes, fields: Fields | None = None, status: bytes = b"200") -> None:
        """A whole response, with trailers."""
        self.stream.send_headers(literal_block([(b":status", status), *(fields or [])]))
        self.stream.send_data(body)
        self.stream.send_end(TRAILERS)


@dataclass
class H2Server:
    """``respond`` is called with each whole request."""

    respond: Callable[[Request], object]
    limits: Limits = field(default_factory=Limits)
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    peers: list["_Peer"] = field(default_factory=list)


class _Receiver:
    def __init__(self, server: H2Server, request: Request) -> None:
        self.server = server
        self.request = request

    def data(self, data: bytes) -> None:
        self.request.body += data

    def end(self) -> None:
        self.server.respond(self.request)

    def cut(self, code: ErrorCode) -> None:
        self.request.cut_by = code


class _Peer(asyncio.Protocol):
    def __init__(self, server: H2Server) -> None:
        self.server = server
        self.transport: asyncio.Transport | None = None
        self.connection = Connection(server.limits, self._open, self._wake)
        server.connections += 1
        server.peers.append(self)

    def _open(self, stream: Stream, block: Block) -> _Receiver:
        request = Request(stream, dict(block.fields))
        self.server.requests.append(request)
        return _Receiver(self.server, request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.flush()

    def data_received(self, data: bytes) -> None:
        self.connection.receive(data, 0.0)
        self.flush()

    def connection_lost(self, _: Exception | None) -> None:
        self.connection.lost()
        self.transport = None

    def _wake(self) -> None:
        asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        if self.transport is not None and (out := self.connection.take()):
            self.transport.write(b"".join(out))


@asynccontextmanager
async def h2_server(
    respond: Callable[[Request], object], *, ip: str = "127.0.0.1", port: int = 0, **limits: int
) -> AsyncIterator[H2Server]:
    """A server on a free port."""
    server = H2Server(respond, Limits(**limits))
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: _Peer(server), ip, port)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for peer in server.peers:
            if peer.transport is not None:
                peer.transport.abort()
        await asyncio.sleep(0)
