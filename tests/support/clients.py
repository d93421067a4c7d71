"""Clients in bulk, and what one answer says."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.support.gateways import read_response

_RST_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Answer:
    """One response as raw bytes, and what stands in it."""

    raw: bytes

    @property
    def status(self) -> int:
        """The status code; 0 when nothing came."""
        return int(self.raw[9:12] or b"0")

    @property
    def head(self) -> bytes:
        """Status line and fields."""
        return self.raw.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        """What follows the head, framing included."""
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def code(self) -> str:
        """The ``code`` of a unary error body."""
        return str(json.loads(self.body)["error"]["code"])

    @property
    def event_code(self) -> str:
        """The ``code`` of the error event that a broken stream ends with."""
        data = self.body.partition(b'data: {"error":')[2].partition(b"\n")[0]
        return str(json.loads(b'{"error":' + data)["error"]["code"])

    @property
    def retry_after(self) -> bool:
        """Whether it says when to come again."""
        return b"\r\nretry-after: " in self.head.lower()


@asynccontextmanager
async def connected(
    port: int, *, holding: int = 1 << 16
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is cut when the block ends; it reads ``holding`` bytes ahead or so."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=holding)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def load(port: int, wires: Iterable[bytes], workers: int = 8) -> list[Answer]:
    """Send each request, by workers that keep their connections; the answers as they came."""
    queue = iter(wires)
    answers: list[Answer] = []

    async def work() -> None:
        for wire in queue:
            async with connected(port) as (reader, writer):
                request: bytes | None = wire
                while request is not None:
                    writer.write(request)
                    answer = Answer(await asyncio.wait_for(read_response(reader), 10))
                    answers.append(answer)
                    closing = b"\r\nconnection: close" in answer.head.lower()
                    request = None if closing else next(queue, None)

    await asyncio.gather(*(work() for _ in range(workers)))
    return answers


def reset(writer: asyncio.StreamWriter) -> None:
    """Cut a connection so that the other side sees a reset, not an orderly end."""
    opened: socket.socket = writer.get_extra_info("socket")
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
    writer.transport.abort()
