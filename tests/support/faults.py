"""Endpoints that fail, stall or never stop: scripts for `tests.support.upstreams.Upstream`."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.support.gateways import MODEL
from tests.support.upstreams import SSE_HEAD, Received, Script, Upstream, chunk, event, unary

_PIECE = 1 << 16


def closed_port() -> int:
    """A loopback port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def full_listener() -> Iterator[int]:
    """A port whose backlog is full: connecting to it neither succeeds nor fails."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port


async def silent(_: Upstream, __: Received, ___: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()


def reset_after(said: bytes) -> Script:
    """Say some bytes and cut the connection once they are gone."""

    async def script(_: Upstream, __: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()
        writer.transport.close()

    return script


BEFORE_A_BYTE: dict[str, Script] = {
    "in head": reset_after(b""),
    "mid-head": reset_after(b"HTTP/1.1 200 OK\r\ncontent-type: appl"),
    "before the body": reset_after(SSE_HEAD),
    "503": unary(b"{}", b"503 Service Unavailable"),
}
"""Failures that a client need not see: nothing of the body was said."""


def stall_after(said: bytes) -> Script:
    """Say some bytes and then nothing more, the connection open."""

    async def script(_: Upstream, __: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await asyncio.Event().wait()

    return script


class Switch:
    """A script that can be exchanged while the endpoint runs."""

    def __init__(self, script: Script) -> None:
        self.script = script

    async def __call__(
        self, upstream: Upstream, request: Received, writer: asyncio.StreamWriter
    ) -> None:
        """Play the script of the moment."""
        await self.script(upstream, request, writer)


class Gate:
    """Streams one token at once, and the others when the gate is opened."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._opened = asyncio.Event()

    def open(self) -> None:
        """Let all streams end, those to come included."""
        self._opened.set()

    async def __call__(self, _: Upstream, __: Received, writer: asyncio.StreamWriter) -> None:
        """Stream to one request."""
        writer.write(SSE_HEAD + chunk(event("first")))
        await writer.drain()
        await self._opened.wait()
        rest = [chunk(event(f"t{index}")) for index in range(1, self._tokens)]
        writer.write(b"".join([*rest, chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n"]))
        await writer.drain()


class Flood:
    """Answers with ``size`` bytes as fast as they are taken, plain or as an event stream."""

    def __init__(self, size: int, *, streamed: bool) -> None:
        self.sent = 0
        """Bytes of the body handed to the socket so far, over all requests."""
        self.under_way = 0
        """Answers neither whole nor cut short."""
        self._size = size
        self._streamed = streamed

    async def __call__(self, _: Upstream, __: Received, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        self.under_way += 1
        try:
            await self._answer(writer)
        finally:
            self.under_way -= 1

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        if self._streamed:
            one = chunk(event("token " * 20))
            head, piece, end = SSE_HEAD, one * (_PIECE // len(one)), b"0\r\n\r\n"
        else:
            head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % self._size
            piece, end = bytes(_PIECE), b""
        writer.write(head)
        left = self._size
        while left > 0:
            writer.write(piece if self._streamed else piece[:left])
            left -= len(piece)
            self.sent += len(piece)
            await writer.drain()
        writer.write(end)
        await writer.drain()


def as_engine(script: Script) -> Script:
    """Answer what probes ask of a model server; ``script`` plays for everything else."""
    listed = b'{"object":"list","data":[{"id":"%b","object":"model"}]}' % MODEL.encode()
    pages = {b"/health": unary(b"{}"), b"/v1/models": unary(listed)}
    missing = unary(b"{}", b"404 Not Found")

    async def engine(upstream: Upstream, request: Received, writer: asyncio.StreamWriter) -> None:
        method, path, _ = request.head.split(b" ", 2)
        if method == b"GET":
            await pages.get(path, missing)(upstream, request, writer)
        else:
            await script(upstream, request, writer)

    return engine
