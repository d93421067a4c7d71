"""The command `inferway plan`."""

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from endpoints.allocation.ledger import Ledger
from endpoints.allocation.levels import PRESETS, Scheme
from endpoints.allocation.manifest import Capacity, ManifestError, capacity_from_yaml
from endpoints.allocation.plan import NoPlan, Plan
from endpoints.allocation.planner import Planner, PlannerSettings
from endpoints.allocation.snapshot import Snapshot, SnapshotError, read_snapshot
from gateway.planning import rendering
from gateway.planning.answer import Answer, as_json
from gateway.planning.wishes import (
    Cheapest,
    Costs,
    Levels,
    WishError,
    costs_of,
    scheme_named,
)

_WIDTH = 140


def plan(
    *,
    file: Annotated[
        Path, typer.Option("--file", "-f", help="An InferenceCapacity, as YAML.", dir_okay=False)
    ],
    snapshot: Annotated[
        Path,
        typer.Option(
            help="The cluster: what `kubectl get resourceslices,deviceclasses,resourceclaims,"
            "nodes,pods -A -o json` printed.",
            dir_okay=False,
        ),
    ],
    replicas: Annotated[
        int, typer.Option(min=1, max=1_000, help="How many replicas to place, one by one.")
    ] = 1,
    topology: Annotated[
        str | None,
        typer.Option(
            help=f"Levels: {', '.join(PRESETS)}, or a topology of the snapshot by name. Without: "
            "whichever the nodes' labels show."
        ),
    ] = None,
    level: Levels = None,
    cost: Costs = None,
    cheapest: Cheapest = False,
    as_json_: Annotated[bool, typer.Option("--json", help="As JSON, with everything.")] = False,
) -> None:
    """Say where a pool's replicas would go, how many there could be, and why not elsewhere.

    Nothing is asked of a cluster and nothing is changed. Exit code 1: not all of them can be had.

    [bold]Examples[/bold]

      inferway plan -f pool.yaml --snapshot cluster.json

      inferway plan -f pool.yaml --snapshot cluster.json --replicas 4 --json
    """
    try:
        capacity, cluster = _read(file, snapshot)
        scheme = scheme_named(cluster.schemes, topology, level or ())
        settings = PlannerSettings(costs_of(cost or ()), cheapest=cheapest)
        answer = answered(capacity, cluster, scheme, settings, replicas)
    except (ManifestError, SnapshotError, WishError, OSError) as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            f"[red]error:[/red] {escape(str(error))}"
        )
        raise typer.Exit(2) from None
    if as_json_:
        sys.stdout.buffer.write(msgspec.json.format(as_json(answer), indent=2) + b"\n")
        sys.stdout.flush()
    else:
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=_WIDTH)
        for part in rendering.answer(answer):
            console.print(part)
    if answer.refused is not None:
        raise typer.Exit(1)


def answered(
    capacity: Capacity,
    cluster: Snapshot,
    scheme: Scheme | None,
    settings: PlannerSettings,
    replicas: int,
) -> Answer:
    """The replicas that could be placed, each beside those before, and how many more there are."""
    planner = Planner(cluster.inventory, Ledger(), settings, scheme)
    gang = capacity.gang
    placed: list[Plan] = []
    refused: NoPlan | None = None
    feasible = planner.feasible(gang, 0.0, cluster.holdings)
    for number in range(replicas):
        found = planner.plan(gang, 0.0, cluster.holdings, explain=True)
        if isinstance(found, NoPlan):
            refused = found
            break
        planner.ledger.reserve(f"{gang.pool}/{number}", found, 0.0)
        placed.append(found)
    advice = planner.advise(gang, 0.0, cluster.holdings) if refused is not None else None
    return Answer(
        capacity,
        planner.topology.scheme,
        tuple(placed),
        refused,
        feasible,
        advice,
        cluster.notes,
        cluster.counts,
    )


def _read(file: Path, snapshot: Path) -> tuple[Capacity, Snapshot]:
    capacity = capacity_from_yaml(file.read_text(), str(file))
    try:
        return capacity, read_snapshot(snapshot.read_bytes())
    except SnapshotError as error:
        raise SnapshotError(f"{snapshot} can't be used: {error}") from None
