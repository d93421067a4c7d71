"""The faults: what each does to a scene, and how it is taken away again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from bench.chaos import mischief
from bench.chaos.relay import Mischief, Relay
from bench.chaos.scene import NOTHING, Needs, Scene

_ALWAYS = 24 * 3600.0


@dataclass(frozen=True)
class Struck:
    """How often a fault did harm, once it is over."""

    count: Callable[[], int]


@dataclass(frozen=True)
class Fault:
    """A row of the table. ``during`` does harm while its block runs.

    ``one_victim``: it strikes the first server only, which must be used again afterwards.
    """

    name: str
    what: str
    during: Callable[[Scene], AbstractAsyncContextManager[Struck]]
    needs: Needs = NOTHING
    one_victim: bool = True


def _fixed(number: int) -> Struck:
    return Struck(lambda: number)


@asynccontextmanager
async def _kill(scene: Scene) -> AsyncIterator[Struck]:
    await scene.victim.kill()
    yield _fixed(1)
    await scene.victim.start()


@asynccontextmanager
async def _freeze(scene: Scene) -> AsyncIterator[Struck]:
    scene.victim.freeze()
    try:
        yield _fixed(1)
    finally:
        scene.victim.thaw()


def _relayed(
    what: Mischief, relays: Callable[[Scene], Sequence[Relay]]
) -> Callable[[Scene], AbstractAsyncContextManager[Struck]]:
    @asynccontextmanager
    async def during(scene: Scene) -> AsyncIterator[Struck]:
        chosen = relays(scene)
        for relay in chosen:
            relay.begin(what)
        yield Struck(lambda: sum(relay.strikes for relay in chosen))
        for relay in chosen:
            relay.end()

    return during


def _at_victim(what: Mischief) -> Callable[[Scene], AbstractAsyncContextManager[Struck]]:
    return _relayed(what, lambda scene: [scene.victims_relay])


def _everywhere(what: Mischief) -> Callable[[Scene], AbstractAsyncContextManager[Struck]]:
    return _relayed(what, lambda scene: scene.relays)


@asynccontextmanager
async def _unresolvable(scene: Scene) -> AsyncIterator[Struck]:
    """The victim moves to a name that no resolver knows."""
    scene.configure(scene.settings(["http://no-such-host.invalid:8000", *scene.urls()[1:]]))
    yield _fixed(1)
    scene.configure(scene.settings())


def _events(**changes: object) -> Callable[[Scene], AbstractAsyncContextManager[Struck]]:
    """Cache events of all servers go wrong; with ``cleared`` the caches are emptied, too."""
    clears = bool(changes.pop("cleared", False))

    @asynccontextmanager
    async def during(scene: Scene) -> AsyncIterator[Struck]:
        cleared = 0

        async def clear() -> None:
            nonlocal cleared
            while True:
                for server in scene.servers:
                    await server.tell("/reset_prefix_cache", {})
                    cleared += 1
                await asyncio.sleep(0.25)

        for server in scene.servers:
            await server.tell("/admin/config", {"kv_events": changes})
        clearing = asyncio.create_task(clear()) if clears else None
        yield Struck(lambda: cleared if clears else len(scene.servers))
        if clearing is not None:
            clearing.cancel()
            await asyncio.gather(clearing, return_exceptions=True)
        well = dict.fromkeys(changes, 0.0)
        for server in scene.servers:
            await server.tell("/admin/config", {"kv_events": well})

    return during


@asynccontextmanager
async def _endpoint_expires(scene: Scene) -> AsyncIterator[Struck]:
    """The victim's certificate has ended, and its open connections with it."""
    scene.authority.renew_endpoint(-1.0)
    reset = scene.victims_relay.reset_all()
    yield _fixed(reset)
    scene.authority.renew_endpoint(_ALWAYS)


@asynccontextmanager
async def _gateway_expires(scene: Scene) -> AsyncIterator[Struck]:
    """The gateway's own certificate ends: clients refuse it until there is another."""
    scene.authority.renew_gateway(2.0)
    yield _fixed(1)
    scene.authority.renew_gateway(None)


@asynccontextmanager
async def _storm(scene: Scene) -> AsyncIterator[Struck]:
    """The configuration changes all the time: the victim leaves and joins, files are broken."""
    written = 0
    right = scene.gateway.config

    async def storm() -> None:
        nonlocal written
        without = scene.settings(scene.urls()[1:])
        while True:
            for settled in (without, scene.settings()):
                for number in range(40):
                    if number % 4 == 3:
                        right.write_text("endpoints: [{url: http://127.0")  # half a file
                    else:
                        scene.configure(settled if number % 2 else without)
                    written += 1
                    await asyncio.sleep(0.02)
                scene.configure(settled)
                await asyncio.sleep(2.2)  # two readings a second apart must agree

    storming = asyncio.create_task(storm())
    yield Struck(lambda: written)
    storming.cancel()
    await asyncio.gather(storming, return_exceptions=True)
    scene.configure(scene.settings())


_EVENTS = Needs(events=True)

FAULTS: tuple[Fault, ...] = (
    Fault("kill", "kill -9, then a new process at the same port", _kill),
    Fault("hang", "SIGSTOP, then SIGCONT", _freeze),
    Fault("slow-reads", "takes requests at 64 KB/s", _at_victim(mischief.SlowReads)),
    Fault("slow-writes", "answers at 2 KB/s", _at_victim(mischief.SlowWrites)),
    Fault("resets", "resets at a random byte of the answer", _at_victim(mischief.Resets)),
    Fault(
        "framing", "nonsense in status line, fields, chunks", _at_victim(mischief.CorruptFraming)
    ),
    Fault("length", "a content length that is wrong", _at_victim(mischief.WrongLength)),
    Fault("half-open", "bytes vanish both ways, nothing closes", _at_victim(mischief.HalfOpen)),
    Fault("dns", "moves to a name that does not resolve", _unresolvable),
    Fault(
        "metrics-lie",
        "all servers' metrics are nonsense",
        _everywhere(mischief.MetricsLie),
        one_victim=False,
    ),
    Fault(
        "metrics-stall",
        "all servers' metrics never come",
        _everywhere(mischief.MetricsStall),
        one_victim=False,
    ),
    Fault(
        "events-lost",
        "half of all cache events never arrive",
        _events(lose_rate=0.5),
        _EVENTS,
        one_victim=False,
    ),
    Fault(
        "events-reordered",
        "half of them after their successor",
        _events(reorder_rate=0.5),
        _EVENTS,
        one_victim=False,
    ),
    Fault(
        "events-repeated",
        "half of them twice",
        _events(duplicate_rate=0.5),
        _EVENTS,
        one_victim=False,
    ),
    Fault(
        "events-cleared",
        "caches emptied four times a second, and half of that not told",
        _events(lose_rate=0.5, cleared=True),
        _EVENTS,
        one_victim=False,
    ),
    Fault(
        "endpoint-certificate",
        "an endpoint's certificate expires",
        _endpoint_expires,
        Needs(endpoint_tls=True),
    ),
    Fault(
        "gateway-certificate",
        "the gateway's certificate expires, then is renewed",
        _gateway_expires,
        Needs(gateway_tls=True),
        one_victim=False,
    ),
    Fault("reload-storm", "the configuration is rewritten 50 times a second", _storm),
)
NAMES = tuple(fault.name for fault in FAULTS)


def chosen(names: Sequence[str]) -> tuple[Fault, ...]:
    """These faults in the table's order; all when there is none. ValueError for an unknown one."""
    for name in names:
        if name not in NAMES:
            raise ValueError(f"no fault {name!r}; there are {', '.join(NAMES)}")
    return tuple(fault for fault in FAULTS if not names or fault.name in names)
