"""Where trials are held: a fresh proxy before a recording server, and clients that say bytes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from bench.fuzz.mutations import Said
from bench.fuzz.proxy import FuzzedProxy, fuzzed_proxy
from bench.fuzz.server import Answering, RecordingServer
from bench.fuzz.strict import MalformedError, ReadResponse, read_responses

_BOUND = 5.0  # seconds in which what takes milliseconds must have happened
_POLL = 0.001
_STILL = 8  # polls without any change after which a proxy that may wait is taken to wait


class DefectError(AssertionError):
    """The proxy did what it must never do."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a client got, and whether the proxy closed the connection."""

    data: bytes
    closed: bool

    def responses(self, methods: list[bytes]) -> list[ReadResponse]:
        """As strict responses; DefectError when they are none."""
        try:
            return read_responses(self.data, methods, closed=self.closed)
        except MalformedError as error:
            raise DefectError(f"the client got {error}: {self.data!r}") from error


class _Client(asyncio.Protocol):
    """Says bytes and keeps what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.closed = False

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True

    def finals(self, methods: list[bytes]) -> int:
        """How many whole final responses it has."""
        read = Heard(self.heard, self.closed).responses(methods)
        return sum(response.whole and response.status >= 200 for response in read)


@dataclass(slots=True)
class Scene:
    """Server, proxy, and what the event loop was told of."""

    server: RecordingServer
    proxy: FuzzedProxy
    errors: list[str] = field(default_factory=list)

    async def say(self, said: Said, due: int, methods: list[bytes]) -> Heard:
        """Say it on a connection of its own; return when the proxy closes or nothing moves.

        ``due``: the final responses that must have come, for requests of these ``methods``,
        before stillness counts. DefectError when they do not come: that is a hang.
        """
        loop = asyncio.get_running_loop()
        transport, client = await loop.create_connection(
            _Client, "127.0.0.1", self.proxy.server.port
        )
        try:
            for piece in said.pieces:
                if client.closed:
                    break
                transport.write(piece)
                await asyncio.sleep(0)
            await self._until_rest(client, due, methods)
            heard = Heard(client.heard, client.closed)
        finally:
            transport.abort()
        await _until(lambda: client.closed, "the client's connection did not end")
        return heard

    async def _until_rest(self, client: _Client, due: int, methods: list[bytes]) -> None:
        end = asyncio.get_running_loop().time() + _BOUND
        seen, still = self._sight(client), 0
        while not client.closed:
            await asyncio.sleep(_POLL)
            sight = self._sight(client)
            still = still + 1 if sight == seen and not self.server.speaking else 0
            seen = sight
            if still >= _STILL and client.finals(methods) >= due:
                return
            if asyncio.get_running_loop().time() > end:
                raise DefectError(f"a hang: {due} answers due, heard {client.heard!r}")

    def _sight(self, client: _Client) -> tuple[int, int, int]:
        return len(client.heard), len(self.server.requests), self.proxy.in_flight

    async def given_back(self) -> None:
        """Check that nothing is left of the clients, and that nothing went wrong unseen."""
        await _until(lambda: not self.proxy.connections, "client connections are left")
        await _until(lambda: not self.proxy.in_flight, "reservations are left")
        if self.errors:
            raise DefectError(f"raised into the event loop: {self.errors}")
        if self.server.violations:
            raise DefectError(f"forwarded: {self.server.violations}")
        if self.server.partial:
            raise DefectError("forwarded a part of a request")


async def _until(condition: Callable[[], bool], complaint: str) -> None:
    end = asyncio.get_running_loop().time() + _BOUND
    while not condition():
        if asyncio.get_running_loop().time() > end:
            raise DefectError(complaint)
        await asyncio.sleep(_POLL)


@asynccontextmanager
async def stage(answering: Answering) -> AsyncIterator[Scene]:
    """A fresh scene; leaving it checks that no task outlives it."""
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    errors: list[str] = []

    def note(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    former = loop.get_exception_handler()
    loop.set_exception_handler(note)
    try:
        async with RecordingServer(answering) as server, fuzzed_proxy(server.url) as proxy:
            scene = Scene(server, proxy, errors)
            yield scene
            await scene.given_back()
        await _until(lambda: asyncio.all_tasks() == before, "tasks are left")
    finally:
        loop.set_exception_handler(former)
