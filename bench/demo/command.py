"""The command `inferway demo`."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.cluster.command import show as show_cluster
from bench.demo.disaggregated import comparison, run_arms
from bench.demo.driver import Outcome, PlannedRequest, drive
from bench.demo.hardware import MODEL, PRESET, server_arguments
from bench.demo.report import Summary, summarise, table
from bench.demo.scaling import show
from bench.traces.expand import prompt_text
from bench.traces.mooncake import SAMPLE, Row, TraceError, arrival_seconds, read
from gateway.app import Gateway, StartError
from gateway.config import AdminSettings, ListenSettings, LogSettings, RoutingSettings, Settings
from gateway.embedded import EmbeddedFleet
from gateway.settings import KvEventSettings
from gateway.tokenizing.service import ENGINE
from routing.policies import DEFAULT_POLICY, POLICIES

_TOKENIZING_SECONDS = 1.0


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
    disaggregated: Annotated[
        bool,
        typer.Option(
            "--disaggregated",
            help="Compare whole requests with split ones on as many servers, instead of policies.",
        ),
    ] = False,
    prefill_share: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="With --disaggregated: share of the servers that only prefill."
        ),
    ] = 0.75,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact/--no-exact",
            help="Run the last policy once more, following the servers' cache events.",
        ),
    ] = True,
    cluster: Annotated[
        bool,
        typer.Option(
            "--cluster",
            help="Show the capacity loop instead: two pools on a simulated cluster of GPUs.",
        ),
    ] = False,
    scale: Annotated[
        bool,
        typer.Option(
            "--scale",
            help="Instead: a fleet that grows under traffic, shrinks after it, and goes to zero.",
        ),
    ] = False,
) -> None:
    """Replay recorded chat traffic against simulated servers, policy by policy.

    The requests are a slice of the Mooncake conversation trace. Gateway, sockets and servers'
    caches are real; only the servers' step times and words are made up. Each policy
    meets fresh servers. Times are given at the recorded speed. In the last run the gateway
    knows the caches exactly: it follows the servers' cache events and asks them for token ids.

    With --disaggregated the same requests meet as many servers whose roles differ: whole requests,
    prompts computed on some servers and continued on others, and servers that do both.
    """
    console = Console()
    if cluster:
        show_cluster(console, str(trace))
        return
    if scale:
        _show_scaling(console)
        return
    if disaggregated and servers < 2:
        raise typer.BadParameter("splitting needs two servers", param_hint="--servers")
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
            f"in {plan[-1].at:.0f} s, on {servers} servers ({PRESET}), "
            f"{1 / time_scale:g} times faster than real"
        )
        if disaggregated:
            arms = run_arms(plan, servers, prefill_share, time_scale, console)
            console.print(comparison(arms))
            raise typer.Exit(1 if any(arm.failures for arm in arms) else 0)
        runs = [(name, False) for name in policies]
        if exact:
            runs.append((policies[-1], True))
        summaries = run_all(runs, plan, servers, time_scale, console)
    except (TraceError, StartError) as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}")
        raise typer.Exit(2) from None
    console.print(table(summaries))
    if any(summary.failures for summary in summaries):
        raise typer.Exit(1)


def _show_scaling(console: Console) -> None:
    logging.getLogger("endpoints").setLevel(logging.ERROR)  # servers that start are no news here
    try:
        told = uvloop.run(show(console))
    except StartError as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}")
        raise typer.Exit(2) from None
    console.print(
        f"\n{told.answered} requests answered, {told.failed} failed, {told.cut} cut off; "
        f"{told.most_ready} servers at most"
    )
    if told.failed or told.cut:
        raise typer.Exit(1)


def make_plan(rows: Sequence[Row], speed: float, time_scale: float) -> list[PlannedRequest]:
    """The requests of a trace at the times at which the demo sends them."""
    return [
        PlannedRequest(at * time_scale / speed, prompt_text(row), row.output_length)
        for row, at in zip(rows, arrival_seconds(rows), strict=True)
    ]


def run_all(
    runs: Sequence[tuple[str, bool]],
    plan: Sequence[PlannedRequest],
    servers: int,
    time_scale: float,
    console: Console,
) -> list[Summary]:
    """One run after the other (policy, exact), each with its progress bar."""
    columns = (
        TextColumn("{task.description:>21}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    summaries = []
    with Progress(*columns, console=console) as progress:
        for policy, exact in runs:
            name = f"{policy}, exact" if exact else policy
            task = progress.add_task(name, total=len(plan))
            advance = partial(progress.advance, task)
            outcomes = uvloop.run(run_one(policy, plan, servers, time_scale, advance, exact=exact))
            summaries.append(summarise(name, outcomes, time_scale))
    return summaries


async def run_one(
    policy: str,
    plan: Sequence[PlannedRequest],
    servers: int,
    time_scale: float,
    done: Callable[[], object],
    *,
    exact: bool = False,
) -> list[Outcome]:
    """One policy before fresh servers. Raises `gateway.app.StartError`.

    ``exact``: the gateway follows the servers' cache events and asks them for token ids.
    """
    fleet = EmbeddedFleet(
        (
            *server_arguments(servers, time_scale),
            *(("--kv-events",) if exact else ()),
        )
    )
    gateway = Gateway(
        Settings(
            listen=ListenSettings(port=0),
            admin=AdminSettings(port=0),
            routing=RoutingSettings(policy=policy),
            kv_events=KvEventSettings() if exact else None,
            tokenizers={MODEL: ENGINE} if exact else {},
            tokenizing_deadline=_TOKENIZING_SECONDS,
            log=LogSettings(access=False),
        ),
        embedded=fleet,
    )
    try:
        await gateway.start()
        return await drive(f"http://127.0.0.1:{gateway.port}", MODEL, plan, done)
    finally:
        await asyncio.shield(gateway.stop())
