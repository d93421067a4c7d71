"""`inferway demo --scale`: a fleet of processes that grows under traffic and shrinks after it.

The gateway starts and ends its own simulated servers. What is printed is what operators see: the
page `/debug/scaling` of the running gateway.
"""

import asyncio
import random
import sys
import time
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from rich.console import Console

from gateway.app import Gateway
from gateway.settings import (
    AdminSettings,
    ListenSettings,
    LogSettings,
    Objective,
    PaceSettings,
    ScaledPoolSettings,
    ScaledRoleSettings,
    ScalingSection,
    Settings,
)

_MODEL: Final = "sim-8b"
_PRESET: Final = "8b-l40s"
_STARTUP: Final = 3.0
_PROMPT_BYTES: Final = 8_000  # about 2,000 tokens: 1.2 s of prefill on this hardware
_OUTPUT: Final = 40
_LOOK_SECONDS: Final = 2.0
_LAST_SECONDS: Final = 240.0  # for the fleet to be gone again


@dataclass(frozen=True, slots=True)
class Stretch:
    """``rate`` requests a second for ``seconds``."""

    what: str
    seconds: float
    rate: float


DAY: Final = (
    Stretch("a quiet morning", 15.0, 0.2),
    Stretch("everybody comes", 60.0, 2.5),
    Stretch("a quiet evening", 80.0, 0.5),
    Stretch("night", 0.0, 0.0),
)


@dataclass(slots=True)
class Told:
    """What the run showed, for whoever checks it."""

    answered: int = 0
    failed: int = 0
    most_ready: int = 0
    last_ready: int = 0
    cut: int = 0
    woken_seconds: float = 0.0


def demo_settings(most: int, host: str, port: int, admin_port: int) -> Settings:
    """A gateway whose pool is made of processes: none to ``most``."""
    command = (
        *(sys.executable, "-m", "bench.fleet", "--servers", "1", "--port", "{port}"),
        *("--model", _MODEL, "--preset", _PRESET, "--startup-seconds", str(_STARTUP)),
        "--json-ready",  # they end with us
    )
    pool = ScaledPoolSettings(
        roles={"both": ScaledRoleSettings(command=command, min=0, max=most)},
        models=(_MODEL,),
        objective=Objective(ttft=3.0, itl=1.0),
        interval=2.0,
        startup=_STARTUP + 2.0,
        idle=20.0,
        grace=20.0,
        up=PaceSettings(percent=100.0, replicas=2, period=4.0),
        down=PaceSettings(percent=50.0, replicas=2, period=4.0, window=15.0, reversal=10.0),
    )
    return Settings(
        listen=ListenSettings(host=host, port=port),
        admin=AdminSettings(host=host, port=admin_port),
        scaling=ScalingSection(pools={"default": pool}),
        log=LogSettings(access=False, level="error"),
    )


async def show(
    console: Console, *, most: int = 5, day: tuple[Stretch, ...] = DAY, port: int = 0
) -> Told:
    """Play the day, and tell how the fleet follows. Raises `gateway.app.StartError`."""
    gateway = Gateway(demo_settings(most, "127.0.0.1", port, 0))
    await gateway.start()
    told = Told()
    admin = f"http://127.0.0.1:{gateway.admin_port}"
    try:
        async with aiohttp.ClientSession() as http:
            console.print(f"operators see it on {admin}/debug/scaling\n")
            began = time.monotonic()
            console.print(f"{'s':>4} {'':18}{'asked for':>10}{'ready':>7}{'starting':>10}"
                          f"{'draining':>10}{'waiting':>9}{'answered':>10}")  # fmt: skip
            load = _Load(f"http://127.0.0.1:{gateway.port}", told)
            for stretch in day:
                sending = asyncio.get_running_loop().create_task(load.send(stretch, http))
                night = not stretch.rate
                end = time.monotonic() + (_LAST_SECONDS if night else stretch.seconds)
                while time.monotonic() < end:
                    role = await _look(http, admin, told, console, began, stretch.what)
                    if night and role["replicas"] == 0 and not role["leaving"]:
                        break
                    await asyncio.sleep(_LOOK_SECONDS)
                await sending
            await load.ended()
            console.print("\nnobody is there any more; one more request comes")
            woken = time.monotonic()
            await load.one(http)
            told.woken_seconds = time.monotonic() - woken
            console.print(f"answered after {told.woken_seconds:.1f} s, start of a server included")
            page = await _page(http, admin)
            told.cut = page["roles"]["both"]["requests_cut"]
            console.print("\nwhat the loop did, oldest first:")
            for entry in reversed(page["journal"][:40]):
                console.print(f"  {time.monotonic() - began - entry['seconds_ago']:5.0f} s  "
                              f"{entry['what']}")  # fmt: skip
    finally:
        await asyncio.shield(gateway.stop())
    return told


async def _page(http: aiohttp.ClientSession, admin: str) -> dict[str, Any]:
    async with http.get(f"{admin}/debug/scaling") as response:
        page: dict[str, Any] = (await response.json())["default"]
        return page


async def _look(
    http: aiohttp.ClientSession,
    admin: str,
    told: Told,
    console: Console,
    began: float,
    what: str,
) -> dict[str, Any]:
    page = await _page(http, admin)
    role: dict[str, Any] = page["roles"]["both"]
    counted = role["counted"] or dict.fromkeys(("ready", "starting", "pending"), 0)
    told.most_ready = max(told.most_ready, counted["ready"])
    told.last_ready = counted["ready"]
    console.print(
        f"{time.monotonic() - began:4.0f} {what:18}{role['replicas'] or 0:>10}"
        f"{counted['ready']:>7}{counted['starting'] + counted['pending']:>10}"
        f"{len(role['leaving']):>10}{page['waiting']['requests']:>9}{told.answered:>10}"
    )
    return role


class _Load:
    """Requests by chance, each with a prompt that nobody has cached."""

    def __init__(self, url: str, told: Told) -> None:
        self._url = url
        self._told = told
        self._dice = random.Random(0)
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(self, stretch: Stretch, http: aiohttp.ClientSession) -> None:
        """At the stretch's rate, for its time; answers are waited for by `ended`."""
        end = time.monotonic() + stretch.seconds
        while stretch.rate and time.monotonic() < end:
            task = asyncio.get_running_loop().create_task(self.one(http))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(self._dice.expovariate(stretch.rate))

    async def ended(self) -> None:
        """Wait for what is under way."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def one(self, http: aiohttp.ClientSession) -> None:
        """One request, whole."""
        prompt = f"{self._dice.getrandbits(64)} " + "words and words " * (_PROMPT_BYTES // 16)
        body = {
            "model": _MODEL,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": _OUTPUT,
            "stream": True,
        }
        try:
            async with http.post(f"{self._url}/v1/chat/completions", json=body) as response:
                content = await response.read()
                well = response.status == 200 and content.endswith(b"[DONE]\n\n")
        except (aiohttp.ClientError, OSError):
            well = False
        self._told.answered += well
        self._told.failed += not well
