"""How exact the exact view is: predicted against reported cached tokens, under eviction.

A gateway, and simulated servers that publish their caches' changes: real sockets throughout.
Conversations grow turn by turn, as token ids; together they are larger than the servers' caches,
so that blocks are evicted all the time. For each request the prediction of the moment of the
choice is held against what the server says that it found.
"""

import asyncio
from collections.abc import Callable
from random import Random

import aiohttp
import msgspec
from msgspec import Struct

from bench.results import Check, at_least
from gateway.app import Gateway
from gateway.embedded import EmbeddedFleet
from gateway.settings import AdminSettings, KvEventSettings, ListenSettings, LogSettings, Settings
from routing.decision import Decision

MODEL = "sim-8b"
BAR = 0.995
_VOCABULARY = 60_000
_SYSTEM_PROMPTS = 6
_SYSTEM_TOKENS = 500
_TURN_TOKENS = (40, 400)
_TURNS = 12
_OUTPUT_TOKENS = 4
_EVENTS_SECONDS = 10.0


class Exactness(Struct, frozen=True):
    """Shares are of ``requests``; tokens are prompt tokens."""

    requests: int
    servers: int
    cache_tokens: int
    concurrency: int
    exact: float
    """Share of requests whose prediction was right to the token."""
    predicted_tokens: int
    reported_tokens: int
    prompt_tokens: int
    evicted_blocks: int
    """Blocks that the servers reported as removed: the pressure."""


class _Details(Struct):
    cached_tokens: int = 0


class _Usage(Struct):
    prompt_tokens: int
    prompt_tokens_details: _Details | None = None


class _Answer(Struct):
    usage: _Usage


_answer = msgspec.json.Decoder(_Answer)


async def measure(
    requests: int,
    servers: int,
    cache_tokens: int,
    concurrency: int,
    seed: int,
    progress: Callable[[str], object] = lambda _: None,
) -> Exactness:
    """Send ``requests`` and compare. Raises `gateway.app.StartError`, `RuntimeError`."""
    fleet = EmbeddedFleet(
        (
            *("--servers", str(servers), "--model", MODEL, "--kv-events"),
            *("--cache-tokens", str(cache_tokens), "--time-scale", "0.002"),
        )
    )
    gateway = Gateway(
        Settings(
            listen=ListenSettings(port=0),
            admin=AdminSettings(port=0),
            kv_events=KvEventSettings(),
            log=LogSettings(access=False, level="warning"),
        ),
        embedded=fleet,
    )
    try:
        await gateway.start()
        run = _Run(gateway, requests, random_seed=seed, progress=progress)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{gateway.port}") as session:
            await run.wait_for_events(session, servers)
            await asyncio.gather(*(run.client(session, one) for one in range(concurrency)))
        watched = gateway.event_views()
        return Exactness(
            requests=run.done,
            servers=servers,
            cache_tokens=cache_tokens,
            concurrency=concurrency,
            exact=run.exact / run.done,
            predicted_tokens=run.predicted,
            reported_tokens=run.reported,
            prompt_tokens=run.prompt_tokens,
            evicted_blocks=sum(view.health.removed_blocks for view in watched),
        )
    finally:
        await asyncio.shield(gateway.stop())


def checks(found: Exactness) -> list[Check]:
    """The bar, and that there was something to be exact about."""
    return [
        at_least("predictions that were exact", found.exact, BAR, "share of requests"),
        at_least("cached tokens", found.reported_tokens / found.prompt_tokens, 0.2, "share"),
        at_least("evicted blocks", found.evicted_blocks, found.requests, "blocks"),
    ]


class _Run:
    """The clients of one measurement, and what they count."""

    def __init__(
        self,
        gateway: Gateway,
        requests: int,
        *,
        random_seed: int,
        progress: Callable[[str], object],
    ) -> None:
        self.done = self.exact = self.predicted = self.reported = self.prompt_tokens = 0
        self._gateway = gateway
        self._left = requests
        self._progress = progress
        self._seed = random_seed
        dice = Random(random_seed)
        self._systems = [_tokens(dice, _SYSTEM_TOKENS) for _ in range(_SYSTEM_PROMPTS)]

    async def wait_for_events(self, session: aiohttp.ClientSession, servers: int) -> None:
        """Ask until every server's first event has arrived, so that its block size is known."""
        residency = self._gateway.router.residency
        loop = asyncio.get_running_loop()
        end = loop.time() + _EVENTS_SECONDS
        dice = Random("warm up")
        while loop.time() < end:
            states = list(self._gateway.router.fleet)
            if sum(residency.size_of(state.name) is not None for state in states) == servers:
                return
            await asyncio.gather(
                *(self._ask(session, _tokens(dice, 64), "warm-up") for _ in range(servers))
            )
            await asyncio.sleep(0.05)
        raise RuntimeError(f"not every server sent an event in {_EVENTS_SECONDS:g} s")

    async def client(self, session: aiohttp.ClientSession, number: int) -> None:
        """One after the other: conversations that grow by what was said and answered."""
        dice = Random(f"{self._seed} {number}")
        conversation = 0
        while self._left:
            conversation += 1
            prompt = list(dice.choice(self._systems))
            for turn in range(_TURNS):
                if not self._left:
                    return
                self._left -= 1
                prompt += _tokens(dice, dice.randint(*_TURN_TOKENS))
                name = f"{number}-{conversation}-{turn}"
                self._compare(name, await self._ask(session, prompt, name))

    async def _ask(self, session: aiohttp.ClientSession, prompt: list[int], name: str) -> _Usage:
        body = {"model": MODEL, "prompt": prompt, "max_tokens": _OUTPUT_TOKENS, "ignore_eos": True}
        async with session.post(
            "/v1/completions", json=body, headers={"x-request-id": name}
        ) as response:
            page = await response.read()
            if response.status != 200:
                raise RuntimeError(f"status {response.status}: {page[:200]!r}")
        return _answer.decode(page).usage

    def _compare(self, name: str, usage: _Usage) -> None:
        decision = self._decision(name)
        details = usage.prompt_tokens_details
        reported = 0 if details is None else details.cached_tokens
        predicted = round(decision.predicted_cached_tokens)
        self.done += 1
        self.exact += predicted == reported
        self.predicted += predicted
        self.reported += reported
        self.prompt_tokens += usage.prompt_tokens
        if self.done % 250 == 0:
            self._progress(f"{self.done:,} requests, {self.exact / self.done:.2%} exact")

    def _decision(self, name: str) -> Decision:
        for decision in reversed(self._gateway.router.recent):
            if decision.request.id == name:
                return decision
        raise RuntimeError(f"the decision of request {name} is not kept any more")


def _tokens(dice: Random, count: int) -> list[int]:
    return [dice.randrange(_VOCABULARY) for _ in range(count)]
