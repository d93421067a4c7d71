"""The model servers behind the gateways: several in one process, as cheap as can be.

They answer every chat completion as they were last told (`Plan`) and remember the xxh3_64 of
every body, so that what arrived can be compared with what was sent.
``python -m bench.overhead.upstream`` runs them, asked over standard input; see
`bench.overhead.control`.
"""

import asyncio
from array import array
from base64 import b64encode
from typing import cast

import httptools
import msgspec
import uvloop
from msgspec import Struct
from xxhash import xxh3_64

from bench.overhead import answers
from bench.overhead.control import obey
from bench.overhead.prompts import PATH

_WORK = PATH.encode()


class Listen(Struct, tag=True, frozen=True):
    """Start ``servers`` servers on free ports; answered by `Listening`."""

    servers: int


class Plan(Struct, tag=True, frozen=True):
    """Forget all bodies, and answer from now on with ``chunks`` events ``gap`` seconds apart.

    No chunks: in one piece. With ``hold``, streams stop after their first event until `Release`.
    """

    chunks: int
    gap: float
    hold: bool


class Release(Struct, tag=True, frozen=True):
    """Let held streams go on."""


class Report(Struct, tag=True, frozen=True):
    """Ask for the bodies received since the last `Plan`; answered by `Received`."""


class Listening(Struct, frozen=True):
    """Where the servers listen."""

    ports: list[int]


class Received(Struct, frozen=True):
    """What the servers have seen: requests by server, and the digests of all bodies.

    ``digests`` is ``array('Q')`` in base64.
    """

    requests: list[int]
    digests: str


class Servers:
    """What all connections share."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.plan = Plan(chunks=0, gap=0.0, hold=False)
        self.digests = array("Q")
        self.requests: list[int] = []
        self.running: list[int] = []
        self._held: set[Connection] = set()
        self._listening: list[asyncio.Server] = []

    async def handle(self, line: bytes) -> Struct:
        """Do as a line of standard input says."""
        told = msgspec.json.decode(line, type=Listen | Plan | Release | Report)
        match told:
            case Listen(servers):
                return Listening([await self._listen(index) for index in range(servers)])
            case Plan():
                self.plan = told
                self.digests = array("Q")
                self.requests = [0] * len(self._listening)
            case Release():
                self._release()
            case Report():
                pass
        return Received(self.requests, b64encode(self.digests).decode())

    async def _listen(self, index: int) -> int:
        self.requests.append(0)
        self.running.append(0)
        server = await self.loop.create_server(
            lambda: Connection(self, index), "127.0.0.1", 0, backlog=4096
        )
        self._listening.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    def hold(self, connection: "Connection") -> None:
        """Keep a stream until `Release`."""
        self._held.add(connection)

    def let_go(self, connection: "Connection") -> None:
        """The stream's client left."""
        self._held.discard(connection)

    def _release(self) -> None:
        held, self._held = self._held, set()
        spacing = self.plan.gap / max(len(held), 1)
        for place, connection in enumerate(held):  # spread over one gap, as real streams are
            self.loop.call_later(place * spacing, connection.next_chunk)


class Connection(asyncio.Protocol):
    """One connection of a gateway; gateways do not pipeline, so one request at a time."""

    def __init__(self, servers: Servers, index: int) -> None:
        self._servers = servers
        self._index = index
        self._parser = httptools.HttpRequestParser(self)
        self._left = 0
        self._streaming = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A gateway connected."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape only

    def connection_lost(self, exc: Exception | None) -> None:
        """The gateway left, perhaps in the middle of a stream."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._servers.let_go(self)
        if self._streaming:
            self._streaming = False
            self._servers.running[self._index] -= 1

    def data_received(self, data: bytes) -> None:
        """Parse; a request that can't be parsed is a gateway's defect and cuts the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._path = b""
        self._hasher = xxh3_64()

    def on_url(self, url: bytes) -> None:
        """A piece of the path."""
        self._path += url

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._hasher.update(body)

    def on_message_complete(self) -> None:
        """Answer."""
        servers = self._servers
        # A router may ask other pages by POST (to render a prompt, say): those are not work.
        if self._path != _WORK:
            self._transport.write(self._page())
            return
        servers.digests.append(self._hasher.intdigest())
        servers.requests[self._index] += 1
        plan = servers.plan
        if not plan.chunks:
            self._transport.write(answers.UNARY)
            return
        servers.running[self._index] += 1
        self._streaming = True
        self._left = plan.chunks - 1
        self._transport.write(answers.STREAM_HEAD + answers.STREAM_CHUNK)
        if plan.hold:
            servers.hold(self)
        else:
            self._timer = servers.loop.call_later(plan.gap, self.next_chunk)

    def _page(self) -> bytes:
        path = self._path.partition(b"?")[0]
        if path == b"/metrics":
            return answers.metrics(self._servers.running[self._index])
        return answers.PAGES.get(path, answers.NOT_FOUND)

    def next_chunk(self) -> None:
        """Send the stream's next event, or its end."""
        if self._transport.is_closing():
            return
        if self._left:
            self._left -= 1
            self._transport.write(answers.STREAM_CHUNK)
            self._timer = self._servers.loop.call_later(self._servers.plan.gap, self.next_chunk)
        else:
            self._timer = None
            self._streaming = False
            self._servers.running[self._index] -= 1
            self._transport.write(answers.STREAM_END)


async def main() -> None:
    """Serve until standard input ends."""
    await obey(Servers().handle)


if __name__ == "__main__":
    uvloop.run(main())
