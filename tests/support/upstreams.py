"""Endpoints for tests that say exactly the bytes they are told to say."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


@dataclass
class Received:
    """One request as an endpoint saw it, byte for byte."""

    head: bytes
    body: bytes
    trailers: bytes = b""

    @property
    def fields(self) -> dict[bytes, bytes]:
        """Header fields by lower-case name."""
        lines = self.head.split(b"\r\n")[1:]
        pairs = (line.split(b":", 1) for line in lines if line)
        return {name.lower(): value.strip() for name, value in pairs}


Script = Callable[["Upstream", Received, asyncio.StreamWriter], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader) -> Received | None:
    """One request with its body, or None when the connection ended."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    received = Received(head, b"")
    try:
        if received.fields.get(b"transfer-encoding") == b"chunked":
            received.body, received.trailers = await _read_chunks(reader)
        else:
            length = int(received.fields.get(b"content-length", b"0"))
            received.body = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return received


async def _read_chunks(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """A chunked body, and its trailers as they are."""
    pieces = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        pieces.append(await reader.readexactly(size))
        await reader.readexactly(2)
    trailers = b""
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        trailers += line
    return b"".join(pieces), trailers


@dataclass
class Upstream:
    """A scripted endpoint on a free loopback port."""

    script: Script
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    closed_by_peer: int = 0
    port: int = 0

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._writers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        try:
            while (request := await read_request(reader)) is not None:
                self.received.append(request)
                answering = asyncio.ensure_future(self.script(self, request, writer))
                gone = asyncio.ensure_future(_until_eof(reader))
                await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
                if gone.done() and not answering.done():
                    self.closed_by_peer += 1
                    answering.cancel()
                gone.cancel()
                with suppress(asyncio.CancelledError):
                    await gone
                # RuntimeError: uvloop's word for writing to a connection that is closed by now.
                with suppress(asyncio.CancelledError, ConnectionError, RuntimeError):
                    await answering
                if writer.is_closing():
                    break
        except asyncio.CancelledError:
            pass  # we stop; passed on, asyncio's streams would log it as a defect
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()
            # Else an error that ended the connection is told to nobody, and reported as a defect.
            closed = asyncio.ensure_future(writer.wait_closed())
            self._tasks.add(closed)
            closed.add_done_callback(self._closed)

    def _closed(self, end: asyncio.Task[None]) -> None:
        self._tasks.discard(end)
        if not end.cancelled():
            end.exception()


async def _until_eof(reader: asyncio.StreamReader) -> None:
    """Wait for the end of the connection without eating a following request."""
    while not reader.at_eof() and reader.exception() is None:
        await asyncio.sleep(0.002)


def unary(body: bytes = b'{"ok":true}', status: bytes = b"200 OK", fields: bytes = b"") -> Script:
    """Answer with a whole response."""

    async def script(_: Upstream, __: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n%b"
            % (status, len(body), fields, body)
        )
        await writer.drain()

    return script


SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(token: str) -> bytes:
    """One chat chunk as an event."""
    return b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % token.encode()


def stream(tokens: int = 5, gap: float = 0.0) -> Script:
    """Stream tokens, then usage, then [DONE]."""

    async def script(_: Upstream, __: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD)
        for index in range(tokens):
            writer.write(chunk(event(f"t{index} ")))
            await writer.drain()
            await asyncio.sleep(gap)
        usage = (
            b'data: {"choices":[],"usage":{"prompt_tokens":40,"completion_tokens":%d,'
            b'"prompt_tokens_details":{"cached_tokens":16}}}\n\n' % tokens
        )
        writer.write(chunk(usage) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()

    return script
