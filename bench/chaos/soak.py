"""Endurance: unique traffic at a high rate, and whether anything of the gateway's grows.

Every prompt differs from the first character on, so nothing is ever found in a cache: all that
is remembered of it must be forgotten again. A share of the clients leave in the middle of a
stream. The servers publish their caches' changes, which are followed.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from statistics import linear_regression
from tempfile import TemporaryDirectory
from typing import NamedTuple

import aiohttp
from msgspec import Struct

from bench.chaos.gateway import GatewayProcess, metric_sums
from bench.chaos.servers import ChildServer
from bench.results import Check, at_least, at_most

MEGABYTE = 1e6
SAMPLE_SECONDS = 5.0
INDEX_BYTES = 4 << 20
CACHE_TOKENS = 2_500_000
"""Both are full within two minutes, by far less than a warm-up: blocks are forgotten from then on.
Of a smaller cache the index would forget blocks before it reaches its own budget."""
RATE_BAR = 300.0
_TICK_SECONDS = 0.01
_MOST_UNDER_WAY = 3_000
_PROMPT_BYTES = 1_000
_ABORT_SHARE = 0.01
_STREAM_SHARE = 0.1
_PATIENCE = 30.0
_BEHIND_SECONDS = 1.0  # the machine stood still: what was due then is not made up for
_AFTER_SECONDS = 5.0  # and endpoints that could not be probed are taken for ill for a moment
_SETTLE_SECONDS = 15.0
_MODEL = "sim-8b"


class Sample(Struct, frozen=True):
    """The gateway at a moment, ``at`` seconds after the beginning."""

    at: float
    answered: int
    rss_bytes: int
    descriptors: int
    ledger_requests: int
    index_bytes: int
    index_blocks: int


class Soak(Struct, frozen=True):
    """What came of it. Slopes are growth in 10 minutes, by least squares, after the warm-up;
    that of descriptors is of each minute's fewest.

    All times leave out ``stood_still_seconds``, when the machine let nobody run; ``disturbed``
    counts requests that failed then or in the seconds after, which ``errors`` does not.
    """

    minutes: float
    warm_up_minutes: float
    offered: int
    answered: int
    aborted: int
    wrong: int
    skipped: int
    errors: dict[str, int]
    disturbed: int
    answered_per_second: float
    rss_slope: float
    descriptors_slope: float
    index_slope: float
    rss_first: int
    rss_last: int
    descriptors_first: int
    descriptors_last: int
    most_in_ledgers: int
    left_in_ledgers: int
    stood_still_seconds: float
    samples: list[Sample]


class _Failure(NamedTuple):
    """A request that got no answer: when it began and ended, and what came instead."""

    began: float
    ended: float
    kind: str

    def within(self, pauses: Sequence[tuple[float, float]]) -> bool:
        """Whether the machine stood still meanwhile, or just before."""
        return any(
            self.began <= end + _AFTER_SECONDS and self.ended >= start for start, end in pauses
        )


async def measure(
    minutes: float,
    rate: float,
    servers: int,
    seed: int,
    progress: Callable[[str], object] = lambda _: None,
) -> Soak:
    """Run it. Raises RuntimeError, OSError."""
    arguments = (
        *("--servers", "1", "--mode", "echo", "--time-scale", "0.01"),
        *("--cache-tokens", str(CACHE_TOKENS), "--kv-events"),
    )
    children = [ChildServer(arguments) for _ in range(servers)]
    with TemporaryDirectory(prefix="inferway-soak-") as directory:
        gateway = GatewayProcess(Path(directory))
        try:
            await asyncio.gather(*(child.start() for child in children))
            gateway.configure(
                {
                    "endpoints": [
                        {"url": f"http://127.0.0.1:{child.port}", "labels": dict(child.labels)}
                        for child in children
                    ],
                    "kv_events": {},
                    "routing": {"index_bytes": INDEX_BYTES},
                    "log": {"access": False},
                }
            )
            await gateway.start()
            return await _Run(gateway, minutes, rate, seed, progress).run()
        finally:
            await gateway.stop()
            await asyncio.gather(*(child.kill() for child in children if child.port))


class _Run:
    """The traffic, and the samples taken beside it."""

    def __init__(
        self,
        gateway: GatewayProcess,
        minutes: float,
        rate: float,
        seed: int,
        progress: Callable[[str], object],
    ) -> None:
        self._gateway = gateway
        self._seconds = minutes * 60
        self._rate = rate
        self._dice = Random(seed)
        self._progress = progress
        self._tasks: set[asyncio.Task[None]] = set()
        self._pauses: list[tuple[float, float]] = []
        self._failures: list[_Failure] = []
        self._offered = self._answered = self._aborted = self._wrong = self._skipped = 0

    async def run(self) -> Soak:
        loop = asyncio.get_running_loop()
        self._begun = loop.time()
        samples: list[Sample] = []
        async with (
            aiohttp.ClientSession(
                self._gateway.url,
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=_PATIENCE),
            ) as self._http,
            aiohttp.ClientSession(self._gateway.admin) as admin,
        ):
            traffic = asyncio.create_task(self._send())
            while not traffic.done():
                await asyncio.wait((traffic,), timeout=SAMPLE_SECONDS)
                samples.append(await self._sample(loop.time() - self._begun, admin))
                self._tell(samples)
            traffic.result()
            lasted = loop.time() - self._begun
            await asyncio.gather(*self._tasks)
            left = await self._left(loop)
        return self._judged(samples, lasted, left)

    async def _send(self) -> None:
        """Offer requests at the rate, whatever becomes of those before."""
        loop = asyncio.get_running_loop()
        while (passed := loop.time() - self._begun) < self._seconds:
            due = int(passed * self._rate) - self._offered - self._skipped
            behind = due / self._rate
            if behind > _BEHIND_SECONDS:
                self._begun += behind
                self._pauses.append((loop.time() - behind, loop.time()))
                continue
            for _ in range(due):
                if len(self._tasks) >= _MOST_UNDER_WAY:
                    self._skipped += 1
                    continue
                self._offered += 1
                task = loop.create_task(self._ask())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(_TICK_SECONDS)

    async def _ask(self) -> None:
        loop, dice = asyncio.get_running_loop(), self._dice
        begun = loop.time()
        said = dice.randbytes(8).hex()
        prompt = dice.randbytes(_PROMPT_BYTES // 2).hex()
        leaves = dice.random() < _ABORT_SHARE
        streamed = leaves or dice.random() < _STREAM_SHARE
        body = (
            f'{{"model":"{_MODEL}","stream":{str(streamed).lower()},"max_tokens":64,"messages":['
            f'{{"role":"system","content":"{prompt}"}},{{"role":"user","content":"{said}"}}]}}'
        )
        try:
            async with self._http.post(
                "/v1/chat/completions",
                data=body.encode(),
                headers={"content-type": "application/json"},
            ) as response:
                if leaves:
                    await response.content.readany()
                    response.close()
                    self._aborted += 1
                    return
                page = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._failures.append(_Failure(begun, loop.time(), type(error).__name__))
            return
        if response.status != 200:
            self._failures.append(_Failure(begun, loop.time(), f"status {response.status}"))
        elif streamed:
            # Four bytes a token, so the echo comes in pieces.
            right = page.rstrip().endswith(b"[DONE]") and all(
                said[at : at + 4].encode() in page for at in range(0, len(said), 4)
            )
            self._count(right)
        else:
            self._count(f'"content":"{said}"'.encode() in page)

    def _count(self, right: bool) -> None:
        if right:
            self._answered += 1
        else:
            self._wrong += 1

    async def _sample(self, at: float, admin: aiohttp.ClientSession) -> Sample:
        usage, books = self._gateway.usage(), await self._gateway.books()
        values = await metric_sums(admin)
        return Sample(
            at=at,
            answered=self._answered,
            rss_bytes=usage.rss_bytes,
            descriptors=usage.descriptors,
            ledger_requests=books.ledger_requests,
            index_bytes=int(values["inferway_prefix_index_bytes"]),
            index_blocks=int(values["inferway_prefix_index_blocks"]),
        )

    def _tell(self, samples: Sequence[Sample]) -> None:
        last = samples[-1]
        self._progress(
            f"{last.at / 60:.1f} of {self._seconds / 60:g} min, {self._answered:,} answered, "
            f"{last.rss_bytes / MEGABYTE:.1f} MB, {last.descriptors} descriptors, "
            f"{len(self._failures) + self._wrong} errors"
        )

    async def _left(self, loop: asyncio.AbstractEventLoop) -> int:
        """What stays in the ledgers when nothing is in flight any more."""
        end = loop.time() + _SETTLE_SECONDS
        while True:
            books = await self._gateway.books()
            left = max(books.ledger_requests, books.in_flight)
            if not left or loop.time() > end:
                return left
            await asyncio.sleep(0.2)

    def _judged(self, samples: list[Sample], lasted: float, left: int) -> Soak:
        warm_up = warm_up_seconds(self._seconds)
        disturbed = [one for one in self._failures if one.within(self._pauses)]
        errors = Counter(one.kind for one in self._failures if not one.within(self._pauses))
        counted = [sample for sample in samples if sample.at >= warm_up]
        return Soak(
            minutes=lasted / 60,
            warm_up_minutes=warm_up / 60,
            offered=self._offered,
            answered=self._answered,
            aborted=self._aborted,
            wrong=self._wrong,
            skipped=self._skipped,
            errors=dict(errors),
            disturbed=len(disturbed),
            answered_per_second=self._answered / lasted,
            rss_slope=slope(counted, lambda one: one.rss_bytes),
            descriptors_slope=slope(floor(counted), lambda one: one.descriptors),
            index_slope=slope(counted, lambda one: one.index_bytes),
            rss_first=counted[0].rss_bytes,
            rss_last=counted[-1].rss_bytes,
            descriptors_first=counted[0].descriptors,
            descriptors_last=counted[-1].descriptors,
            most_in_ledgers=max(sample.ledger_requests for sample in samples),
            left_in_ledgers=left,
            stood_still_seconds=sum(end - start for start, end in self._pauses),
            samples=samples,
        )


def warm_up_seconds(seconds: float) -> float:
    """What is not counted: a quarter of the time, at most ten minutes."""
    return min(seconds / 4, 600.0)


def floor(samples: Sequence[Sample]) -> list[Sample]:
    """Of each whole minute the sample with the fewest descriptors; all, when that leaves one.

    After a moment in which the machine was busy many requests are under way at once, each with a
    connection or two: that comes and goes. What leaks never goes, and raises what is left between.
    """
    minutes: dict[int, list[Sample]] = {}
    for sample in samples:
        minutes.setdefault(int(sample.at // 60), []).append(sample)
    whole = [group for group in minutes.values() if len(group) > 60 / SAMPLE_SECONDS / 2]
    lowest = [min(group, key=lambda one: one.descriptors) for group in whole]
    return lowest if len(lowest) > 1 else list(samples)


def slope(samples: Sequence[Sample], value: Callable[[Sample], float]) -> float:
    """How much a value grows in ten minutes, by least squares; at least two samples."""
    return (
        linear_regression([one.at for one in samples], [value(one) for one in samples]).slope * 600
    )


def checks(found: Soak) -> list[Check]:
    """The bars, and that the traffic was what they are about."""
    return [
        at_least("answered", found.answered_per_second, RATE_BAR, "requests/s"),
        at_most("memory", found.rss_slope / MEGABYTE, 1.0, "MB more in 10 minutes"),
        at_most("descriptors", found.descriptors_slope, 1.0, "more in 10 minutes"),
        at_most("prefix index", found.index_slope / MEGABYTE, 0.1, "MB more in 10 minutes"),
        at_most("left in ledgers", found.left_in_ledgers, 0, "requests"),
        at_most("wrong answers", found.wrong, 0, "requests"),
        at_most("errors", sum(found.errors.values()), 0, "requests"),
    ]
