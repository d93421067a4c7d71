"""One pool in the contest: gateway, scaler and engines of `bench.scaling`, on claimed devices."""

from collections.abc import Callable, Iterator, Sequence
from random import Random

from bench.cluster.seats import Seats
from bench.replay.engine import Engine
from bench.replay.presets import EngineSettings
from bench.replay.prompts import MODEL
from bench.replay.timeline import Timeline
from bench.scaling.fleet import ElasticFleet, Life, Member, fewest_requests
from bench.scaling.simulation import Scene, Simulation
from endpoints.allocation.shares import Needs
from endpoints.scaling.policies import DEFAULT, make_scaling_policy
from endpoints.scaling.role import Role
from routing.endpoint import Endpoint
from routing.router import Router


class SeatedFleet(ElasticFleet):
    """An elastic fleet whose endpoints start once their pods have devices."""

    def __init__(
        self,
        name: str,
        seats: Seats,
        engine: EngineSettings,
        block_tokens: int,
        router: Router,
        timeline: Timeline,
        dice: Random,
        startup: tuple[float, float],
        changed: Callable[[], None],
    ) -> None:
        super().__init__(
            engine, block_tokens, router, timeline, dice, startup, changed, fewest_requests
        )
        self._name = name
        self._seats = seats

    def emptied(self, member: Member) -> None:
        """A draining endpoint without requests is gone, and its devices are free."""
        super().emptied(member)
        if member.life is Life.GONE:
            self._seats.leave(member.name)

    def idle(self) -> Iterator[Member]:
        """Those that are ready and have nothing to do."""
        for member in self.members.values():
            if member.life is Life.READY and not member.flights:
                yield member

    def give_up(self, names: Sequence[str]) -> None:
        """Others need their devices: fewer are wanted, until the scaler says otherwise."""
        for name in names:
            self._drain(self.members[name])
        self.target = self.counted(Life.STARTING, Life.READY)

    def _start(self, at_once: bool) -> None:
        name = f"{self._name}-{self._born}"
        self._born += 1
        now = self._timeline.now
        member = Member(name, Engine(self._engine, self._block_tokens), now)

        def scheduled() -> None:
            if at_once:
                self._ready(member)
            else:
                ready_at = self._timeline.now + self._dice.uniform(*self._startup)
                self._timeline.at(ready_at, self._ready, member)

        if not self._seats.take(name, scheduled):
            return
        self.members[name] = member
        self._router.upsert_endpoint(Endpoint(name, f"http://{name}", models=(MODEL,)), now)


class ContestPool(Simulation):
    """A pool's play on a timeline that it shares with others."""

    def __init__(
        self, name: str, scene: Scene, seats: Seats, timeline: Timeline, seed: int
    ) -> None:
        policy = make_scaling_policy(DEFAULT)
        interval = scene.settings.interval
        super().__init__(scene, policy, interval, seed, fewest_requests, duty=False)
        self.name = name
        self.last = self._last
        self._seats = seats
        self._bounded = False
        self.needs = Needs()
        self._timeline = timeline
        self._fleet: SeatedFleet = SeatedFleet(
            name,
            seats,
            scene.engine,
            scene.workload.block_tokens,
            self._router,
            timeline,
            Random(f"startup {name} {seed}"),
            scene.startup,
            self._release,
        )

    def begin(self) -> None:
        """The first replicas are asked for, and everything that happens by itself begins."""
        self._fleet.scale(self._scene.initial, at_once=True)
        self._timeline.at(0.0, self._tick)
        self._timeline.at(0.0, self._sample)
        self._timeline.at(self._arrivals[0].at, self._arrive, 0)
        self._timeline.at(self._last, self._account)

    @property
    def fleet(self) -> SeatedFleet:
        """Its endpoints."""
        return self._fleet

    @property
    def over(self) -> bool:
        """Whether everybody came and was answered."""
        return not self._in_flight and len(self._flights) == len(self._arrivals)

    def room_again(self) -> None:
        """Devices became free: who was bounded by them decides at once, as the allocator tells."""
        if self._bounded and self._timeline.now < self._last:
            self._decide()

    def _tick(self) -> None:
        self._decide()
        if self._timeline.now < self._last:
            self._timeline.at(self._timeline.now + self._interval, self._tick)

    def _decide(self) -> None:
        now, settings = self._timeline.now, self._scene.settings
        observed = self._collector.collect(
            self._router, {Role.BOTH: self._fleet.target}, now, len(self._holding)
        )
        bound = self._seats.ceiling(self._fleet.counted(Life.STARTING, Life.READY))
        ceiling = None if bound is None else {Role.BOTH: bound}
        wanted, self._memory = self._policy.decide(observed, settings, self._memory, ceiling, now)
        count = wanted.replicas[Role.BOTH]
        self.needs.note(wanted.needs[Role.BOTH], now)
        self._bounded = any(one.name == "ceiling" for one in wanted.receipt.bounds)
        if count != self._fleet.target:
            self._targets.append((now, count))
        self._fleet.scale(count)
