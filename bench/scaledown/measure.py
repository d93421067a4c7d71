"""Servers go and come under load, by the real loop: victims, drain, removal, over real sockets.

Two arms meet the same kind of traffic: ``worth`` removes the servers whose caches are worth least,
``random`` any of them. What a removal costs is counted where it shows: tokens of later requests
that only removed servers had warm. (What is computed again because a new server is cold, or a
cache is full, is nobody's removal, and not counted.)
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from bench.fleet.settings import Behaviour, ServerSettings
from bench.results import Check, at_least, at_most
from bench.scaledown.servers import ServerTarget
from bench.scaledown.traffic import Traffic, TrafficSettings
from endpoints.discovery.keeper import FleetKeeper
from endpoints.probes.prober import FleetProber
from endpoints.probes.settings import ProbeSettings
from endpoints.scaling.actuators.actuator import Member
from endpoints.scaling.ceiling import Ceiling
from endpoints.scaling.controller import Controller
from endpoints.scaling.decision import Memory, Wanted
from endpoints.scaling.receipt import Receipt
from endpoints.scaling.role import Role
from endpoints.scaling.settings import Bounds, ScalingSettings
from endpoints.scaling.signals import Observation, RoleObservation
from gateway.brains import Brains
from gateway.pool import new_router
from gateway.proxy.context import ProxyContext
from gateway.proxy.pool import Pools, PoolSettings
from gateway.proxy.server import ProxyServer
from gateway.settings import ProxySettings, RoutingSettings
from gateway.telemetry import Telemetry
from routing.endpoint import Endpoint
from routing.router import Router

ARMS = ("worth", "random")
MODEL = "sim-8b"
_SECONDS = 60.0  # that one change of size may take
_GRACE = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One arm: ``removals`` servers go, ``at_once`` each time, and are replaced.

    After each time, and once more after the last, ``between`` requests are waited for. ``mature``:
    those that joined last are not chosen, whose caches are worth little anyway.
    """

    arm: str
    removals: int
    between: int = 20
    servers: int = 8
    at_once: int = 3
    warm_up: int = 300
    mature: bool = False
    cache_tokens: int = 400_000
    time_scale: float = 0.02
    traffic: TrafficSettings = field(default_factory=TrafficSettings)


@dataclass(frozen=True, slots=True)
class Arm:
    """What came of one arm, its warm-up left out; tokens as engines report them."""

    arm: str
    removals: int
    requests: int
    failures: int
    cut: int
    seconds: float
    hit_ratio: float
    lost_tokens_a_removal: float
    first_failures: tuple[str, ...] = ()


class _Wish:
    """As many servers as the bench wants now."""

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas

    def collect(
        self, router: Router, targets: Mapping[Role, int | None], now: float, held: int = 0
    ) -> Observation:
        del router
        return Observation("bench", now, dict.fromkeys(targets, RoleObservation()), held)

    def decide(
        self,
        observation: Observation,
        settings: ScalingSettings,
        memory: Memory,
        ceiling: Mapping[Role, Ceiling] | None,
        now: float,
    ) -> tuple[Wanted, Memory]:
        del observation, settings, ceiling
        receipt = Receipt("bench", now, (), (), (), (), "as the bench wants")
        return Wanted("bench", now, {Role.BOTH: self.replicas}, receipt), memory


class Scene:
    """A gateway before servers that come and go."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.wish = _Wish(plan.servers)
        self.router = new_router(RoutingSettings())
        fleet = self.router.fleet
        self._prober = FleetProber(
            fleet,
            ProbeSettings(interval=0.2, timeout=5.0, unhealthy_after=1_000),
            clock=time.monotonic,
            on_restart=self.router.restarted,
        )
        self.keeper = FleetKeeper(
            fleet,
            clock=time.monotonic,
            upsert=self.router.upsert_endpoint,
            remove=self.router.remove_endpoint,
            changed=self._prober.sync,
            settle=0.05,
        )
        behaviour = Behaviour(time_scale=plan.time_scale)
        self.target = ServerTarget(
            ServerSettings(model=MODEL, cache_tokens=plan.cache_tokens, behaviour=behaviour),
            time.monotonic,
            self._servers_changed,
        )
        self.gone: Callable[[Sequence[str]], object] = lambda _: None
        """Told which servers are left, whenever that changes."""
        self._dice = random.Random(plan.traffic.seed)
        self.controller = Controller(
            "bench",
            ScalingSettings(roles={Role.BOTH: Bounds(0, 1_000)}, interval=0.05),
            {Role.BOTH: self.target},
            self.wish,
            router=self.router,
            keeper=self.keeper,
            clock=time.monotonic,
            decider=self.wish.decide,
            chooser=self._chosen,
            grace=_GRACE,
            poll=0.02,
        )
        context = ProxyContext(
            brains=Brains({"bench": self.router}),
            pools=Pools(PoolSettings()),
            telemetry=Telemetry(),
            settings=ProxySettings(),
            log_request=lambda _: None,
        )
        self._proxy = ProxyServer(context, "127.0.0.1", 0)

    async def _chosen(self, members: Sequence[Member], count: int) -> Sequence[tuple[str, str]]:
        """The victims of this arm."""
        if self._plan.mature:
            oldest = sorted(members, key=lambda one: one.since)
            members = oldest[: max(len(members) - self._plan.at_once, count)]
        if self._plan.arm == "random":
            return [(one.name, "by chance") for one in self._dice.sample(list(members), count)]
        return await self.controller.least_worth(members, count)

    def _servers_changed(self, endpoints: Sequence[Endpoint]) -> None:
        self.keeper.apply(endpoints)
        self.gone([endpoint.name for endpoint in endpoints])

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self._proxy.port}"

    @property
    def cut(self) -> int:
        """Requests in flight on servers that were ended."""
        return self.controller.roles[Role.BOTH].shrinking.cut

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Everything runs, and the first servers are well."""
        await self._proxy.start()
        await self._prober.start()
        loop = asyncio.get_running_loop()
        tasks = [
            loop.create_task(self.controller.run()),
            loop.create_task(self.keeper.keep_sweeping(0.02)),
        ]
        try:
            await self.become(self._plan.servers)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._proxy.stop()
            await self._prober.stop()
            await self.controller.close()

    async def become(self, servers: int) -> None:
        """Have so many servers, all of them well and nobody on the way out."""
        self.wish.replicas = servers
        self.controller.wake()
        shrinking = self.controller.roles[Role.BOTH].shrinking
        async with asyncio.timeout(_SECONDS):
            while len(self.router.fleet.serving(MODEL)) != servers or shrinking.going:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def play(plan: Plan, progress: Callable[[str], object] = lambda _: None) -> Arm:
    """One arm from its first server to its last request."""
    scene = Scene(plan)
    async with scene.running():
        traffic = Traffic(scene.url, MODEL, plan.traffic)
        scene.gone = traffic.keep
        talking = asyncio.get_running_loop().create_task(traffic.run())
        try:
            await _answered(traffic, plan.warm_up)
            before, began = replace(traffic.books), time.monotonic()
            removed = 0
            while removed < plan.removals:
                count = min(plan.at_once, plan.removals - removed)
                await scene.become(plan.servers - count)
                await scene.become(plan.servers)
                removed += count
                progress(f"{plan.arm}: {removed} removed, {traffic.books.requests} answered")
                await _answered(traffic, plan.between)
            seconds = time.monotonic() - began
        finally:
            traffic.stop()
            await talking
    books = traffic.books
    return Arm(
        plan.arm,
        scene.target.removed,
        books.requests - before.requests,
        len(books.failures),
        scene.cut,
        seconds,
        (books.cached_tokens - before.cached_tokens)
        / max(books.prompt_tokens - before.prompt_tokens, 1),
        (books.lost_tokens - before.lost_tokens) / removed,
        tuple(books.failures[:5]),
    )


async def _answered(traffic: Traffic, requests: int) -> None:
    """Wait until so many more were answered; TimeoutError when nothing goes on."""
    books = traffic.books
    wanted = books.requests + requests
    async with asyncio.timeout(_SECONDS + requests):
        while books.requests < wanted:  # noqa: ASYNC110 - nobody tells when that is so
            await asyncio.sleep(0.01)


def share_of_random(worth: Arm, chance: Arm) -> float | None:
    """What the removals of ``worth`` cost, as a share of what random ones do, in lost tokens.

    None when random removals cost nothing, so that nothing can be compared.
    """
    if chance.lost_tokens_a_removal <= 0.0:
        return None
    return worth.lost_tokens_a_removal / chance.lost_tokens_a_removal


def checks(arms: Sequence[Arm], share: float | None, removals: int) -> list[Check]:
    """The bars: nothing fails, in so many removals; half of what random victims cost at most."""
    return [
        at_most("failed requests", float(sum(arm.failures for arm in arms)), 0.0, "requests"),
        at_least("removals", float(sum(arm.removals for arm in arms)), float(removals), "servers"),
        at_most("re-prefilled tokens, of random victims'", share, 0.5, "share"),
    ]
