"""The command `inferway bench admission`."""

from typing import Annotated

import typer
from msgspec import to_builtins

from bench.admission.cases import (
    ENDPOINTS,
    REQUESTS,
    SEEDS,
    TOO_MUCH,
    medians,
    plan,
    play,
)
from bench.admission.checks import checks
from bench.conclusion import Json, conclude, console_for
from bench.replay.playing import play_cases
from bench.replay.workloads import SAMPLE_NAME
from bench.results import figures_table, results


def admission(
    trace: Annotated[
        str,
        typer.Argument(help=f"A trace of conversations as `replay` reads them; or {SAMPLE_NAME}."),
    ] = SAMPLE_NAME,
    *,
    requests: Annotated[int, typer.Option(min=100, help="Requests at most.")] = REQUESTS,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds; medians are taken over them.")] = SEEDS,
    overload: Annotated[
        float, typer.Option(min=1.1, help="Speed of the arrivals that is too much.")
    ] = TOO_MUCH,
    processes: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    json: Json = None,
) -> None:
    """Overload a pool, with and without a line before it: who waits, and how long.

    Virtual time; requests of three priorities, then tenants of which one sends most of it all.
    """
    console = console_for()
    played = play_cases(lambda: plan(trace, requests, seeds, overload), play, processes, console)
    found = medians(played)
    for name, speed in dict.fromkeys((one.scene, one.speed) for one in found):
        rows: list[dict[str, float | str | None]] = [
            {"manner": one.manner.value, "who": kind, **to_builtins(group)}
            for one in found
            if (one.scene, one.speed) == (name, speed)
            for kind, group in one.groups.items()
        ]
        console.print(figures_table(f"{name} x{speed:g}", rows))
    conclude(
        results(
            "admission",
            parameters={
                "trace": trace,
                "requests": requests,
                "seeds": seeds,
                "overload": overload,
                "engines": ENDPOINTS,
            },
            rounds=to_builtins(played),
            medians=to_builtins(found),
            checks=list(checks(found, overload)),
        ),
        json,
        console,
    )
