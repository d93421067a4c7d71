"""`inferway bench cluster`, and what `inferway demo --cluster` shows."""

from collections.abc import Sequence
from typing import Annotated, Final

import typer
from msgspec import to_builtins
from rich.console import Console
from rich.table import Table

from bench.cluster.agreement import Agreement, agreement
from bench.cluster.contest import (
    CLOSED,
    IGNORED,
    MODERATE,
    OVERSUBSCRIBING,
    Figures,
    checks,
    contest,
    together,
)
from bench.cluster.scenarios import scenario
from bench.conclusion import Json, conclude, console_for
from bench.results import Check, at_least, at_most, results

_DEMO_HOURS: Final = 0.5
_AGREEING: Final = 0.99


def cluster(
    *,
    hours: Annotated[float, typer.Option(min=0.1, help="Hours of traffic, in virtual time.")] = 1.0,
    seeds: Annotated[int, typer.Option(min=1, help="Clusters and traffics, of each load.")] = 4,
    load: Annotated[
        list[float] | None,
        typer.Option(
            min=0.05,
            help="So many times the usual traffic; may be repeated. "
            f"[{MODERATE:g} and {OVERSUBSCRIBING:g}]",
        ),
    ] = None,
    scenarios: Annotated[
        int, typer.Option(min=1, help="Random clusters whose plans a scheduler carries out.")
    ] = 200,
    trace: Annotated[str, typer.Option(help="Whose requests come; a trace's file.")] = "sample",
    json: Json = None,
) -> None:
    """Close the loop from scaler to devices: is what is planned scheduled, and does it pay?

    First, plans of random clusters are scheduled by a scheduler that knows nothing of them. Then
    two pools compete for a fragmented cluster, once bounded by the allocator, once not.
    """
    console = console_for()
    loads = load or [MODERATE, OVERSUBSCRIBING]
    with console.status("planning and scheduling") as status:
        agreements = [agreement(scenario(seed)) for seed in range(scenarios)]
        played = [
            contest(way, hours, seed, trace, status.update, load=some)
            for some in loads
            for seed in range(seeds)
            for way in (CLOSED, IGNORED)
        ]
    sums = [
        together([one for one in played if (one.way, one.load) == (way, some)])
        for some in loads
        for way in (CLOSED, IGNORED)
    ]
    console.print(_sheet(sums))
    conclude(
        results(
            "cluster",
            parameters={
                "hours": hours,
                "seeds": seeds,
                "loads": loads,
                "scenarios": scenarios,
                "trace": trace,
            },
            notes=["the scheduler, its machines and the engines are simulated, in virtual time"],
            rounds=[*to_builtins(played), *to_builtins(agreements)],
            medians=to_builtins(sums),
            checks=[
                *_agreement_checks(agreements),
                *(one for at in range(0, len(sums), 2) for one in checks(*sums[at : at + 2])),
            ],
        ),
        json,
        console,
    )


def show(console: Console, trace: str, hours: float = _DEMO_HOURS, seed: int = 0) -> None:
    """The demo: one play each way, and a table."""
    console.print(
        f"two pools on 12 nodes of 8 GPUs, a third of them held by others: {hours:g} hours of "
        "traffic in virtual time, once scaled with an eye on devices, once without"
    )
    with console.status("playing") as status:
        played = [contest(way, hours, seed, trace, status.update) for way in (CLOSED, IGNORED)]
    console.print(_sheet(played))


def _agreement_checks(found: list[Agreement]) -> list[Check]:
    pods = sum(one.pods for one in found)
    placed = pods - sum(one.pending + one.elsewhere for one in found)
    return [
        at_least("pods where they were planned", placed / pods, _AGREEING, "share"),
        at_most("planned pods that no node takes", sum(one.pending for one in found), 0, "pods"),
    ]


_WORDS: Final = (
    ("requests", "requests", ",.0f"),
    ("attainment", "in time (SLO attainment)", ".3f"),
    ("attainment_big", "  of the big model", ".3f"),
    ("attainment_small", "  of the small model", ".3f"),
    ("failed", "requests failed", ",.0f"),
    ("device_hours", "device-hours", ",.1f"),
    ("partial_hours", "  held by replicas that were not whole", ",.1f"),
    ("pods", "pods created", ",.0f"),
    ("long_pending", "  Pending for more than 60 s", ",.0f"),
    ("longest_pending", "  longest Pending, s", ",.0f"),
)


def _sheet(found: Sequence[Figures]) -> Table:
    """The ways side by side."""
    table = Table(title="two pools, one cluster")
    table.add_column("")
    for one in found:
        table.add_column(f"{one.way}\nload {one.load:g}", justify="right")
    for name, words, form in _WORDS:
        table.add_row(words, *(format(getattr(one, name), form) for one in found))
    return table
