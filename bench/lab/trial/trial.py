"""All gateways on all workloads, interleaved, and the bars."""

import asyncio
from collections.abc import Callable, Sequence
from statistics import fmean, median

from msgspec import Struct
from tokenizers import Tokenizer

from bench.lab.engine import Server
from bench.lab.fleet import LabFleet
from bench.lab.trial import arms
from bench.lab.trial.play import Run, empty_caches, play
from bench.lab.trial.workloads import WORKLOADS, Workload
from bench.pulse import PAUSE_SECONDS
from bench.results import Check, at_most

RATIO_BAR = 0.7
NOTHING_LOST_BAR = 1.1
_TIMES = 3
OURS = "inferway"
OTHERS = ("round-robin", "vllm-router", "sglang-router")


class Summary(Struct, frozen=True, kw_only=True):
    """A gateway on a workload: means over the runs; ``ttft_ratio`` is to round robin's mean."""

    workload: str
    gateway: str
    runs: int
    mean_ttft: float
    p50_ttft: float
    p90_ttft: float
    hit_ratio: float
    mean_seconds: float
    ttft_ratio: float | None
    errors: int


async def compare(
    fleet: LabFleet,
    servers: Sequence[Server],
    gateways: Sequence[str],
    workloads: Sequence[str],
    rounds: int,
    progress: Callable[[str], object],
    keep: Callable[[Sequence[Run]], object] = lambda _: None,
) -> list[Run]:
    """Every gateway once in each round, in an order that rotates.

    ``keep`` is given all runs so far after each: together they take long. Raises `LabError`,
    OSError, aiohttp.ClientError.
    """
    tokenizer = Tokenizer.from_file(str(fleet.home.model / "tokenizer.json"))

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    runs = []
    for name in workloads:
        for number in range(rounds):
            workload = await asyncio.to_thread(WORKLOADS[name], count, number)
            for arm in _rotated(gateways, number):
                progress(f"{name}, round {number + 1}: {arm.name}")
                runs.append(await _once(arm, workload, fleet, servers, number))
                keep(runs)
    return runs


async def _once(
    arm: arms.Arm, workload: Workload, fleet: LabFleet, servers: Sequence[Server], number: int
) -> Run:
    """One run; again, up to twice, when the machine stood still meanwhile."""
    for _ in range(_TIMES):
        await empty_caches(servers)
        async with arms.running(arm, fleet, servers) as url:
            run = await play(workload, arm.name, url, servers, number)
        if run.paused_seconds < PAUSE_SECONDS:
            break
    return run


def _rotated(gateways: Sequence[str], number: int) -> list[arms.Arm]:
    chosen = [arm for arm in arms.ARMS if arm.name in gateways]
    start = number % len(chosen)
    return chosen[start:] + chosen[:start]


def summaries(runs: Sequence[Run]) -> list[Summary]:
    """One for each workload and gateway, in the order of the runs."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.workload, run.gateway), []).append(run)
    found = []
    for (workload, gateway), same in groups.items():
        ttft = fmean(run.mean_ttft for run in same)
        base = groups.get((workload, "round-robin"))
        found.append(
            Summary(
                workload=workload,
                gateway=gateway,
                runs=len(same),
                mean_ttft=ttft,
                p50_ttft=median(run.p50_ttft for run in same),
                p90_ttft=median(run.p90_ttft for run in same),
                hit_ratio=fmean(run.hit_ratio for run in same),
                mean_seconds=fmean(run.mean_seconds for run in same),
                ttft_ratio=ttft / fmean(run.mean_ttft for run in base) if base else None,
                errors=sum(sum(run.errors.values()) for run in same),
            )
        )
    return found


def checks(found: Sequence[Summary]) -> list[Check]:
    """The bars: sooner where there is something to gain, no later where there is nothing."""
    by_name = {(one.workload, one.gateway): one for one in found}
    judged = [at_most("failed requests", sum(one.errors for one in found), 0, "requests")]
    ours = by_name.get(("sessions", OURS))
    if ours is not None:
        for other in OTHERS:
            theirs = by_name.get(("sessions", other))
            ratio = None if theirs is None else ours.mean_ttft / theirs.mean_ttft
            name = f"sessions: mean time to first token, of {other}'s"
            judged.append(at_most(name, ratio, RATIO_BAR, "ratio"))
    for workload in WORKLOADS:
        one = by_name.get((workload, OURS))
        if one is not None and workload != "sessions":
            name = f"{workload}: mean time to first token, of round-robin's"
            judged.append(at_most(name, one.ttft_ratio, NOTHING_LOST_BAR, "ratio"))
    return judged
