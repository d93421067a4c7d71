"""Replaying a workload: simulated engines around the real router, in virtual time.

    arrival ──► Router.route ──► Engine ──► first token, end ──► Router
                   ▲                │
                   └── scrapes, reports of caches, later ──┘

The router sees what a gateway would see and no more: prompts as chains of block hashes, scrapes
at intervals, reports of caches after a lag, tokens as they come; not the length of an answer
before its end.
"""

import gc
from math import inf
from random import Random
from time import perf_counter, thread_time

from bench.replay.engine import Engine
from bench.replay.faults import with_siblings
from bench.replay.flight import Flight
from bench.replay.handover import Handover
from bench.replay.job import Job
from bench.replay.outcome import Replay
from bench.replay.policies import PolicyChoice, fresh_policy
from bench.replay.prompts import Prompts
from bench.replay.servers import Server, Servers
from bench.replay.settings import ReplaySettings
from bench.replay.timeline import Timeline
from bench.replay.workload import Workload
from routing.decision import Rejection
from routing.fleet import Fleet
from routing.prefix.index import PrefixIndex
from routing.request import Request
from routing.router import Router

__all__ = ["PolicyChoice", "ReplaySettings", "Simulation", "replay"]

_SHIFT = 0.5  # of the gap to the next arrival: by how much a seed moves one at most


def replay(workload: Workload, policy: PolicyChoice, settings: ReplaySettings) -> Replay:
    """Play the workload before fresh engines under one policy: same arguments, same outcome.

    Raises ValueError for an unknown policy and for a request that an engine could never hold.
    """
    began = perf_counter()
    collecting = gc.isenabled()
    gc.disable()  # almost nothing made here is garbage before the end
    try:
        simulation = Simulation(workload, policy, settings)
        simulation.run()
    finally:
        if collecting:
            gc.enable()
    return simulation.result(perf_counter() - began)


class Simulation:
    """One replay. `run` plays it, `result` tells what became of everybody."""

    def __init__(self, workload: Workload, policy: PolicyChoice, settings: ReplaySettings) -> None:
        fault = settings.fault
        self._settings = settings
        self._dice = Random(f"replay {settings.seed}")
        self._workload = workload.faster(settings.speed)
        if fault.siblings:
            self._workload = with_siblings(
                self._workload, fault.siblings, fault.siblings_every, settings.seed
            )
        self._arrivals = arrivals = self._workload.arrivals
        self._last = arrivals[-1].at if arrivals else 0.0
        self._prompts = Prompts(
            workload.block_tokens, known_tokens=settings.events, wrong_tokens=fault.wrong_tokens
        )
        engines: dict[str, Engine] = {}
        self._policy = fresh_policy(policy, engines, settings.seed)
        self.timeline = Timeline()
        self.router = Router(
            Fleet(), PrefixIndex(settings.prefix_index_bytes), self._policy, settings.router
        )
        self.servers = Servers(
            settings,
            workload.block_tokens,
            self._last,
            self.router,
            engines,
            self.timeline,
            self._dice,
        )
        self._handover = Handover(settings, self.timeline, self._wake)
        self.flights: list[Flight] = []
        """Who has arrived, in order."""
        self._in_flight = 0
        self._decision_seconds = 0.0

    def run(self) -> None:
        """Play until everybody has finished, or to the horizon."""
        timeline, fault, arrivals = self.timeline, self._settings.fault, self._arrivals
        self.servers.watch()
        if fault.clear_at is not None:
            timeline.at(fault.clear_at * self._last, self._clear, self.servers.first)
        if fault.restart_at is not None:
            timeline.at(fault.restart_at * self._last, self._restart, self.servers.first)
        if arrivals:
            timeline.at(arrivals[0].at, self._arrive, 0)
        end = self._last + self._settings.horizon
        while self.unfinished and timeline.step(end):
            pass

    @property
    def unfinished(self) -> bool:
        """Whether somebody has yet to come, or to finish."""
        return self._in_flight > 0 or len(self.flights) < len(self._arrivals)

    def result(self, wall_seconds: float) -> Replay:
        """What became of every request, and of every endpoint over time."""
        settings = self._settings
        return Replay(
            policy=self._policy.name,
            workload=self._workload.name,
            endpoints=settings.endpoints,
            speed=settings.speed,
            seed=settings.seed,
            requests=[flight.outcome() for flight in self.flights],
            samples=self.servers.samples,
            decision_seconds=self._decision_seconds,
            wall_seconds=wall_seconds,
            gaps=self.servers.gaps(),
        )

    # -- requests --------------------------------------------------------------------------

    def _arrive(self, number: int) -> None:
        arrivals, now = self._arrivals, self.timeline.now
        arrival = arrivals[number]
        if number + 1 < len(arrivals):
            self.timeline.at(self._moved(number + 1), self._arrive, number + 1)
        chain = self._prompts.chain(arrival)
        flight = Flight(number, arrival, chain, now)
        self.flights.append(flight)
        self.admit(flight, self._prompts.request(number, arrival, chain))

    def admit(self, flight: Flight, request: Request) -> None:
        """Let a request that just arrived go to an endpoint."""
        self.route(flight, request, None)

    def route(self, flight: Flight, request: Request, arrived_at: float | None) -> bool:
        """Have the router choose, and send it there; False when it was rejected.

        ``arrived_at``: when it came, if that was earlier.
        """
        began = thread_time()
        decision = self.router.route(request, self.timeline.now, arrived_at)
        self._decision_seconds += thread_time() - began
        if isinstance(decision, Rejection):
            return False
        flight.decision = decision
        self._in_flight += 1
        self._send(flight)
        return True

    def _moved(self, number: int) -> float:
        """When an arrival comes with this seed; the order stays."""
        at = self._arrivals[number].at
        if number + 1 == len(self._arrivals):
            return at
        return at + (self._arrivals[number + 1].at - at) * _SHIFT * self._dice.random()

    def _send(self, flight: Flight) -> None:
        decision = flight.routed
        leg = decision.prefill
        if leg is not None and decision.split:
            self.router.prefill_sent(decision, self.timeline.now)
            self._handover.compute(flight, self.servers[leg.name])
        else:
            self._decode(flight, None)

    def _decode(self, flight: Flight, held: tuple[Server, Job] | None) -> None:
        """Send the request to the endpoint that answers; ``held``: where its prompt's KV lies."""
        now, arrival, decision = self.timeline.now, flight.arrival, flight.routed
        server = self.servers[decision.endpoint.name]
        flight.place = server.place
        self.router.sent(decision, now)
        server.flights[flight.number] = flight
        job = Job(flight.number, flight.chain, arrival.prompt_tokens, arrival.output_tokens)
        if held is None:
            server.queried_tokens += arrival.prompt_tokens
        else:
            job.fetch = self._handover.reader(flight, *held, server)
        before = server.engine.wake_at
        server.engine.submit(job, now)
        self._wake(server, before)

    def _wake(self, server: Server, before: float) -> None:
        """Have the engine completed when it wants to be, unless that is arranged already."""
        engine = server.engine
        if engine.wake_at not in (before, inf):
            self.timeline.at(engine.wake_at, self._complete, server, engine, engine.wake_at)

    def _complete(self, server: Server, engine: Engine, planned: float) -> None:
        if engine.wake_at != planned or server.engine is not engine:
            return  # it was cut short since, or is gone
        now, router = self.timeline.now, self.router
        if server.reports is not None:
            server.reports.publish()
        first, done = engine.complete()
        for job in first:
            if job.hold:
                continue
            flight = server.flights[job.number]
            flight.first_token_at = now
            if flight.prefill_place < 0:
                flight.cached = job.cached_tokens or 0
                server.hit_tokens += flight.cached
            router.first_token(flight.routed, now)
        for job in done:
            if job.hold:
                self._computed(server, job)
                continue
            flight = server.flights.pop(job.number)
            flight.finished_at = now
            self._in_flight -= 1
            router.finished(
                flight.routed,
                now,
                prompt_tokens=job.prompt_tokens,
                cached_tokens=job.cached_tokens,
                completion_tokens=job.output_tokens,
            )
        self._wake(server, planned)

    def _computed(self, server: Server, job: Job) -> None:
        """A prefill leg is over: its decode leg can begin."""
        flight, now = server.legs.pop(job.number), self.timeline.now
        flight.cached = job.cached_tokens or 0
        server.hit_tokens += flight.cached
        self.router.prefill_done(flight.routed, now, job.prompt_tokens, job.cached_tokens)
        self._decode(flight, (server, job))

    # -- faults ----------------------------------------------------------------------------

    def _clear(self, server: Server) -> None:
        before = server.engine.wake_at
        server.engine.reset_cache(self.timeline.now)
        self._wake(server, before)

    def _restart(self, server: Server) -> None:
        """Everything in flight there fails; what had no token yet may be tried elsewhere."""
        now, router = self.timeline.now, self.router
        legs = list(server.legs.values())
        flights = self.servers.restart(server)
        for flight in legs:  # who was to decode computes the prompt instead
            router.prefill_failed(flight.routed, now, "the connection was reset")
            flight.prefill_place = -1
            self._decode(flight, None)
        for flight in flights:
            router.failed(flight.routed, now, "the connection was reset")
            # A stream that has begun can't be sent again: it is lost.
            if flight.first_token_at is None and router.retry(flight.routed, now):
                self._send(flight)
            else:
                self._in_flight -= 1
