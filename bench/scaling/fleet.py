"""A simulated fleet whose endpoints come and go: started, loading, ready, draining, gone.

An endpoint costs from the moment it is started to the moment it is gone, ready or not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from random import Random

from bench.replay.engine import Engine
from bench.replay.flight import Flight
from bench.replay.information import scrape
from bench.replay.presets import EngineSettings
from bench.replay.prompts import MODEL
from bench.replay.timeline import Timeline
from routing.endpoint import Endpoint, EndpointState
from routing.router import Router

SCRAPE_SECONDS = 1.0
PROGRESS_SECONDS = 2.0


class Life(Enum):
    """Where an endpoint is in its life; it only goes forward."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    GONE = "gone"


@dataclass(slots=True, eq=False)
class Member:
    """One endpoint. ``looked``: scrapes since its use was last asked for.

    ``duty``: those that found it computing; ``work``: the share of the steps that they found
    which goes beyond a step's fixed time, summed up.
    """

    name: str
    engine: Engine
    started_at: float
    life: Life = Life.STARTING
    gone_at: float | None = None
    flights: dict[int, Flight] = field(default_factory=dict)
    queried_tokens: int = 0
    hit_tokens: int = 0
    duty: int = 0
    work: float = 0.0
    looked: int = 0


@dataclass(frozen=True, slots=True)
class Use:
    """Shares 0..1 of all time, over the ready endpoints.

    ``duty``: anything was computed at all, as accelerators report their utilisation; ``work``:
    without what every step takes however little is in it, as their power or the use of their
    multipliers shows it: the friendlier of both to whoever scales by it.
    """

    duty: float
    work: float


Victims = Callable[[Sequence[EndpointState], Router, float], Sequence[str]]
"""Names of endpoints in the order in which they can be spared."""


def fewest_requests(states: Sequence[EndpointState], router: Router, now: float) -> Sequence[str]:
    """Whoever has the least to finish goes first."""
    return [one.name for one in sorted(states, key=lambda state: state.ledger.requests)]


class ElasticFleet:
    """Endpoints behind one router, in virtual time.

    ``startup``: the least and the most seconds until one is ready; drawn for each.
    """

    def __init__(
        self,
        engine: EngineSettings,
        block_tokens: int,
        router: Router,
        timeline: Timeline,
        dice: Random,
        startup: tuple[float, float],
        changed: Callable[[], None],
        victims: Victims = fewest_requests,
    ) -> None:
        self._engine = engine
        self._block_tokens = block_tokens
        self._router = router
        self._timeline = timeline
        self._dice = dice
        self._startup = startup
        self._changed = changed
        self._victims = victims
        self._born = 0
        self.members: dict[str, Member] = {}
        """All that aren't gone, by name."""
        self.gone: list[Member] = []
        self.target = 0
        """What the scaler asked for last."""

    def counted(self, *lives: Life) -> int:
        """How many are in one of these stages."""
        return sum(member.life in lives for member in self.members.values())

    def paid_seconds(self, now: float) -> float:
        """What all endpoints together have cost so far, in endpoint-seconds."""
        alive = sum(now - member.started_at for member in self.members.values())
        return alive + sum(
            (now if member.gone_at is None else member.gone_at) - member.started_at
            for member in self.gone
        )

    def scale(self, target: int, *, at_once: bool = False) -> None:
        """Start or drain endpoints so that ``target`` are there or coming."""
        self.target = target
        present = self.counted(Life.STARTING, Life.READY)
        for _ in range(target - present):
            self._start(at_once)
        if target < present:
            self._shrink(present - target)

    def utilisation(self) -> Use | None:
        """How much the ready ones computed since the last call; None when nobody looked."""
        ready = [one for one in self.members.values() if one.life is Life.READY and one.looked]
        if not ready:
            return None
        duty = sum(one.duty / one.looked for one in ready) / len(ready)
        work = sum(one.work / one.looked for one in ready) / len(ready)
        for one in ready:
            one.duty = one.looked = 0
            one.work = 0.0
        return Use(duty, work)

    def emptied(self, member: Member) -> None:
        """A request there ended: a draining endpoint without any is gone."""
        if member.life is Life.DRAINING and not member.flights:
            member.life, member.gone_at = Life.GONE, self._timeline.now
            del self.members[member.name]
            self.gone.append(member)
            self._router.remove_endpoint(member.name)

    # -- within ----------------------------------------------------------------------------

    def _start(self, at_once: bool) -> None:
        now = self._timeline.now
        name = f"engine-{self._born}"
        self._born += 1
        member = Member(name, Engine(self._engine, self._block_tokens), now)
        self.members[name] = member
        self._router.upsert_endpoint(Endpoint(name, f"http://{name}", models=(MODEL,)), now)
        if at_once:
            self._ready(member)
        else:
            self._timeline.at(now + self._dice.uniform(*self._startup), self._ready, member)

    def _ready(self, member: Member) -> None:
        if member.life is not Life.STARTING:
            return
        now = self._timeline.now
        member.life = Life.READY
        self._router.fleet.observe_health(member.name, True, now, "simulated")
        self._scrape(member)
        self._timeline.at(now + PROGRESS_SECONDS * self._dice.random(), self._progress, member)
        self._changed()

    def _shrink(self, count: int) -> None:
        """Those that are still starting go first, the youngest before; nobody misses them."""
        now = self._timeline.now
        starting = [one for one in self.members.values() if one.life is Life.STARTING]
        for member in reversed(starting):
            if not count:
                return
            self._drain(member)
            count -= 1
        fleet = self._router.fleet
        ready = [
            state
            for one in self.members.values()
            if one.life is Life.READY and (state := fleet.get(one.name)) is not None
        ]
        for name in self._victims(ready, self._router, now)[:count]:
            self._drain(self.members[name])

    def _drain(self, member: Member) -> None:
        member.life = Life.DRAINING
        self._router.fleet.drain(member.name, self._timeline.now)
        self.emptied(member)

    def _scrape(self, member: Member) -> None:
        if member.life is Life.GONE:
            return
        now = self._timeline.now
        member.looked += 1
        segment = member.engine.segment
        if segment.steps:
            member.duty += 1
            member.work += max(1.0 - self._engine.timing.step_base / segment.first, 0.0)
        load = scrape(member.engine, now, member.queried_tokens, member.hit_tokens)
        self._router.fleet.observe_load(member.name, load)
        self._timeline.at(now + SCRAPE_SECONDS, self._scrape, member)

    def _progress(self, member: Member) -> None:
        if member.life is Life.GONE:
            return
        now, progress = self._timeline.now, self._router.progress
        for job, tokens in member.engine.produced(now):
            progress(member.flights[job.number].routed, now, tokens)
        self._timeline.at(now + PROGRESS_SECONDS, self._progress, member)
