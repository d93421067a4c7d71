"""Split requests under faults in every phase: whether all end well or honestly, and nothing leaks.

Two prefill and two decode servers (simulated, with their connector's JSON), the gateway and its
clients in one process, over real sockets. Every request is split. Clients know the right answer,
and what the decode servers say depends on whether they read the right KV: KV that is read twice, or
after its lease, gives another text.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random

import aiohttp
from msgspec import Struct

from bench.fleet.fleet import EmbeddedFleet
from bench.fleet.handover.exchange import KvExchange
from bench.fleet.server import SimulatedServer
from bench.fleet.settings import (
    Behaviour,
    Connector,
    ErrorKind,
    Faults,
    HandoverFaults,
    HandoverSettings,
    Mode,
    Role,
    ServerSettings,
    StreamFault,
)
from bench.prefill.clients import Ending, ask, draw
from bench.results import Check, at_least, at_most
from gateway.app import Gateway
from gateway.settings import (
    AdminSettings,
    DisaggregationSettings,
    EndpointSettings,
    ListenSettings,
    LogSettings,
    ProxySettings,
    RetryBudgetSettings,
    RoutingSettings,
    Settings,
)

_ROLES = (Role.PREFILL, Role.DECODE)
_SAMPLE_SECONDS = 0.25
_SETTLE_SECONDS = 10.0
_LATE_SECONDS = 3.0
_CLIENT_PATIENCE = 0.15  # seconds within which those who leave do so: all windows are hit
_TIME_SCALE = 0.2


class Outcome(Struct, frozen=True):
    """What came of it; counts of requests unless said otherwise."""

    requests: int
    endings: dict[str, int]
    wrong: dict[str, int]
    errors: dict[str, int]
    splits: dict[str, int]
    prefill_failures: dict[str, int]
    fallbacks: dict[str, int]
    left_in_ledgers: int
    left_in_flight: int
    engines_dead: int
    kv_overdue: int
    """The most holds that were seen older than their lease."""
    kv_held_at_the_end: int
    kv_pinned_blocks_at_the_end: int
    kv_read: int
    kv_expired: int
    kv_late_reads: int
    kv_expired_tokens: int
    stranded_tokens: int
    """As the gateway booked them."""
    stranded_at_the_end: int
    seconds: float


def behaviours(rate: float, connector: Connector) -> dict[Role, Behaviour]:
    """What goes wrong on each side: ``rate`` of all requests in each phase."""
    fifth = rate / 5
    sequential = connector is Connector.NIXL
    prefill = Behaviour(
        time_scale=_TIME_SCALE,
        faults=Faults(errors={ErrorKind.SERVER_ERROR: fifth}, reset_rate=fifth),
        handover=HandoverFaults(
            abort_rate=fifth if sequential else 0.0,
            no_params_rate=fifth if sequential else 0.0,
            torn_params_rate=fifth if sequential else 0.0,
            wrong_params_rate=rate / 2 if sequential else 0.0,
            late_rate=fifth if sequential else 0.0,
            late_seconds=_LATE_SECONDS,
        ),
    )
    decode = Behaviour(
        time_scale=_TIME_SCALE,
        faults=Faults(
            errors={ErrorKind.SERVER_ERROR: rate / 2},
            reset_rate=rate / 2,
            stream_fault_rate=rate,
            stream_fault=StreamFault.RESET,
            stream_fault_after=2,
        ),
        handover=HandoverFaults(transfer_rate=rate / 2),
    )
    return {Role.PREFILL: prefill, Role.DECODE: decode}


async def measure(
    requests: int,
    rate: float,
    *,
    connector: Connector = Connector.NIXL,
    servers: int = 4,
    concurrency: int = 32,
    lease: float = 5.0,
    seed: int = 0,
    progress: Callable[[str], object] = lambda _: None,
) -> Outcome:
    """Run it. Raises `gateway.app.StartError`, OSError."""
    settings = ServerSettings(
        mode=Mode.ECHO,
        seed=seed,
        handover=HandoverSettings(connector=connector, lease=lease, patience=lease),
    )
    async with EmbeddedFleet(settings, servers, roles=_ROLES) as fleet:
        gateway = Gateway(_settings(fleet, connector))
        try:
            await gateway.start()
            for server in fleet.servers:
                kv = server.service.kv
                assert kv is not None
                server.service.change(behaviours(rate, connector)[kv.settings.role])
            return await _Run(fleet, gateway, requests, rate, concurrency, lease, seed).run(
                progress
            )
        finally:
            await asyncio.shield(gateway.stop())


def _settings(fleet: EmbeddedFleet, connector: Connector) -> Settings:
    return Settings(
        listen=ListenSettings(port=0),
        admin=AdminSettings(port=0),
        endpoints=tuple(
            EndpointSettings(
                url=server.url,
                name=f"{_role(server).value}-{index}",
                labels={
                    "role": _role(server).value,
                    "kv-connector": connector.value,
                    "kv-lease": str(_handover(server).lease),
                    "kv-bootstrap-port": str(server.port),
                    "kv-p2p-port": str(server.port),
                    "kv-zmq-address": f"127.0.0.1:{server.port}",
                },
            )
            for index, server in enumerate(fleet.servers)
        ),
        routing=RoutingSettings(
            disaggregation=DisaggregationSettings(mode="always"),
            retry_budget=RetryBudgetSettings(fraction=1.0, minimum_per_second=100.0),
        ),
        proxy=ProxySettings(prefill_grace=1.0),
        log=LogSettings(access=False),
    )


def _handover(server: SimulatedServer) -> HandoverSettings:
    handover = server.service.settings.handover
    assert handover is not None
    return handover


def _role(server: SimulatedServer) -> Role:
    return _handover(server).role


class _Run:
    """The clients, and what is looked at beside them."""

    def __init__(
        self,
        fleet: EmbeddedFleet,
        gateway: Gateway,
        requests: int,
        rate: float,
        concurrency: int,
        lease: float,
        seed: int,
    ) -> None:
        self._fleet = fleet
        self._gateway = gateway
        self._requests = requests
        self._rate = rate
        self._concurrency = concurrency
        self._lease = lease
        self._dice = Random(seed)
        self._endings: Counter[str] = Counter()
        self._wrong: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._overdue = 0
        self._next = 0

    async def run(self, progress: Callable[[str], object]) -> Outcome:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        watching = asyncio.create_task(self._watch(progress))
        connector = aiohttp.TCPConnector(limit=0)
        base = f"http://127.0.0.1:{self._gateway.port}"
        try:
            async with aiohttp.ClientSession(base, connector=connector) as http:
                await asyncio.gather(*(self._work(http) for _ in range(self._concurrency)))
            seconds = loop.time() - begun
            in_ledgers, in_flight = await self._settled()
            await self._leases_ended()
        finally:
            watching.cancel()
        return self._judged(seconds, in_ledgers, in_flight)

    async def _work(self, http: aiohttp.ClientSession) -> None:
        while self._next < self._requests:
            self._next += 1
            asked = draw(self._dice, self._next, self._rate, _CLIENT_PATIENCE)
            ending, words = await ask(http, asked)
            self._endings[ending.value] += 1
            if ending is Ending.WRONG:
                self._wrong[words] += 1
            elif ending is Ending.ERROR:
                self._errors[words] += 1

    async def _watch(self, progress: Callable[[str], object]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            overdue = sum(kv.holds.overdue(loop.time()) for kv in self._exchanges())
            self._overdue = max(self._overdue, overdue)
            progress(f"{sum(self._endings.values()):,} of {self._requests:,} requests")
            await asyncio.sleep(_SAMPLE_SECONDS)

    async def _settled(self) -> tuple[int, int]:
        """What the gateway's books hold once nobody asks any more."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _SETTLE_SECONDS
        fleet = self._gateway.router.fleet
        while True:
            ledgers = sum(state.ledger.requests for state in fleet)
            in_flight = self._gateway.telemetry.in_flight
            if not (ledgers or in_flight) or loop.time() > end:
                return ledgers, in_flight
            await asyncio.sleep(0.05)

    async def _leases_ended(self) -> None:
        """Wait until nothing is pinned any more, as long as leases may last."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._lease + 1.0
        router, gateway = self._gateway.router, self._gateway
        while loop.time() < end:
            held = any(len(kv.holds) for kv in self._exchanges())
            if not held and not router.prefilling.stranded_now(gateway.now()):
                return
            await asyncio.sleep(0.05)

    def _exchanges(self) -> list[KvExchange]:
        return [server.service.kv for server in self._fleet.servers if server.service.kv]

    def _judged(self, seconds: float, in_ledgers: int, in_flight: int) -> Outcome:
        kvs = self._exchanges()
        splits = self._gateway.telemetry.splits
        router = self._gateway.router
        return Outcome(
            requests=self._requests,
            endings=dict(self._endings),
            wrong=dict(self._wrong),
            errors=dict(self._errors),
            splits=dict(splits.requests),
            prefill_failures=dict(splits.failures),
            fallbacks=dict(splits.fallbacks),
            left_in_ledgers=in_ledgers,
            left_in_flight=in_flight,
            engines_dead=sum(bool(kv.died) for kv in kvs),
            kv_overdue=self._overdue,
            kv_held_at_the_end=sum(len(kv.holds) for kv in kvs),
            kv_pinned_blocks_at_the_end=sum(
                server.service.engine.cache.pinned for server in self._fleet.servers
            ),
            kv_read=sum(kv.holds.read for kv in kvs),
            kv_expired=sum(kv.holds.expired for kv in kvs),
            kv_late_reads=sum(kv.holds.late_reads for kv in kvs),
            kv_expired_tokens=sum(kv.holds.expired_tokens for kv in kvs),
            stranded_tokens=router.prefilling.stranded_tokens,
            stranded_at_the_end=router.prefilling.stranded_now(self._gateway.now()),
            seconds=seconds,
        )


def checks(found: Outcome) -> list[Check]:
    """What must hold whatever fails."""
    answered = sum(found.endings.values())
    right = found.endings.get(Ending.RIGHT.value, 0)
    return [
        at_least("requests that ended", answered, found.requests, "requests"),
        at_most("wrong, doubled or silent", sum(found.wrong.values()), 0, "requests"),
        at_least("right answers", right / max(answered, 1), 0.8, "of all"),
        at_least("prefills that were read", found.kv_read, 0.5 * found.requests, "requests"),
        at_most("left in ledgers", found.left_in_ledgers, 0, "reservations"),
        at_most("left in flight", found.left_in_flight, 0, "requests"),
        at_most("engines that died", found.engines_dead, 0, "engines"),
        at_most("KV pinned beyond its lease", found.kv_overdue, 0, "requests"),
        at_most("KV held at the end", found.kv_held_at_the_end, 0, "requests"),
        at_most("blocks pinned at the end", found.kv_pinned_blocks_at_the_end, 0, "blocks"),
        at_most("KV read twice or too late", found.kv_late_reads, 0, "reads"),
        at_least(
            "expired KV that was booked",
            found.stranded_tokens / max(found.kv_expired_tokens, 1),
            0.5,
            "of its tokens, by estimate",
        ),
        at_most("stranded KV still booked", found.stranded_at_the_end, 0, "tokens"),
    ]
