"""One task an endpoint, so that a slow or hanging endpoint never delays another's probes."""

import asyncio
import logging
import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import aiohttp

from endpoints.probes.fetch import Fetcher
from endpoints.probes.settings import ProbeSettings
from endpoints.probes.visitor import Surroundings, Visitor
from routing.fleet import Endpoint, Fleet

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Watch:
    """The task that visits one endpoint, and whether it has been there once."""

    endpoint: Endpoint
    task: asyncio.Task[None]
    visited: asyncio.Event = field(default_factory=asyncio.Event)

    def fits(self, endpoint: Endpoint) -> bool:
        """Whether it visits what ``endpoint`` names (labels and the like don't matter)."""
        ours = self.endpoint
        return (ours.url, ours.engine) == (endpoint.url, endpoint.engine)


class FleetProber:
    """Keeps what the fleet knows of its endpoints true, from `start` to `stop`.

    It follows the fleet's membership when told to (`sync`). ``on_restart`` is called with
    the name of an endpoint whose engine started anew: its cache is not what it was. ``tls`` says
    who vouches for ``https://`` endpoints, None: whom the system trusts. A ``session`` that is
    passed in stays open.
    """

    def __init__(
        self,
        fleet: Fleet,
        settings: ProbeSettings,
        *,
        clock: Callable[[], float],
        on_restart: Callable[[str], None],
        tls: ssl.SSLContext | None = None,
        session: aiohttp.ClientSession | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._fleet = fleet
        self._settings = settings
        self._surroundings = Surroundings(fleet, settings, clock, on_restart)
        self._tls = tls
        self._session = session
        self._owns_session = session is None
        self._rng = rng or random.Random()
        self._watches: dict[str, _Watch] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "FleetProber":
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
        """Begin to visit the fleet's endpoints, all of them at once."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # Nobody waits for another's connection.
                connector=aiohttp.TCPConnector(limit=0, ssl=self._tls or True),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        self.sync()

    async def stop(self) -> None:
        """End every task and close what was opened."""
        for name in tuple(self._watches):
            self._leave(name)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None and self._owns_session:
            await self._session.close()
            self._session = None

    def sync(self) -> None:
        """Follow the fleet: visit who joined, leave who is gone, turn to who moved.

        ValueError for an endpoint whose engine is not known; RuntimeError before `start`.
        """
        wanted = {state.name: state.endpoint for state in self._fleet}
        for name in [name for name in self._watches if name not in wanted]:
            self._leave(name)
        for name, endpoint in wanted.items():
            watch = self._watches.get(name)
            if watch is not None and watch.fits(endpoint):
                continue
            if watch is not None:
                self._leave(name)
            self._visit(endpoint)

    async def wait_first_round(self, timeout: float) -> bool:  # noqa: ASYNC109 - a wait's bound
        """Wait until every endpoint was visited once; False when ``timeout`` seconds passed."""
        try:
            async with asyncio.timeout(timeout):
                for watch in tuple(self._watches.values()):
                    await watch.visited.wait()
        except TimeoutError:
            return False
        return True

    def _visit(self, endpoint: Endpoint) -> None:
        if self._session is None:
            raise RuntimeError("the prober is not started")
        settings = self._settings
        fetcher = Fetcher(
            self._session,
            endpoint.url,
            timeout=settings.timeout,
            max_bytes=settings.max_page_bytes,
        )
        visitor = Visitor(endpoint.name, endpoint.engine, fetcher, self._surroundings)
        visited = asyncio.Event()
        task = asyncio.create_task(
            self._keep_visiting(visitor, visited), name=f"probe {endpoint.name}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        self._watches[endpoint.name] = _Watch(endpoint, task, visited)

    def _leave(self, name: str) -> None:
        watch = self._watches.pop(name)
        watch.task.cancel()
        watch.visited.set()

    async def _keep_visiting(self, visitor: Visitor, visited: asyncio.Event) -> None:
        wait = await visitor.visit()
        visited.set()
        # Endpoints join together; a random first wait spreads their visits over the interval.
        await asyncio.sleep(wait * self._rng.random())
        jitter = self._settings.jitter
        while True:
            wait = await visitor.visit()
            await asyncio.sleep(wait * self._rng.uniform(1 - jitter, 1 + jitter))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("%s ended by a defect", task.get_name(), exc_info=task.exception())
