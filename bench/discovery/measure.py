"""The gateway's side: discovery and the keeper of a fleet, watched while the cluster churns.

The API server (`bench.apiserver`) and whoever writes to it run in processes of their own. Twice
the watches are made harder: a third into the run all of them are closed, two thirds into it the
server forgets its history, so that everything must be listed again.
"""

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from statistics import quantiles
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import msgspec
import psutil
from msgspec import Struct

from bench.discovery.churn import NAMESPACE
from bench.discovery.verdict import Change, Verdict, differences, judge
from bench.pulse import Pulse
from bench.results import Check, at_most
from endpoints.discovery.keeper import FleetKeeper
from endpoints.discovery.kubernetes.discovery import KubernetesDiscovery
from endpoints.discovery.kubernetes.pools import PoolSpec
from endpoints.discovery.kubernetes.rules import PoolRules
from endpoints.discovery.kubernetes.settings import DiscoverySettings
from endpoints.kubernetes.connection import ClusterSettings, open_connection
from routing.fleet import Endpoint, Fleet

_BOUND = 1.0  # seconds within which a change may be overtaken by the next one
_SETTLE_SECONDS = 3.0
_START_SECONDS = 60.0
_P99_LIMIT = 1.0
_GROWTH_LIMIT = 5.0  # per cent


class Found(Struct, frozen=True):
    """One run. Lags in seconds, memory in MiB; ``growth_percent`` is of the second half."""

    pods: int
    ports: int
    rate: float
    seconds: float
    changes: int
    superseded: int
    missed: int
    phantoms: int
    lag_p50: float
    lag_p99: float
    lag_max: float
    lists: int
    cpu_percent: float
    rss_start: float
    rss_end: float
    growth_percent: float
    longest_pause: float
    examples: tuple[str, ...]


class _Watched:
    """A fleet that discovery feeds, and when each endpoint came and left.

    What is seen goes to a file: this process's memory is what is measured.
    """

    def __init__(self, notes: BinaryIO) -> None:
        self.fleet = Fleet()
        self._notes = notes
        self._keeper = FleetKeeper(
            self.fleet,
            clock=time.monotonic,
            upsert=self.fleet.upsert,
            remove=self.fleet.remove,
            changed=lambda: None,
        )

    def endpoints(self, _pool: str, wanted: Sequence[Endpoint]) -> None:
        changes = self._keeper.apply(wanted)
        now = time.monotonic()
        for one in (*changes.added, *changes.changed):
            self._note(Change(now, one.name, one.url))
        for name in changes.removed:
            self._note(Change(now, name, None))

    def _note(self, change: Change) -> None:
        self._notes.write(msgspec.json.encode(change) + b"\n")

    def seen(self) -> list[Change]:
        """All that was seen."""
        self._notes.seek(0)
        return [msgspec.json.decode(line, type=Change) for line in self._notes]

    def pool_came(self, spec: PoolSpec) -> None:
        pass

    def pool_left(self, spec: PoolSpec) -> None:
        pass

    def rules(self, pool: str, rules: PoolRules) -> None:
        pass


async def measure(pods: int, ports: int, rate: float, seconds: float, seed: int = 0) -> Found:
    """Run once."""
    with TemporaryFile() as notes:
        return await _measured(notes, pods, ports, rate, seconds, seed)


async def _measured(
    notes: BinaryIO, pods: int, ports: int, rate: float, seconds: float, seed: int
) -> Found:
    async with (
        _child("bench.apiserver") as (server, url),
        _child(
            "bench.discovery.churn",
            *(url, "--pods", str(pods), "--ports", str(ports), "--rate", str(rate)),
            *("--seconds", str(seconds), "--seed", str(seed)),
        ) as (churn, _ready),
    ):
        connection = await open_connection(ClusterSettings(url=url))
        watched = _Watched(notes)
        settings = DiscoverySettings(namespaces=(NAMESPACE,))
        discovery = KubernetesDiscovery(connection, settings, watched)
        await discovery.start()
        try:
            if not await discovery.wait_synced(_START_SECONDS):
                raise RuntimeError("the pool was not found in time")
            return await _run(server, churn, watched, discovery, (pods, ports, seconds))
        finally:
            await discovery.stop()
            await connection.close()


async def _run(
    server: Process,
    churn: Process,
    watched: _Watched,
    discovery: KubernetesDiscovery,
    parameters: tuple[int, int, float],
) -> Found:
    pods, ports, seconds = parameters
    process, pulse = psutil.Process(), Pulse()
    hampering = asyncio.ensure_future(_hamper(server, seconds))
    memory: list[float] = []
    weighing = asyncio.ensure_future(_weigh(process, memory))
    cpu, began = process.cpu_times(), time.monotonic()
    assert churn.stdin is not None and churn.stdout is not None
    churn.stdin.write(b"go\n")
    facts = msgspec.json.decode(await churn.stdout.readline(), type=dict[str, float])
    used = sum(process.cpu_times()[:2]) - sum(cpu[:2])
    share = 100.0 * used / (time.monotonic() - began)
    await asyncio.sleep(_SETTLE_SECONDS)
    for task in (hampering, weighing):
        task.cancel()
    await asyncio.gather(hampering, weighing, return_exceptions=True)
    pause = pulse.stop()
    # Only now, as this takes memory and time of its own.
    made = [
        msgspec.json.decode(line, type=Change) for line in (await churn.stdout.read()).splitlines()
    ]
    verdict = _judged(made, watched, began)
    lags = (
        quantiles(verdict.lags or [0.0], n=100, method="inclusive")
        if len(verdict.lags) > 1
        else [0.0] * 99
    )
    start, end = _ends(memory)
    return Found(
        pods=pods,
        ports=ports,
        rate=facts["steps"] / facts["seconds"],
        seconds=facts["seconds"],
        changes=len(verdict.lags),
        superseded=verdict.superseded,
        missed=len(verdict.missed),
        phantoms=len(verdict.phantoms),
        lag_p50=lags[49],
        lag_p99=lags[98],
        lag_max=max(verdict.lags, default=0.0),
        lists=max(cache.lists for cache in discovery.caches()),
        cpu_percent=share,
        rss_start=start,
        rss_end=end,
        growth_percent=100.0 * (end - start) / start if start else 0.0,
        longest_pause=pause,
        examples=tuple((*verdict.missed, *verdict.phantoms)[:5]),
    )


def _judged(made: Sequence[Change], watched: _Watched, began: float) -> Verdict:
    """Changes of the churning time; what was made before is only held against at the end."""
    seen = watched.seen()
    verdict = judge(made, seen, _BOUND)
    during = judge([one for one in made if one.at >= began], seen, _BOUND)
    verdict.lags = during.lags
    left: dict[str, str] = {}
    for change in made:
        if change.url is None:
            left.pop(change.endpoint, None)
        else:
            left[change.endpoint] = change.url
    there = {
        state.name: state.endpoint.url
        for state in watched.fleet
        if state.health.value != "draining"
    }
    missing, phantom = differences(left, there)
    verdict.missed += [f"{name} is missing at the end" for name in missing]
    verdict.phantoms += [f"{name} is left at the end" for name in phantom]
    return verdict


async def _hamper(server: Process, seconds: float) -> None:
    await asyncio.sleep(seconds / 3)
    os.kill(server.pid, signal.SIGUSR1)
    await asyncio.sleep(seconds / 3)
    os.kill(server.pid, signal.SIGUSR2)


async def _weigh(process: psutil.Process, memory: list[float]) -> None:
    while True:
        memory.append(process.memory_info().rss / (1 << 20))
        await asyncio.sleep(1.0)


def _ends(memory: Sequence[float]) -> tuple[float, float]:
    """Means around the middle and at the end: what is learned at first is no growth."""
    if len(memory) < 6:
        return (memory[0], memory[-1]) if memory else (0.0, 0.0)
    some = max(1, len(memory) // 10)
    middle = len(memory) // 2
    return (
        sum(memory[middle : middle + some]) / some,
        sum(memory[-some:]) / some,
    )


@asynccontextmanager
async def _child(module: str, *arguments: str) -> AsyncIterator[tuple[Process, str]]:
    """A module in a process of its own, and the first line that it says."""
    command: Any = (sys.executable, "-m", module, *arguments)
    child = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=1 << 20)
    assert child.stdout is not None
    try:
        async with asyncio.timeout(_START_SECONDS):
            line = await child.stdout.readline()
        if not line:
            raise RuntimeError(f"{module} did not start")
        yield child, line.decode().strip()
    finally:
        if child.returncode is None:
            child.terminate()
        await child.communicate()


def checks(found: Found) -> list[Check]:
    """The bars."""
    return [
        at_most("missed changes and endpoints", found.missed, 0, ""),
        at_most("phantom endpoints", found.phantoms, 0, ""),
        at_most("discovery lag p99", found.lag_p99, _P99_LIMIT, "s"),
        at_most("growth of memory in the second half", found.growth_percent, _GROWTH_LIMIT, "%"),
    ]
