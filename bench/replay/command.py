"""The command `inferway replay`."""

import os
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from msgspec import to_builtins
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.replay.checks import CLAIRVOYANT, checks
from bench.replay.faults import FAULTS
from bench.replay.parallel import WorkerError, run_all
from bench.replay.play import play
from bench.replay.presets import PRESETS
from bench.replay.report.columns import by_setting
from bench.replay.report.page import page
from bench.replay.report.tables import table
from bench.replay.settings import DEFAULT_PRESET
from bench.replay.suite import (
    DEFAULT_ENDPOINTS,
    FAR_BEHIND,
    SHARED_PREFIX_PRESET,
    Load,
    Run,
    full_loads,
    quick_loads,
    recorded,
    robustness_runs,
    runs,
    synthetic,
)
from bench.replay.summary import Played, medians
from bench.replay.workloads import SAMPLE_NAME, SHARED_PREFIX, TraceError, load
from bench.results import Results, print_checks, results, write_json
from routing.policies import POLICIES

_WIDTH = 180
_SEEDS = 3


def replay(
    trace: Annotated[
        str | None,
        typer.Argument(
            help="A Mooncake trace, an Azure one or a gateway's traffic log, .gz or not; "
            f"or {SAMPLE_NAME} or {SHARED_PREFIX}."
        ),
    ] = None,
    *,
    policies: Annotated[
        str | None, typer.Option(help="Policies, separated by commas.", show_default="all")
    ] = None,
    endpoints: Annotated[
        int | None, typer.Option(min=1, help=f"Simulated engines [{DEFAULT_ENDPOINTS}].")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="Arrivals, times the recorded rate [1].")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help=f"Requests/s of {SHARED_PREFIX}.")
    ] = None,
    requests: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many.", show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    seeds: Annotated[
        int | None, typer.Option(min=1, help=f"Seeds; medians over them [{_SEEDS}; 1 for a TRACE].")
    ] = None,
    events: Annotated[
        bool | None,
        typer.Option(
            "--events/--no-events",
            help="Whether engines report their caches; they do, and --full plays both.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help=f"The simulated engine [{DEFAULT_PRESET}; {SHARED_PREFIX_PRESET} for "
            f"{SHARED_PREFIX}]."
        ),
    ] = None,
    fault: Annotated[
        list[str] | None, typer.Option(help="Also under this fault; may be repeated.")
    ] = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="All loads that have bars; TRACE is Mooncake's conversation."),
    ] = False,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes.", show_default="one a core")
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write everything to this file.", dir_okay=False)
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with charts.", dir_okay=False)
    ] = None,
) -> None:
    """Compare routing policies on recorded traffic, in virtual time.

    The router is the real one; engines and time are simulated, so an hour of traffic takes
    seconds. Every policy meets the same requests and fresh engines.
    Without options: a quick look. The exit code is 1 when a check fails.
    """
    console = _console()
    try:
        names = chosen_policies(policies)
        if preset is not None:
            _known(preset, PRESETS, "preset")
        faults = list(FAULTS) if full and not fault else list(fault or ())
        for one in faults:
            _known(one, FAULTS, "fault")
        loads = chosen_loads(trace, endpoints, speed, rate, requests, preset, full=full)
        notes = _notes(loads, seed)
    except (ValueError, TraceError) as error:
        _fail(error)
    count = seeds or (_SEEDS if len(loads) > 1 else 1)
    once = FAR_BEHIND if full and policies is None else ()
    if once:
        notes.append(f"{', '.join(once)}: far behind, so one seed only, and not under faults")
    wanted = [True, False] if full and events is None else [events is not False]
    plan = [
        *runs(loads, names, seed=seed, seeds=count, events=wanted, once=once),
        *robustness_runs(loads[0], [name for name in names if name not in once], faults, seed=seed),
    ]
    played = play_all(plan, processes or available_cores(), console)
    figures = medians(played)
    for setting, rows in by_setting(figures).items():
        console.print(table(setting, rows, console.width))
    found = results(
        "replay",
        parameters={
            "loads": to_builtins(loads),
            "policies": names,
            "seeds": list(range(seed, seed + count)),
            "events": wanted,
            "presets": {
                name: to_builtins(PRESETS[name])
                for name in dict.fromkeys(one.preset for one in loads)
            },
            "faults": faults,
        },
        notes=notes,
        rounds=[_round(one) for one in played],
        medians=to_builtins(figures),
        checks=checks(loads, figures, loads[0] if faults else None),
    )
    _conclude(found, played, loads, console, json, html)


def _conclude(
    found: Results,
    played: Sequence[Played],
    loads: Sequence[Load],
    console: Console,
    json: Path | None,
    html: Path | None,
) -> None:
    """Print the checks, write the files; exit code 1 when a check or a run failed."""
    print_checks(found, console)
    failures = [one for one in played if one.failure is not None]
    for one in failures:
        console.print(f"[red]{escape(str(one.run))}:[/red] {escape(one.failure or '')}")
    try:
        if json is not None:
            write_json(found, json)
        if html is not None:
            html.write_text(page(found, played, medians(played), loads))
    except OSError as error:
        _fail(error)
    if failures or not found.ok:
        raise typer.Exit(1)


def chosen_policies(text: str | None) -> list[str]:
    """The policies to play; ValueError with what was perhaps meant for one that is not there."""
    known = [*POLICIES, CLAIRVOYANT]
    if text is None:
        return known
    names = list(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))
    if not names:
        raise ValueError(f"--policies names none; there are {', '.join(known)}")
    for name in names:
        _known(name, known, "policy")
    return names


def chosen_loads(
    trace: str | None,
    endpoints: int | None,
    speed: float | None,
    rate: float | None,
    requests: int | None,
    preset: str | None,
    *,
    full: bool,
) -> list[Load]:
    """The loads that the options ask for. ValueError for options that don't go together."""
    if full:
        if trace is None:
            raise ValueError("--full needs TRACE: the file of Mooncake's conversation trace")
        if endpoints is not None or speed is not None or rate is not None:
            raise ValueError("--full sets endpoints, speeds and rates itself: leave those out")
        return full_loads(Path(trace), requests, preset)
    if trace is None and rate is not None:
        trace = SHARED_PREFIX
    if trace == SHARED_PREFIX:
        if speed is not None:
            raise ValueError(f"{SHARED_PREFIX} has no recorded speed: give --rate")
        return [synthetic(endpoints or DEFAULT_ENDPOINTS, rate, requests=requests, preset=preset)]
    if rate is not None:
        raise ValueError(f"--rate is for {SHARED_PREFIX}; give --speed for recorded traffic")
    if trace is None and endpoints is None and speed is None:
        return quick_loads(requests, preset)
    return [
        recorded(
            trace or SAMPLE_NAME,
            endpoints or DEFAULT_ENDPOINTS,
            1.0 if speed is None else speed,
            requests=requests,
            preset=preset,
        )
    ]


def play_all(plan: Sequence[Run], processes: int, console: Console) -> list[Played]:
    """Every run of the plan, in its order, in several processes under one progress bar."""
    columns = (
        TextColumn("replaying"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    done: dict[Run, Played] = {}
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("", total=len(plan))
            for run, played in run_all(plan, play, processes):
                done[run] = played
                progress.update(task, advance=1, description=escape(str(run)))
    except WorkerError as error:
        _fail(error)
    except KeyboardInterrupt:
        console.print("interrupted")
        raise typer.Exit(130) from None
    return [done[run] for run in plan]


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _notes(loads: Sequence[Load], seed: int) -> list[str]:
    """What is to be known of how the loads were read. Raises what `load` does."""
    notes: list[str] = []
    for one in loads:
        loaded = load(one.source, requests=one.requests, rate=one.rate, seed=seed)
        notes += loaded.notes
    return list(dict.fromkeys(notes))


def _round(one: Played) -> dict[str, object]:
    run = one.run
    return {
        "load": run.load.name,
        "policy": run.policy,
        "seed": run.seed,
        "events": run.events,
        "fault": run.fault,
        "failure": one.failure,
        "figures": to_builtins(one.figures),
    }


def _known(name: str, known: Collection[str], what: str) -> None:
    if name not in known:
        close = get_close_matches(name, known, n=2)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"
        raise ValueError(f"no {what} {name!r}: {hint}")


def _console() -> Console:
    """As wide as the tables when nobody's terminal says otherwise."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH)


def _fail(error: Exception) -> NoReturn:
    Console(stderr=True, soft_wrap=True, highlight=False).print(
        f"[red]error:[/red] {escape(str(error))}"
    )
    raise typer.Exit(2)
