"""Follows the cache events of the whole fleet into one view."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import zmq

from endpoints.events.diagnosis import Diagnosis, Surroundings
from endpoints.events.feed import Feed
from endpoints.events.health import FeedHealth
from endpoints.events.settings import EventSettings
from endpoints.events.source import EventSource, sources_of
from endpoints.events.subscriber import Subscriber
from endpoints.events.translation import HOLDING_BYTES
from endpoints.probes.complaints import Complaints
from routing.endpoint import Endpoint
from routing.fleet import Fleet
from routing.prefix.residency import Residency

logger = logging.getLogger(__name__)

_TEND_INTERVAL = 1.0
_SWEEP_BLOCKS = 5000  # about a millisecond or two
_SILENT_ENGINES = frozenset({"llamacpp", "trtllm"})  # they have no publisher


def new_residency(settings: EventSettings) -> Residency:
    """The view that a `EventWatch` with these settings fills."""
    return Residency(settings.view_bytes, HOLDING_BYTES)


@dataclass(frozen=True, slots=True)
class FeedView:
    """One stream, for operators. ``blocks`` and ``incomplete`` are the endpoint's."""

    source: EventSource
    connected: bool
    catching_up: bool
    health: FeedHealth
    complaints: tuple[str, ...]
    blocks: int
    incomplete: bool


@dataclass(eq=False, slots=True)
class _Stream:
    subscriber: Subscriber
    diagnosis: Diagnosis
    complaints: Complaints
    open: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class _Watched:
    endpoint: Endpoint
    sources: tuple[EventSource, ...]
    streams: list[_Stream]


class EventWatch:
    """Keeps ``residency`` true for the fleet's endpoints, from `start` to `stop`.

    It follows the fleet's membership when told to (`sync`). ``requests`` tells how many requests
    were sent to an endpoint so far; ``clock`` is the time in Unix seconds.
    """

    def __init__(
        self,
        fleet: Fleet,
        residency: Residency,
        settings: EventSettings,
        *,
        requests: Callable[[str], int] = lambda _: 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._fleet = fleet
        self._residency = residency
        self._settings = settings
        self._requests = requests
        self._clock = clock
        self._watched: dict[str, _Watched] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._replays = asyncio.Semaphore(settings.replays_at_once)
        self._leaving: set[asyncio.Task[None]] = set()
        self._tending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "EventWatch":
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin to follow the fleet's endpoints."""
        self._context = zmq.Context()
        limit = self._context.get(zmq.SOCKET_LIMIT)
        self._context.set(zmq.MAX_SOCKETS, limit if isinstance(limit, int) else 1 << 16)
        self._tending = asyncio.get_running_loop().create_task(self._tend())
        self.sync()

    async def stop(self) -> None:
        """Stop following and close every socket; the view stays as it is."""
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.gather(self._tending, return_exceptions=True)
            self._tending = None
        for watched in self._watched.values():
            self._close(watched)
        self._watched.clear()
        await asyncio.gather(*self._leaving)
        if self._context is not None:
            self._context.destroy(linger=0)
            self._context = None

    def sync(self) -> None:
        """Follow the fleet: subscribe to who joined, leave who is gone, turn to who moved."""
        if self._context is None:
            return
        wanted = {state.endpoint.name: state.endpoint for state in self._fleet}
        for name, watched in [*self._watched.items()]:
            if wanted.get(name) is None or self._sources(wanted[name]) != watched.sources:
                self._close(self._watched.pop(name))
                self._residency.forget(name)
        for name, endpoint in wanted.items():
            if name not in self._watched:
                self._watched[name] = self._open(endpoint, self._context)
            self._watched[name].endpoint = endpoint

    def restarted(self, name: str) -> None:
        """Probes found that the endpoint's engine started anew."""
        watched = self._watched.get(name)
        for stream in watched.streams if watched is not None else ():
            stream.subscriber.doubt()

    def views(self) -> tuple[FeedView, ...]:
        """Every stream as it is now."""
        return tuple(
            FeedView(
                source=stream.subscriber.source,
                connected=stream.subscriber.connected,
                catching_up=stream.subscriber.catching_up,
                health=stream.subscriber.feed.health,
                complaints=tuple(stream.open.values()),
                blocks=self._residency.blocks(name),
                incomplete=self._residency.incomplete(name),
            )
            for name, watched in self._watched.items()
            for stream in watched.streams
        )

    # -- endpoints -------------------------------------------------------------------------

    def _sources(self, endpoint: Endpoint) -> tuple[EventSource, ...]:
        state = self._fleet.get(endpoint.name)
        if state is not None and state.engine in _SILENT_ENGINES:
            return ()
        try:
            return sources_of(endpoint, self._settings)
        except ValueError as error:
            known = self._watched.get(endpoint.name)
            if known is None:
                logger.warning("%s: events: %s", endpoint.name, error)
            return ()

    def _open(self, endpoint: Endpoint, context: zmq.Context[zmq.Socket[bytes]]) -> _Watched:
        sources = self._sources(endpoint)
        watched = _Watched(endpoint, sources, [])
        for source in sources:
            complaints = Complaints(logger, endpoint.name)
            feed = Feed(
                endpoint.name,
                self._residency,
                alone=len(sources) == 1,
                keep_after_loss=self._settings.after_loss == "keep",
            )
            subscriber = Subscriber(
                source, feed, self._settings, context, self._replays, self._clock
            )
            try:
                subscriber.start()
            except ValueError as error:
                complaints.report("events connection", str(error))
                continue
            diagnosis = Diagnosis(source, self._clock(), self._settings.silent_after)
            watched.streams.append(_Stream(subscriber, diagnosis, complaints))
        return watched

    def _close(self, watched: _Watched) -> None:
        for stream in watched.streams:
            stream.subscriber.close()
            task = asyncio.get_running_loop().create_task(stream.subscriber.stop())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    # -- from time to time -----------------------------------------------------------------

    async def _tend(self) -> None:
        """Give memory back and look for what is wrong."""
        while True:
            await asyncio.sleep(_TEND_INTERVAL)
            self._residency.sweep(_SWEEP_BLOCKS)
            self.diagnose()

    def diagnose(self) -> None:
        """Look for what is wrong: each new problem is logged once, and shown while it lasts."""
        now = self._clock()
        for name, watched in self._watched.items():
            state = self._fleet.get(name)
            load = state.load if state is not None else None
            for stream in watched.streams:
                subscriber = stream.subscriber
                around = Surroundings(
                    url=watched.endpoint.url,
                    requests=self._requests(name),
                    block_tokens=load.cache_block_tokens if load is not None else None,
                    view_block_tokens=self._residency.size_of(name),
                    connected=subscriber.connected,
                    topic=subscriber.topic,
                )
                found = stream.diagnosis.complaints(subscriber.feed.health, around, now)
                for topic in stream.open.keys() - found.keys():
                    stream.complaints.settled(topic)
                for topic, problem in found.items():
                    stream.complaints.report(topic, problem)
                stream.open = found
