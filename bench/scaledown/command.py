"""The command `inferway bench scale-down`."""

from dataclasses import replace
from typing import Annotated

import typer
import uvloop
from msgspec import to_builtins

from bench.conclusion import Json, conclude, console_for
from bench.results import figures_table, results
from bench.scaledown.measure import Arm, Plan, checks, play, share_of_random
from bench.scaledown.traffic import TrafficSettings

_BETWEEN = 120  # requests between removals where caches are compared


def scale_down(
    *,
    removals: Annotated[int, typer.Option(min=1, help="Servers removed under load.")] = 1_000,
    compared: Annotated[
        int, typer.Option(min=1, help="Further removals of each kind whose caches are compared.")
    ] = 60,
    servers: Annotated[int, typer.Option(min=2, help="Simulated servers at a time.")] = 8,
    clients: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the traffic.")] = 0,
    json: Json = None,
) -> None:
    """Remove servers under load: nothing may fail, and little may be computed again.

    Servers are chosen, drained and ended by the loop that scales pools, and replaced by new ones.
    First quickly, to see whether a request fails; then with traffic in between, to compare
    what victims chosen by the worth of their caches cost with what random ones do.
    """
    console = console_for()
    traffic = TrafficSettings(clients=clients, seed=seed)
    quick = Plan("worth", removals, servers=servers, traffic=traffic)
    slow = replace(quick, removals=compared, at_once=1, between=_BETWEEN, mature=True)
    with console.status("starting") as status:
        many = uvloop.run(play(quick, status.update))
        worth = uvloop.run(play(slow, status.update))
        chance = uvloop.run(play(replace(slow, arm="random"), status.update))
    arms: list[Arm] = [many, worth, chance]
    share = share_of_random(worth, chance)
    figures = to_builtins(arms)
    console.print(figures_table("servers removed under load", figures, omit=("first_failures",)))
    if share is not None:
        console.print(f"victims by worth cost {share:.0%} of what random ones do")
    conclude(
        results(
            "scale-down",
            parameters=to_builtins(slow),
            notes=[failure for arm in arms for failure in arm.first_failures],
            rounds=figures,
            medians=figures,
            checks=checks(arms, share, removals),
        ),
        json,
        console,
    )
