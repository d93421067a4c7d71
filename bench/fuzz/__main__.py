"""``python -m bench.fuzz --minutes 10``: fuzz both sides of the proxy and say what came out."""

import secrets
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.fuzz.campaign import SIDES, Campaign

_ROUND = 500  # trials between two looks at the clock


def fuzz(
    *,
    minutes: Annotated[float, typer.Option(min=0.01, max=600, help="How long.")] = 10.0,
    seed: Annotated[int | None, typer.Option(help="Repeat a run; by default a new one.")] = None,
) -> None:
    """Fuzz the proxy with mutated requests and responses; fail when it does what it must not."""
    console = Console()
    seed = secrets.randbits(32) if seed is None else seed
    console.print(f"seed {seed}")
    end = time.monotonic() + 60 * minutes
    with Campaign() as campaign:
        turn = 0
        while time.monotonic() < end:
            for side in SIDES:
                campaign.round(side, _ROUND, seed + turn)
            turn += 1
        console.print(_table(campaign))
        console.print(f"{campaign.cpu_seconds:.0f} s of CPU time")
        for complaint, (defect, count) in campaign.defects.items():
            console.print(f"\n{count} x {complaint}", style="red", markup=False)
            console.print(f"smallest: {defect}", markup=False)
        if campaign.defects:
            raise typer.Exit(1)


def _table(campaign: Campaign) -> Table:
    table = Table("side", "outcome", "trials")
    for side in SIDES:
        for kind, count in sorted(campaign.outcomes[side.name].items()):
            table.add_row(side.name, kind, f"{count:,}")
        table.add_row(side.name, "all", f"{campaign.outcomes[side.name].total():,}")
    table.add_row("both", "defects", str(sum(count for _, count in campaign.defects.values())))
    return table


if __name__ == "__main__":
    typer.run(fuzz)
