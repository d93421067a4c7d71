"""The command `inferway bench overhead`."""

from dataclasses import replace
from typing import Annotated

import typer
from msgspec import to_builtins

from bench.conclusion import Json, conclude, console_for
from bench.overhead import build, comparison, gateways, scenarios, tables
from bench.overhead.measure import Servers
from bench.overhead.options import Rounds, Scale
from bench.results import results


def overhead(
    *,
    scenario: Annotated[
        list[str] | None,
        typer.Option(help="Only this scenario, or those that begin so; may be repeated."),
    ] = None,
    gateway: Annotated[
        list[str] | None, typer.Option(help="Only this gateway; may be repeated.")
    ] = None,
    rounds: Rounds = 3,
    scale: Scale = 1.0,
    servers: Annotated[int, typer.Option(min=1, help="Model servers behind each gateway.")] = 4,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compiled/--interpreted",
            help="Which build of ours is measured; the compiled one is made when there is none.",
        ),
    ] = True,
    json: Json = None,
) -> None:
    """Compare gateways on the same work: CPU, latency and memory.

    Every round starts each gateway anew before the same servers. Rivals come with
    the optional dependencies "rivals"; one that is not there is named with the reason.
    """
    console = console_for()
    try:
        names = gateways.chosen(gateway or ())
        wanted = scenarios.chosen(scenario or ())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    limit = scenarios.descriptor_limit()
    full = [one.scaled(scale) for one in wanted]
    plan = [scenarios.fit_descriptors(one, limit) for one in full]
    notes = [
        f"{fitted.name}: {fitted.connections:,} of {asked.connections:,} connections, "
        f"as a process may have only {limit:,} descriptors"
        for asked, fitted in zip(full, plan, strict=True)
        if asked != fitted
    ]
    ours = gateways.INFERWAY
    with Servers(servers) as upstreams, console.status("starting") as status:
        if compiled and ours.name in names:
            try:
                ours = replace(ours, environment=build.compiled_environment(status.update))
                if not build.is_guided():
                    notes.append("inferway is compiled once, without a profile: `make compile`")
            except build.NoCompiledBuildError as error:
                compiled = False
                notes.append(f"inferway is not compiled: {error}")
        runs = list(comparison.play(names, plan, rounds, upstreams, status.update, ours))
    notes += [f"{run.gateway}: {run.failure}" for run in runs if run.failure is not None]
    found = comparison.medians(runs)
    for one in plan:
        console.print(tables.table(one, found))
    conclude(
        results(
            "overhead",
            parameters={
                "gateways": {name: gateways.version_of(name) for name in names},
                "scenarios": to_builtins(plan),
                "rounds": rounds,
                "scale": scale,
                "compiled": compiled,
                "servers": servers,
                "descriptors": limit,
            },
            notes=notes,
            rounds=to_builtins(runs),
            medians=to_builtins(found),
            checks=comparison.checks(found, names, plan),
        ),
        json,
        console,
    )
