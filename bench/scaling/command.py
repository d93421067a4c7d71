"""The command `inferway bench scaler`."""

from pathlib import Path
from typing import Annotated

import typer
from msgspec import to_builtins

from bench.conclusion import Json, conclude, console_for
from bench.replay.workloads import SAMPLE_NAME, TraceError
from bench.results import figures_table, results
from bench.scaling.checks import Run, checks, hindsight, means
from bench.scaling.contenders import MARK, chosen
from bench.scaling.figures import curves, figures
from bench.scaling.page import page
from bench.scaling.scenes import MOST, PRESET, STARTUP, SYNTHETIC, label, scene
from bench.scaling.simulation import play
from endpoints.scaling.settings import Objective

_STEPS = 120
"""Points of a picture."""


def scaler(
    *,
    pattern: Annotated[
        list[str] | None,
        typer.Option(
            help="spike, diurnal, sample, or a trace's file; may be repeated. "
            "Default: the first three."
        ),
    ] = None,
    trace: Annotated[
        list[Path] | None,
        typer.Option(help="A recorded trace besides, Azure's or Mooncake's.", exists=True),
    ] = None,
    contender: Annotated[
        list[str] | None, typer.Option(help="Only this policy; may be repeated.")
    ] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="Seeds; means are taken over them.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Every policy, longer patterns, three seeds.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Draw everything to this page.", dir_okay=False)
    ] = None,
    json: Json = None,
) -> None:
    """Compare scaling policies on hours of traffic: attainment, endpoint-hours, failures.

    Endpoints take 60 to 300 s to start. Router, signals and decisions are the real ones.
    """
    console = console_for()
    try:
        policies = chosen(contender, full=full)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    names = [*(pattern or [*SYNTHETIC, SAMPLE_NAME]), *map(str, trace or ())]
    played: list[Run] = []
    objectives: dict[str, Objective] = {}
    with console.status("playing") as status:
        for name in names:
            for seed in seeds or ([1, 2, 3] if full else [1]):
                try:
                    where = scene(name, seed, full=full)
                except TraceError as error:
                    raise typer.BadParameter(str(error)) from None
                goal = objectives[label(name)] = where.settings.objective
                for one in policies:
                    if one.family == MARK and name not in SYNTHETIC:
                        continue  # its paces are those of their requests
                    status.update(f"{label(name)}, seed {seed}: {one.name}")
                    done = play(where, one.make(where.workload), one.interval, seed, duty=one.duty)
                    span = where.workload.arrivals[-1].at
                    played.append(
                        Run(
                            label(name),
                            seed,
                            one.name,
                            one.family,
                            figures(done, goal),
                            curves(done, max(span / _STEPS, where.sample)),
                        )
                    )
    found = means(played)
    for which in dict.fromkeys(one.pattern for one in found):
        group = [to_builtins(one) for one in found if one.pattern == which]
        group.sort(key=lambda one: -one["attainment"])
        for one in group:
            one["attainment"] = f"{one['attainment']:.1%}"
        console.print(figures_table(which, group, omit=("pattern", "family")))
    outcome = results(
        "scaler",
        parameters={
            "patterns": [label(name) for name in names],
            "contenders": {one.name: one.words for one in policies},
            "objectives": to_builtins(objectives),
            "startup_seconds": STARTUP,
            "most_endpoints": MOST,
            "preset": PRESET,
            "full": full,
        },
        notes=[*_notes(names), *hindsight(found)],
        rounds=[to_builtins(run) for run in played],
        medians=[to_builtins(one) for one in found],
        checks=checks(found),
    )
    if html is not None:
        html.write_text(page(outcome, played, found, objectives))
    conclude(outcome, json, console)


def _notes(names: list[str]) -> list[str]:
    notes = [
        "figures are means over the seeds; utilisation 'work' is the friendliest to an HPA",
        "the best HPA is the one whose target serves spikes and the day best",
    ]
    if SAMPLE_NAME in names:
        notes.append(
            "sample: eight minutes of the Mooncake trace, half as fast again, over and over with "
            "new prompts; give the whole traces with --trace"
        )
    return notes
