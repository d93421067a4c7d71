"""One scaling policy against one workload: arrivals, gateway, scaler and fleet in virtual time.

    arrival ──► hold while nobody is ready ──► Router.route ──► Engine ──► first token, end
                                                  │ traffic, fleet
                     ElasticFleet.scale ◄── policy.decide ◄── Collector.collect, every interval

Router, collector and policies are the real ones. Nobody knows the future: not the length of an
answer, nor when an endpoint will be ready, nor what comes next.
"""

import gc
from collections import deque
from dataclasses import dataclass, replace
from math import inf
from random import Random
from time import perf_counter

from bench.replay.flight import Flight
from bench.replay.job import Job
from bench.replay.presets import EngineSettings
from bench.replay.prompts import Prompts
from bench.replay.timeline import Timeline
from bench.replay.workload import Workload
from bench.scaling.fleet import ElasticFleet, Life, Member, Victims, fewest_requests
from endpoints.scaling.collector import Collector
from endpoints.scaling.memory import Memory
from endpoints.scaling.policies import ScalingPolicy
from endpoints.scaling.role import Role
from endpoints.scaling.settings import ScalingSettings
from endpoints.scaling.signals import Observation, measured
from routing.decision import Rejection
from routing.fleet import Fleet
from routing.policies import DEFAULT_POLICY, make_policy
from routing.prefix.index import PrefixIndex
from routing.router import Router, RouterSettings

INDEX_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a policy has to prove itself. Times in seconds.

    - ``engine``: what every endpoint is; ``startup``: least and most seconds until one is ready;
    - ``initial``: endpoints ready at the start;
    - ``hold``: how long the gateway keeps a request while nobody is ready, at most ``held`` of
      them; ``horizon``: how long after the last arrival requests may finish;
    - ``sample``: between two samples of the fleet.
    """

    workload: Workload
    engine: EngineSettings
    settings: ScalingSettings
    initial: int
    startup: tuple[float, float] = (60.0, 300.0)
    hold: float = 600.0
    held: int = 1_000
    horizon: float = 600.0
    sample: float = 30.0


@dataclass(frozen=True, slots=True)
class Moment:
    """The fleet at one moment; ``wanted`` is the scaler's target."""

    at: float
    wanted: int
    ready: int
    paid: int
    held: int


@dataclass(frozen=True, slots=True)
class Played:
    """What became of every request, and of the fleet over time."""

    flights: list[Flight]
    moments: list[Moment]
    targets: list[tuple[float, int]]
    endpoint_seconds: float
    removals: int
    wall_seconds: float


def play(
    scene: Scene,
    policy: ScalingPolicy,
    interval: float,
    seed: int,
    victims: Victims | None = None,
    *,
    duty: bool = False,
) -> Played:
    """Play the scene: same arguments, same outcome.

    ``duty``: whether ``busy`` is the share of time in which anything was computed.
    """
    began = perf_counter()
    collecting = gc.isenabled()
    gc.disable()  # almost nothing made here is garbage before the end
    try:
        simulation = Simulation(
            scene, policy, interval, seed, victims or fewest_requests, duty=duty
        )
        simulation.run()
    finally:
        if collecting:
            gc.enable()
    return simulation.result(perf_counter() - began)


class Simulation:
    """One play; `run` plays it, `result` tells what came of it."""

    def __init__(
        self,
        scene: Scene,
        policy: ScalingPolicy,
        interval: float,
        seed: int,
        victims: Victims,
        *,
        duty: bool,
    ) -> None:
        self._scene = scene
        self._duty = duty
        self._policy = policy
        self._interval = interval
        self._arrivals = scene.workload.arrivals
        self._prompts = Prompts(scene.workload.block_tokens, known_tokens=False, wrong_tokens=False)
        self._timeline = Timeline()
        objective = scene.settings.objective
        self._router = Router(
            Fleet(),
            PrefixIndex(INDEX_BYTES),
            make_policy(DEFAULT_POLICY),
            RouterSettings(receipts=16, ttft_target=objective.ttft, itl_target=objective.itl),
        )
        self._fleet = ElasticFleet(
            scene.engine,
            scene.workload.block_tokens,
            self._router,
            self._timeline,
            Random(f"startup {seed}"),
            scene.startup,
            self._release,
            victims,
        )
        self._collector = Collector("pool", scene.settings)
        self._collector.attach(self._router)
        self._memory = Memory()
        self._holding: deque[Flight] = deque()
        self._flights: list[Flight] = []
        self._moments: list[Moment] = []
        self._targets: list[tuple[float, int]] = []
        self._in_flight = 0
        self._last = self._arrivals[-1].at if self._arrivals else 0.0
        self._paid = 0.0

    def run(self) -> None:
        """Play until everybody has finished, or to the horizon; what is paid ends with arrivals."""
        timeline = self._timeline
        self._fleet.scale(self._scene.initial, at_once=True)
        timeline.at(0.0, self._tick)
        timeline.at(0.0, self._sample)
        if self._arrivals:
            timeline.at(self._arrivals[0].at, self._arrive, 0)
        timeline.at(self._last, self._account)
        end = self._last + self._scene.horizon
        while (self._in_flight or len(self._flights) < len(self._arrivals)) and timeline.step(end):
            pass

    def result(self, wall_seconds: float) -> Played:
        """What became of everybody."""
        return Played(
            self._flights,
            self._moments,
            self._targets,
            self._paid,
            sum(member.gone_at is not None for member in self._fleet.gone),
            wall_seconds,
        )

    # -- the scaler ------------------------------------------------------------------------

    def _tick(self) -> None:
        now = self._timeline.now
        settings = self._scene.settings
        observed = self._collector.collect(
            self._router, {Role.BOTH: self._fleet.target}, now, len(self._holding)
        )
        observed = self._measured_busy(observed, now)
        wanted, self._memory = self._policy.decide(observed, settings, self._memory, None, now)
        count = wanted.replicas[Role.BOTH]
        if count != self._fleet.target:
            self._targets.append((now, count))
            self._fleet.scale(count)
        if now < self._last:
            self._timeline.at(now + self._interval, self._tick)

    def _measured_busy(self, observed: Observation, now: float) -> Observation:
        """With what a metrics server would say of the accelerators."""
        use = self._fleet.utilisation()
        share = None if use is None else use.duty if self._duty else use.work
        busy = measured(share, now, now, self._scene.settings.fresh)
        seen = replace(observed.role(Role.BOTH), busy=busy)
        return replace(observed, roles={Role.BOTH: seen})

    def _sample(self) -> None:
        now, fleet = self._timeline.now, self._fleet
        self._moments.append(
            Moment(
                now,
                fleet.target,
                fleet.counted(Life.READY),
                len(fleet.members),
                len(self._holding),
            )
        )
        if now < self._last:
            self._timeline.at(now + self._scene.sample, self._sample)

    def _account(self) -> None:
        self._paid = self._fleet.paid_seconds(self._timeline.now)

    # -- requests --------------------------------------------------------------------------

    def _arrive(self, number: int) -> None:
        arrival, now = self._arrivals[number], self._timeline.now
        if number + 1 < len(self._arrivals):
            self._timeline.at(self._arrivals[number + 1].at, self._arrive, number + 1)
        flight = Flight(number, arrival, self._prompts.chain(arrival), now)
        self._flights.append(flight)
        if self._fleet.counted(Life.READY):
            self._route(flight)
        elif len(self._holding) < self._scene.held:
            self._holding.append(flight)
            self._in_flight += 1

    def _release(self) -> None:
        """An endpoint is ready: whoever was held and is not too late goes there."""
        now = self._timeline.now
        while self._holding:
            flight = self._holding.popleft()
            self._in_flight -= 1
            if now - flight.at <= self._scene.hold:
                self._route(flight)

    def _route(self, flight: Flight) -> None:
        now, arrival = self._timeline.now, flight.arrival
        request = self._prompts.request(flight.number, arrival, flight.chain)
        decision = self._router.route(request, now)
        if isinstance(decision, Rejection):
            return
        flight.decision = decision
        self._in_flight += 1
        member = self._fleet.members[decision.endpoint.name]
        self._router.sent(decision, now)
        member.flights[flight.number] = flight
        member.queried_tokens += arrival.prompt_tokens
        before = member.engine.wake_at
        member.engine.submit(
            Job(flight.number, flight.chain, arrival.prompt_tokens, arrival.output_tokens), now
        )
        self._wake(member, before)

    def _wake(self, member: Member, before: float) -> None:
        engine = member.engine
        if engine.wake_at not in (before, inf):
            self._timeline.at(engine.wake_at, self._complete, member, engine.wake_at)

    def _complete(self, member: Member, planned: float) -> None:
        engine = member.engine
        if engine.wake_at != planned:
            return  # it was cut short since
        now, router = self._timeline.now, self._router
        first, done = engine.complete()
        for job in first:
            flight = member.flights[job.number]
            flight.first_token_at = now
            flight.cached = job.cached_tokens or 0
            member.hit_tokens += flight.cached
            router.first_token(flight.routed, now)
        for job in done:
            flight = member.flights.pop(job.number)
            flight.finished_at = now
            self._in_flight -= 1
            router.finished(
                flight.routed,
                now,
                prompt_tokens=job.prompt_tokens,
                cached_tokens=job.cached_tokens,
                completion_tokens=job.output_tokens,
            )
        self._wake(member, planned)
        if done:
            self._fleet.emptied(member)
