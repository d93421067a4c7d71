"""The simulated fleet: engines behind endpoints, and what the router hears of them when."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from bench.replay.engine import Engine
from bench.replay.faults import Fault
from bench.replay.flight import Flight
from bench.replay.information import CacheReports, frozen, scrape
from bench.replay.outcome import Sample
from bench.replay.prompts import MODEL
from bench.replay.settings import ReplaySettings
from bench.replay.timeline import Timeline
from routing.endpoint import Endpoint, Load
from routing.router import Router


@dataclass(slots=True, eq=False)
class Server:
    """One endpoint: its engine, and what is in flight there."""

    name: str
    place: int
    engine: Engine
    reports: CacheReports | None
    flights: dict[int, Flight] = field(default_factory=dict)
    legs: dict[int, Flight] = field(default_factory=dict)  # whose prompts it computes for others
    queried_tokens: int = 0  # prompt tokens that were looked for in its cache, ever
    hit_tokens: int = 0  # and those that were found
    restarted: bool = False  # and the router doesn't know yet
    frozen: Load | None = None  # the scrape that it repeats


class Servers:
    """All endpoints by name. ``engines`` is shared with whoever reads minds.

    ``last``: the last arrival's time, of which a fault's moments are shares.
    """

    def __init__(
        self,
        settings: ReplaySettings,
        block_tokens: int,
        last: float,
        router: Router,
        engines: dict[str, Engine],
        timeline: Timeline,
        dice: Random,
    ) -> None:
        self._settings = settings
        self._block_tokens = block_tokens
        self._frozen_at: float | None = None
        if settings.fault.frozen_at is not None:
            self._frozen_at = settings.fault.frozen_at * last
        self._router = router
        self._engines = engines
        self._timeline = timeline
        self._dice = dice
        self.samples: list[Sample] = []
        """The engines' states over time."""
        self._by_name: dict[str, Server] = {}
        for place in range(settings.endpoints):
            name = f"engine-{place}"
            engine, reports = self._start(name)
            self._by_name[name] = Server(name, place, engine, reports)
        for server in self._by_name.values():
            self._join(server)
        if settings.fault.wrong_times != 1.0:
            self._spoil_times(settings.fault.wrong_times)

    def __getitem__(self, name: str) -> Server:
        return self._by_name[name]

    @property
    def first(self) -> Server:
        """The one that faults befall."""
        return next(iter(self._by_name.values()))

    def __iter__(self) -> Iterator[Server]:
        return iter(self._by_name.values())

    def watch(self) -> None:
        """Begin to scrape, to report progress and to sample, each server in its turn."""
        settings, timeline = self._settings, self._timeline
        for server in self._by_name.values():
            share = (server.place + 1) / len(self._by_name)
            self._told(server, scrape(server.engine, 0.0, 0, 0))
            timeline.at(settings.scrape_interval * share, self._scrape, server)
            timeline.at(settings.progress_interval * share, self._progress, server)
        timeline.at(0.0, self._sample)

    def restart(self, server: Server) -> Sequence[Flight]:
        """Another engine at the same address; returns what was in flight, all lost there."""
        if server.reports is not None:
            server.reports.close()
        scale, flights = server.engine.time_scale, list(server.flights.values())
        server.engine, server.reports = self._start(server.name)
        server.engine.time_scale = scale
        server.flights, server.legs = {}, {}
        server.queried_tokens = server.hit_tokens = 0
        server.restarted = True
        return flights

    def gaps(self) -> dict[int, int]:
        """Times between tokens on all engines, as `Engine.gaps`."""
        together: dict[int, int] = {}
        for server in self:
            for bucket, tokens in server.engine.gaps.items():
                together[bucket] = together.get(bucket, 0) + tokens
        return together

    # -- what the router is told -----------------------------------------------------------

    def _scrape(self, server: Server) -> None:
        now, settings = self._timeline.now, self._settings
        load = scrape(server.engine, now, server.queried_tokens, server.hit_tokens)
        since = -1.0 if self._frozen_at is None else now - self._frozen_at
        if 0.0 <= since < settings.fault.frozen_seconds:
            server.frozen = server.frozen or load
            load = frozen(server.frozen, now)
        self._timeline.at(now + settings.scrape_delay, self._told, server, load)
        self._timeline.at(now + settings.scrape_interval, self._scrape, server)

    def _told(self, server: Server, load: Load) -> None:
        if server.restarted:
            server.restarted = False
            self._router.restarted(server.name)
        self._router.fleet.observe_load(server.name, load)

    def _progress(self, server: Server) -> None:
        now, progress = self._timeline.now, self._router.progress
        for job, tokens in server.engine.produced(now):
            progress(server.flights[job.number].routed, now, tokens)
        self._timeline.at(now + self._settings.progress_interval, self._progress, server)

    def _sample(self) -> None:
        now = self._timeline.now
        for server in self._by_name.values():
            engine = server.engine
            running, waiting = len(engine.running), len(engine.waiting)
            self.samples.append(Sample(now, server.place, running, waiting, engine.cache.usage))
        self._timeline.at(now + self._settings.sample_interval, self._sample)

    # -- making them -----------------------------------------------------------------------

    def _start(self, name: str) -> tuple[Engine, CacheReports | None]:
        """A fresh engine under a name."""
        settings, engines = self._settings, self._engines

        def peers(chain: Sequence[int]) -> int:
            others = (engine for other, engine in engines.items() if other != name)
            return max((engine.cache.match(chain) for engine in others), default=0)

        reports = None
        if settings.events:
            reports = CacheReports(
                name,
                self._block_tokens,
                self._router.residency,
                self._timeline,
                settings.event_lag,
                settings.fault,
                self._dice,
            )
        engine = Engine(settings.engine, self._block_tokens, reports, peers)
        engines[name] = engine
        return engine, reports

    def _join(self, server: Server) -> None:
        fault: Fault = self._settings.fault
        labels: tuple[tuple[str, str], ...] = ()
        if fault.fast_half != 1.0:
            fast = server.place % 2 == 1
            labels = (("hardware", "fast" if fast else "slow"),)
            server.engine.time_scale = 1.0 / fault.fast_half if fast else 1.0
        if server.place == 0 and fault.slow != 1.0:
            server.engine.time_scale = fault.slow
        roles = self._settings.roles
        if server.place < len(roles) and roles[server.place]:
            labels = (*labels, ("role", roles[server.place]))
        endpoint = Endpoint(server.name, f"http://{server.name}", models=(MODEL,), labels=labels)
        self._router.upsert_endpoint(endpoint, 0.0)
        self._router.fleet.observe_health(server.name, True, 0.0, "simulated")

    def _spoil_times(self, factor: float) -> None:
        """Begin with times that are too long by a factor."""
        fleet = self._router.fleet
        for pool in fleet.pools.values():
            for line in (pool.prefill, pool.decode):
                line.fixed *= factor
                line.slope *= factor
                line.tilt *= factor
        for state in fleet:
            state.timing.follow()
