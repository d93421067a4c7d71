"""The command `inferway lab`: real vLLM servers on this machine's processor."""

import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
import uvloop
from msgspec import to_builtins
from msgspec.json import decode, encode
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.conclusion import Json, conclude
from bench.lab import machine
from bench.lab.engine import CONTEXT_LENGTH, MODEL, PORTS_EACH, Server
from bench.lab.fleet import LabError, LabFleet, RunningGateway, State, answers
from bench.lab.home import VARIABLE, Home, home
from bench.lab.install import Installer, InstallError
from bench.lab.trial import arms, trial
from bench.lab.trial.play import Run
from bench.lab.trial.workloads import WORKLOADS
from bench.results import Results, figures_table, results, write_json

app = typer.Typer(
    help="Real vLLM servers with a small real model, on this machine's processor.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_console = Console(highlight=False)
if not _console.is_terminal:
    _console = Console(highlight=False, width=140)  # as wide as the table
_errors = Console(stderr=True, soft_wrap=True, highlight=False)
CACHE_TOKENS = 8_192
_PROMPT = "Say hello in one short sentence."

Folder = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help=f"The lab's folder. [{VARIABLE} or ~/.cache/inferway/lab]",
        file_okay=False,
        show_default=False,
    ),
]


@app.callback()
def lab() -> None:
    """Real vLLM servers with a small real model, on this machine's processor."""


@app.command()
def up(
    *,
    servers: Annotated[int, typer.Option(min=1, max=16, help="How many model servers.")] = 2,
    port: Annotated[
        int, typer.Option(help=f"First server's port; each takes {PORTS_EACH} of every ten.")
    ] = 18_100,
    cache_tokens: Annotated[
        int, typer.Option(min=CONTEXT_LENGTH, help="KV cache of each server, in tokens.")
    ] = CACHE_TOKENS,
    disaggregated: Annotated[
        bool,
        typer.Option(
            "--disaggregated",
            help="The first half of them only prefills, the others decode, by NIXL; without LoRA.",
        ),
    ] = False,
    lora: Annotated[bool, typer.Option(help="With a LoRA adapter.")] = True,
    nice: Annotated[
        int, typer.Option(min=0, max=19, help="How far other programs go before the servers.")
    ] = 19,
    gateway: Annotated[bool, typer.Option(help="Start our gateway before them.")] = True,
    gateway_port: Annotated[int, typer.Option(help="The gateway's port for clients.")] = 8080,
    admin_port: Annotated[int, typer.Option(help="The gateway's port for operators.")] = 9090,
    folder: Folder = None,
) -> None:
    """Install what is missing, start servers and the gateway, and ask a first question.

    Everything lies in one folder; what is installed or runs already stays as it is. Each server
    computes with one thread. Nothing is downloaded when this machine can't run it.
    """
    begun = time.monotonic()
    fleet = LabFleet(home(folder))
    try:
        wanted = [
            Server(port + 10 * n, cache_tokens, lora and role is None, role)
            for n, role in enumerate(_roles(servers, disaggregated=disaggregated))
        ]
        _bring_up(fleet, wanted, nice, disaggregated=disaggregated)
        state = fleet.state()
        if gateway:
            running = state.gateway or fleet.start_gateway(gateway_port, admin_port)
            answer = _first_answer(running)
            _console.print(f"first answer after {time.monotonic() - begun:.0f} s: {escape(answer)}")
    except (LabError, InstallError, OSError) as error:
        raise _fail(error) from None
    _show(fleet.state())


@app.command()
def status(*, folder: Folder = None) -> None:
    """Say what runs and how it does; exit code 1 when nothing runs or something does not answer."""
    state = LabFleet(home(folder)).state()
    if not _show(state):
        raise typer.Exit(1)


@app.command()
def down(*, folder: Folder = None) -> None:
    """Stop the gateway and the servers. What is installed stays."""
    with _console.status("stopping"):
        stopped = LabFleet(home(folder)).stop()
    _console.print(f"{stopped} stopped" if stopped else "nothing ran")


@app.command()
def bench(
    *,
    gateway: Annotated[
        list[str] | None,
        typer.Option(help=f"Only this one; may be repeated: {', '.join(arms.NAMES)}."),
    ] = None,
    workload: Annotated[
        list[str] | None,
        typer.Option(help=f"Only this one; may be repeated: {', '.join(WORKLOADS)}."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; every gateway once in each.")] = 3,
    port: Annotated[int, typer.Option(help="First server's port, if none runs.")] = 18_100,
    nice: Annotated[
        int, typer.Option(min=0, max=19, help="How far other programs go before the servers.")
    ] = 19,
    folder: Folder = None,
    json: Json = None,
) -> None:
    """Compare gateways before two real servers: time to first token and the engines' cache hits.

    Servers that are up are used; otherwise two are started, and stopped afterwards.
    """
    for name, known in (
        *((n, arms.NAMES) for n in gateway or ()),
        *((n, WORKLOADS) for n in workload or ()),
    ):
        if name not in known:
            raise typer.BadParameter(f"no {name!r}; there are {', '.join(known)}")
    fleet = LabFleet(home(folder))
    gateways = gateway or [*arms.NAMES]
    workloads = workload or [*WORKLOADS]
    try:
        already = fleet.state().servers
        if not already:
            _bring_up(fleet, [Server(port + 10 * n, CACHE_TOKENS) for n in range(2)], nice)
        servers = [one.server for one in fleet.state().servers]

        def keep(runs: Sequence[Run]) -> None:
            if json is not None:
                write_json(_trial_results(servers, rounds, runs), json)

        try:
            with _console.status("starting") as shown:
                runs = uvloop.run(
                    trial.compare(fleet, servers, gateways, workloads, rounds, shown.update, keep)
                )
        finally:
            if not already:
                fleet.stop()
    except (LabError, InstallError, OSError) as error:
        raise _fail(error) from None
    found = _trial_results(servers, rounds, runs)
    _console.print(figures_table("before real servers", to_builtins(found.medians)))
    conclude(found, json, _console)


def _trial_results(servers: Sequence[Server], rounds: int, runs: Sequence[Run]) -> Results:
    found = trial.summaries(runs)
    return results(
        "lab",
        parameters={"servers": to_builtins(servers), "rounds": rounds},
        rounds=to_builtins(list(runs)),
        medians=to_builtins(found),
        checks=trial.checks(found),
    )


def _roles(servers: int, *, disaggregated: bool) -> list[Literal["prefill", "decode"] | None]:
    if not disaggregated:
        return [None] * servers
    if servers < 2:
        raise LabError("--disaggregated needs two servers: --servers 2")
    prefills = servers // 2
    return ["prefill" if number < prefills else "decode" for number in range(servers)]


def _bring_up(
    fleet: LabFleet, wanted: list[Server], nice: int, *, disaggregated: bool = False
) -> None:
    """Install and start what is missing, and wait for it."""
    running = fleet.state().servers
    ports = {one.server.port for one in running}
    missing = [one for one in wanted if one.port not in ports]
    prepare(fleet.home, len(missing), disaggregated=disaggregated)
    if missing and fleet.state().gateway is not None:
        fleet.stop_gateway()  # it knows only the servers it was started with
    fleet.start(missing, nice)
    with _console.status("starting") as shown:
        fleet.wait(fleet.state().servers, shown.update)


def prepare(where: Home, servers: int, *, disaggregated: bool = False) -> None:
    """See whether ``servers`` more can run here, and install what is missing.

    Raises `LabError`, `InstallError`.
    """
    installer = Installer(where, disaggregated=disaggregated)
    missing = installer.missing
    if servers:
        reasons = machine.obstacles(where.root, servers, installed=not missing)
        if reasons:
            raise LabError("the lab can't run here: " + "; ".join(reasons))
    if not missing:
        return
    _console.print(f"installing into {where.root}: {', '.join(step.name for step in missing)}")
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=_console
    ) as progress:
        task = progress.add_task("installing", total=None)

        def report(what: str, share: float | None) -> None:
            progress.update(task, description=what, total=None if share is None else 1.0)
            if share is not None:
                progress.update(task, completed=share)

        watched = Installer(where, report, disaggregated=disaggregated)
        watched.install()
    for note in watched.notes:
        _console.print(f"[yellow]note:[/yellow] {escape(note)}")


def _first_answer(gateway: RunningGateway) -> str:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": _PROMPT}],
        "max_tokens": 16,
        "temperature": 0,
    }
    request = urllib.request.Request(
        f"{gateway.url}/chat/completions",
        encode(body),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        return str(decode(response.read())["choices"][0]["message"]["content"])


def _show(state: State) -> bool:
    """Print what runs; whether something runs and all of it answers."""
    if not state.servers and state.gateway is None:
        _console.print("nothing runs: inferway lab up")
        return False
    table = Table()
    for heading in ("what", "where", "state", "process", "resident MB", "log"):
        table.add_column(heading, justify="right" if heading == "resident MB" else "left")
    healthy = True
    rows = [
        (one.server.name, one.server.url, one.server.url + "/health", one.process)
        for one in state.servers
    ]
    if state.gateway is not None:
        ready = f"http://127.0.0.1:{state.gateway.admin_port}/readyz"
        rows.append(("gateway", state.gateway.url, ready, state.gateway.process))
    for name, url, health, process in rows:
        well = answers(health)
        healthy = healthy and well
        word = "[green]answers[/green]" if well else "[red]does not answer[/red]"
        memory = f"{process.rss_bytes() / 1e6:,.0f}"
        table.add_row(name, url, word, str(process.pid), memory, process.log)
    _console.print(table)
    return healthy


def _fail(error: Exception) -> typer.Exit:
    _errors.print(f"[red]error:[/red] {escape(str(error))}")
    return typer.Exit(2)
