"""The command `inferway bench extproc`."""

from typing import Annotated

import typer
from msgspec import to_builtins

from bench.conclusion import Json, conclude, console_for
from bench.extproc import comparison, measure, scenarios
from bench.overhead import gateways
from bench.overhead.measure import Servers
from bench.overhead.options import Rounds, Scale
from bench.overhead.scenarios import descriptor_limit, fit_descriptors
from bench.results import results


def extproc(
    *,
    scenario: Annotated[
        list[str] | None, typer.Option(help="Only this scenario; may be repeated.")
    ] = None,
    picker: Annotated[
        list[str] | None, typer.Option(help="Only this picker; may be repeated.")
    ] = None,
    rounds: Rounds = 3,
    scale: Scale = 1.0,
    servers: Annotated[int, typer.Option(min=1, help="Model servers behind Envoy.")] = 4,
    json: Json = None,
) -> None:
    """Measure what being asked by Envoy costs, beside the same brain over grpc.aio.

    Every run starts a picker and an Envoy with one worker anew before the same servers. Envoy and
    grpc.aio come with the optional dependencies "dev".
    """
    console = console_for()
    try:
        wanted = [one.scaled(scale) for one in scenarios.chosen(scenario or ())]
        pickers = measure.chosen(picker or ())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    limit = descriptor_limit()
    plan = [fit_descriptors(one, limit) for one in wanted]
    with Servers(servers) as upstreams, console.status("starting") as status:
        runs = list(comparison.play(plan, pickers, rounds, upstreams, status.update))
    found = comparison.medians(runs)
    for one in plan:
        console.print(comparison.table(one, found))
    conclude(
        results(
            "extproc",
            parameters={
                "scenarios": to_builtins(plan),
                "rounds": rounds,
                "scale": scale,
                "servers": servers,
                "envoy": gateways.version_of("envoy"),
            },
            notes=[f"{one.picker}, {one.mode}: {one.failure}" for one in runs if one.failure],
            rounds=to_builtins(runs),
            medians=to_builtins(found),
            checks=comparison.checks(found, plan) if comparison.OURS in pickers else (),
        ),
        json,
        console,
    )
