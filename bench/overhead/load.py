"""The client of the bench: a closed loop of prepared requests on kept-alive connections.

It must never be the bottleneck, so it is a protocol on uvloop that writes prepared bytes,
lets llhttp find the end of each response, and counts. Its own CPU is part of the result.
``python -m bench.overhead.load`` runs it, asked over standard input: `Prepare` (answered when
warm), `Run` (answered when every request has ended, or, for held streams, when all are open)
`Finish` (answered when every request has ended) and `Tell` (answered by `Outcome`).
"""

import asyncio
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from typing import cast

import httptools
import msgspec
import uvloop
from msgspec import Struct

from bench.overhead import answers
from bench.overhead.control import obey
from bench.overhead.prompts import Prompts
from bench.overhead.scenarios import Scenario

_RAMP = 200
"""Streams that are being opened at once: fewer than a listening socket queues."""


class Prepare(Struct, tag=True, frozen=True):
    """Connect to ``ports`` in turn and warm up."""

    scenario: Scenario
    ports: list[int]


class Run(Struct, tag=True, frozen=True):
    """Send the requests that count."""


class Finish(Struct, tag=True, frozen=True):
    """Wait for the end."""


class Tell(Struct, tag=True, frozen=True):
    """Say what became of it."""


class Done(Struct, frozen=True):
    """`Prepare`, `Run` or `Finish` is done; the streams open, and errors so far by kind."""

    open: int
    errors: dict[str, int]


class Outcome(Struct, frozen=True):
    """What the client saw of the requests that count.

    Latencies in seconds: to the end of an answer, or to the first event of a stream.
    ``wall`` and ``cpu`` are seconds between `Run` and the last end, the client's own CPU.
    ``digests``: of all bodies sent, the warm-up's too, ``array('Q')`` in base64. ``errors``
    counts the warm-up's too: an error is an error.
    """

    requests: int
    chunks: int
    latencies: list[float]
    wall: float
    cpu: float
    errors: dict[str, int]
    digests: str


class Load:
    """The requests of a scenario and what became of them."""

    def __init__(self, scenario: Scenario, ports: list[int]) -> None:
        self.loop = asyncio.get_running_loop()
        self.scenario = scenario
        self.prompts = Prompts(scenario)
        self.events = scenario.chunks + answers.CLOSING_EVENTS if scenario.streamed else 0
        self.latencies: list[float] = []
        self.chunks = 0
        self.errors: Counter[str] = Counter()
        self.open = 0
        self._ports: Iterator[int] = cycle(ports)
        self._serials: list[int] = []
        self._limit = 0
        self._pending = 0
        self._opening = 0
        self._lanes: list[Lane] = []
        self._waiting: list[Lane] = []
        self._all_open = asyncio.Event()
        self._all_ended = asyncio.Event()

    async def warm_up(self) -> None:
        """Connect, and send what does not count."""
        for _ in range(self.scenario.connections):
            self._lanes.append(Lane(self))
        self._begin(self.scenario.warm_up)
        await self._all_ended.wait()
        self.latencies.clear()
        self.chunks = 0

    def run(self) -> None:
        """Begin with what counts."""
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        self._begin(self.scenario.requests)

    async def opened(self) -> None:
        """Until every stream has its first event or has failed."""
        await self._all_open.wait()

    async def ended(self) -> None:
        """Until every request has ended."""
        await self._all_ended.wait()

    def outcome(self) -> Outcome:
        """What became of it all; hashing what was sent takes its time."""
        for lane in self._lanes:
            lane.close()
        return Outcome(
            requests=self.scenario.requests,
            chunks=self.chunks,
            latencies=self.latencies,
            wall=self._ended_wall - self.wall,
            cpu=self._ended_cpu - self.cpu,
            errors=dict(self.errors),
            digests=b64encode(self.prompts.digests(self._serials)).decode(),
        )

    def _begin(self, requests: int) -> None:
        self._limit = len(self._serials) + requests
        self._pending = requests
        self.open = self._opening = 0
        self._all_open.clear()
        self._all_ended.clear()
        if not requests:
            self._all_ended.set()
            return
        self._waiting = self._lanes[::-1]
        self._open_more()

    def _open_more(self) -> None:
        """Let lanes start, for held streams only a few at a time."""
        while self._waiting and not (self.scenario.hold and self._opening >= _RAMP):
            self._opening += 1
            self._waiting.pop().next()

    def next_serial(self) -> int | None:
        """The next request's number; None when there are enough."""
        serial = len(self._serials)
        if serial >= self._limit:
            return None
        self._serials.append(serial)
        return serial

    def next_port(self) -> int:
        """Where the next connection goes."""
        return next(self._ports)

    def first_event(self, latency: float) -> None:
        """A stream began."""
        self.latencies.append(latency)
        self.open += 1
        self._opened_one()

    def _opened_one(self) -> None:
        if self.scenario.hold:
            self._opening -= 1
            self._open_more()
            if self.open + sum(self.errors.values()) >= self.scenario.requests:
                self._all_open.set()

    def finished(self, *, began: bool, error: str | None) -> None:
        """A request ended; ``began``: after its first event."""
        if error is not None:
            self.errors[error] += 1
            if not began:
                self._opened_one()
        self._pending -= 1
        if not self._pending:
            self._ended_wall, self._ended_cpu = time.perf_counter(), time.process_time()
            self._all_open.set()
            self._all_ended.set()


class Lane(asyncio.Protocol):
    """One client: a connection, renewed when the gateway closes it, and one request on it."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._request: tuple[bytes, bytes] | None = None
        self._closed = False
        self._events = self._bytes = self._last = 0
        self._connecting: asyncio.Task[object] | None = None

    def next(self) -> None:
        """Send the next request, if there is one."""
        load = self._load
        serial = load.next_serial()
        if serial is None:
            return
        self._request = load.prompts.request(serial)
        self._events = self._bytes = 0
        self._began = time.perf_counter()
        if self._transport is not None:
            self._transport.writelines(self._request)
        else:
            self._connecting = load.loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await self._load.loop.create_connection(
                lambda: self, "127.0.0.1", self._load.next_port()
            )
        except OSError as error:
            self._end(f"connect: {error.strerror or error}")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected: send what waited for it."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape only
        self._parser = httptools.HttpResponseParser(self)
        if self._request is not None:
            self._transport.writelines(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        """The gateway closed: an error when a request was under way."""
        self._transport = None
        if self._request is not None and not self._closed:
            self._end("connection closed")

    def data_received(self, data: bytes) -> None:
        """Count."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            assert self._transport is not None
            self._transport.abort()

    def on_body(self, body: bytes) -> None:
        """A piece of an answer; gateways may cut and join pieces as they like."""
        if self._load.events:
            if not self._bytes and self._parser.get_status_code() == 200:
                self._load.first_event(time.perf_counter() - self._began)
            # An event ends with an empty line, whose two bytes may come in two pieces.
            if self._bytes and self._last == 10 and body[0] == 10:
                self._events += 1
            self._last = body[-1]
            self._events += body.count(b"\n\n")
        self._bytes += len(body)

    def on_message_complete(self) -> None:
        """Check the answer, and go on."""
        load, status = self._load, self._parser.get_status_code()
        transport = self._transport
        if transport is not None and not self._parser.should_keep_alive():
            self._transport = None
            self._request = None  # its connection's end is no error any more
            transport.close()
        if status != 200:
            self._end(f"status {status}")
        elif load.events:
            load.chunks += self._events
            self._end(None if self._events == load.events else "events are missing")
        else:
            load.latencies.append(time.perf_counter() - self._began)
            size = len(answers.UNARY_BODY)
            self._end(None if self._bytes == size else "the answer has another size")

    def _end(self, error: str | None) -> None:
        self._request = None
        began = bool(self._load.events and self._bytes)
        self._load.finished(began=began, error=error)
        self.next()

    def close(self) -> None:
        """Leave."""
        self._closed = True
        if self._transport is not None:
            self._transport.close()


class Client:
    """Answers what the bench asks."""

    async def handle(self, line: bytes) -> Struct:
        """Do as a line of standard input says."""
        told = msgspec.json.decode(line, type=Prepare | Run | Finish | Tell)
        match told:
            case Prepare(scenario, ports):
                self._load = Load(scenario, ports)
                await self._load.warm_up()
            case Run():
                self._load.run()
                if self._load.scenario.hold:
                    await self._load.opened()
            case Finish():
                await self._load.ended()
            case Tell():
                return self._load.outcome()
        return Done(self._load.open, dict(self._load.errors))


async def main() -> None:
    """Work until standard input ends."""
    await obey(Client().handle)


if __name__ == "__main__":
    uvloop.run(main())
