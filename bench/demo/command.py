"""The command `inferway demo`."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.demo.driver import Outcome, PlannedRequest, drive
from bench.demo.report import Summary, summarise, table
from bench.traces.expand import prompt_text
from bench.traces.mooncake import SAMPLE, Row, TraceError, arrival_seconds, read
from gateway.app import Gateway, StartError
from gateway.config import AdminSettings, ListenSettings, LogSettings, RoutingSettings, Settings
from gateway.embedded import EmbeddedFleet
from routing.policies import DEFAULT_POLICY, POLICIES

MODEL = "sim-70b"
_PRESET = "70b-h100x4"
_CACHE_TOKENS = 460_000  # KV cache of a 70B model on four 80 GB GPUs


def demo(
    *,
    trace: Annotated[
        Path, typer.Option(help="Mooncake trace, JSON lines, .gz or not.", show_default="sample")
    ] = SAMPLE,
    requests: Annotated[int, typer.Option(min=2, help="How many of its requests.")] = 400,
    servers: Annotated[int, typer.Option(min=1, help="Simulated model servers.")] = 4,
    speed: Annotated[
        float, typer.Option(min=0.01, help="Arrivals, times the recorded rate.")
    ] = 0.7,
    time_scale: Annotated[
        float, typer.Option(min=0.01, help="Factor on all times; 0.1 is ten times faster.")
    ] = 0.1,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="A policy to run; may be repeated. [round_robin, the default]"),
    ] = None,
) -> None:
    """Replay recorded chat traffic against simulated servers, policy by policy.

    The requests are a slice of the Mooncake conversation trace. Gateway, sockets and servers'
    caches are real; only the servers' step times and words are made up. Each policy
    meets fresh servers. Times are given at the recorded speed.
    """
    console = Console()
    policies = policy or ["round_robin", DEFAULT_POLICY]
    for name in policies:
        if name not in POLICIES:
            raise typer.BadParameter(f"no policy {name!r}; there are {', '.join(POLICIES)}")
    try:
        rows = read(trace)[:requests]
        plan = make_plan(rows, speed, time_scale)
        console.print(
            f"{len(plan)} requests, {sum(row.input_length for row in rows) // len(rows):,} prompt "
            f"and {sum(row.output_length for row in rows) // len(rows)} output tokens each, "
            f"in {plan[-1].at:.0f} s, on {servers} servers ({_PRESET}), "
            f"{1 / time_scale:g} times faster than real"
        )
        summaries = run_all(policies, plan, servers, time_scale, console)
    except (TraceError, StartError) as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}")
        raise typer.Exit(2) from None
    console.print(table(summaries))
    if any(summary.failures for summary in summaries):
        raise typer.Exit(1)


def make_plan(rows: Sequence[Row], speed: float, time_scale: float) -> list[PlannedRequest]:
    """The requests of a trace at the times at which the demo sends them."""
    return [
        PlannedRequest(at * time_scale / speed, prompt_text(row), row.output_length)
        for row, at in zip(rows, arrival_seconds(rows), strict=True)
    ]


def run_all(
    policies: Sequence[str],
    plan: Sequence[PlannedRequest],
    servers: int,
    time_scale: float,
    console: Console,
) -> list[Summary]:
    """One run a policy, each with its progress bar."""
    columns = (
        TextColumn("{task.description:>16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    summaries = []
    with Progress(*columns, console=console) as progress:
        for name in policies:
            task = progress.add_task(name, total=len(plan))
            advance = partial(progress.advance, task)
            outcomes = uvloop.run(run_one(name, plan, servers, time_scale, advance))
            summaries.append(summarise(name, outcomes, time_scale))
    return summaries


async def run_one(
    policy: str,
    plan: Sequence[PlannedRequest],
    servers: int,
    time_scale: float,
    done: Callable[[], object],
) -> list[Outcome]:
    """One policy before fresh servers. Raises `gateway.app.StartError`."""
    fleet = EmbeddedFleet(
        (
            *("--servers", str(servers), "--model", MODEL, "--preset", _PRESET),
            *("--cache-tokens", str(_CACHE_TOKENS), "--time-scale", str(time_scale)),
            *("--max-batched-tokens", "8192"),
        )
    )
    gateway = Gateway(
        Settings(
            listen=ListenSettings(port=0),
            admin=AdminSettings(port=0),
            routing=RoutingSettings(policy=policy),
            log=LogSettings(access=False),
        ),
        embedded=fleet,
    )
    try:
        await gateway.start()
        return await drive(f"http://127.0.0.1:{gateway.port}", MODEL, plan, done)
    finally:
        await asyncio.shield(gateway.stop())
