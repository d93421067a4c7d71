"""The demo of split requests: as many servers, once each for whole requests, once with roles."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, quantiles

import uvloop
from rich.console import Console, JustifyMethod
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.demo.driver import Outcome, PlannedRequest, drive
from bench.demo.hardware import BANDWIDTH, KV_BYTES_PER_TOKEN, MODEL, server_arguments
from gateway.app import Gateway
from gateway.config import AdminSettings, ListenSettings, LogSettings, RoutingSettings, Settings
from gateway.embedded import EmbeddedFleet
from gateway.settings import DisaggregationSettings

_LATENCY = 0.005


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to use the servers; ``roles`` repeat over them, ``mode`` decides on splitting."""

    name: str
    mode: str
    roles: tuple[str, ...] = ()


def arms(servers: int, prefill_share: float) -> tuple[Arm, ...]:
    """All arms: whole requests, and split ones with this share of servers that only prefill."""
    prefills = min(max(round(servers * prefill_share), 1), servers - 1)
    roles = ("prefill",) * prefills + ("decode",) * (servers - prefills)
    shape = f"{prefills}P+{servers - prefills}D"
    return (
        Arm("aggregated", "never"),
        Arm(f"{shape}, always", "always", roles),
        Arm(f"{shape}, adaptive", "adaptive", roles),
        Arm("all both, adaptive", "adaptive", ("both",)),
    )


@dataclass(frozen=True, slots=True)
class Figures:
    """One arm's figures at the recorded speed: seconds, shares 0..1, bytes; None: not measured."""

    name: str
    requests: int
    failures: int
    ttft_mean: float | None
    ttft_p90: float | None
    itl_mean: float | None
    itl_p99: float | None
    split_share: float
    bytes_moved: float


def run_arms(
    plan: Sequence[PlannedRequest],
    servers: int,
    prefill_share: float,
    time_scale: float,
    console: Console,
) -> list[Figures]:
    """One arm after the other, each with its progress bar. Raises `gateway.app.StartError`."""
    columns = (
        TextColumn("{task.description:>20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    found = []
    with Progress(*columns, console=console) as progress:
        for arm in arms(servers, prefill_share):
            task = progress.add_task(arm.name, total=len(plan))
            advance = partial(progress.advance, task)
            found.append(uvloop.run(run_arm(arm, plan, servers, time_scale, advance)))
    return found


async def run_arm(
    arm: Arm,
    plan: Sequence[PlannedRequest],
    servers: int,
    time_scale: float,
    done: Callable[[], object],
) -> Figures:
    """One arm before fresh servers."""
    fleet = EmbeddedFleet(
        (
            *server_arguments(servers, time_scale),
            *(argument for role in arm.roles for argument in ("--role", role)),
            *("--kv-bytes-per-token", str(KV_BYTES_PER_TOKEN)),
            *("--kv-bandwidth", str(BANDWIDTH)),
        )
    )
    gateway = Gateway(
        Settings(
            listen=ListenSettings(port=0),
            admin=AdminSettings(port=0),
            routing=RoutingSettings(
                disaggregation=DisaggregationSettings(
                    mode=arm.mode,  # type: ignore[arg-type]
                    bytes_per_token=KV_BYTES_PER_TOKEN,
                    bandwidth=BANDWIDTH / time_scale,  # whose servers' time passes that much faster
                    latency=_LATENCY * time_scale,
                )
            ),
            log=LogSettings(access=False),
        ),
        embedded=fleet,
    )
    try:
        await gateway.start()
        outcomes = await drive(f"http://127.0.0.1:{gateway.port}", MODEL, plan, done)
        splits = gateway.telemetry.splits
        split = sum(splits.requests.values()) - sum(splits.fallbacks.values())
        moved = gateway.router.disaggregation.links.bytes
        return figures(arm.name, outcomes, split, moved, time_scale)
    finally:
        await asyncio.shield(gateway.stop())


def figures(
    name: str, outcomes: Sequence[Outcome], split: int, moved: float, time_scale: float
) -> Figures:
    """What a run comes to, its times brought back to the recorded speed."""
    good = [outcome for outcome in outcomes if not outcome.failure]
    ttfts = [outcome.ttft / time_scale for outcome in good if outcome.ttft is not None]
    gaps = [gap / time_scale for outcome in good for gap in outcome.gaps]
    return Figures(
        name=name,
        requests=len(outcomes),
        failures=len(outcomes) - len(good),
        ttft_mean=fmean(ttfts) if ttfts else None,
        ttft_p90=_percentile(ttfts, 90),
        itl_mean=fmean(gaps) if gaps else None,
        itl_p99=_percentile(gaps, 99),
        split_share=split / max(len(outcomes), 1),
        bytes_moved=moved,
    )


def comparison(found: Sequence[Figures]) -> Table:
    """The arms side by side."""
    table = Table(title="time to first token (s), between tokens (ms), at the recorded speed")
    headings = ("servers", "TTFT", "p90", "ITL", "p99", "split", "moved", "failures")
    for heading in headings:
        justify: JustifyMethod = "left" if heading == "servers" else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    for one in found:
        table.add_row(
            one.name,
            _number(one.ttft_mean, 1.0, ".2f"),
            _number(one.ttft_p90, 1.0, ".2f"),
            _number(one.itl_mean, 1000.0, ".0f"),
            _number(one.itl_p99, 1000.0, ".0f"),
            f"{one.split_share:.0%}",
            f"{one.bytes_moved / 1e9:,.0f} GB",
            f"{one.failures} of {one.requests}",
        )
    return table


def _percentile(values: Sequence[float], percent: int) -> float | None:
    if len(values) < 2:
        return None
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def _number(value: float | None, factor: float, form: str) -> str:
    return "-" if value is None else format(value * factor, form)
