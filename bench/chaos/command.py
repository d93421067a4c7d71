"""The commands `inferway bench chaos` and `inferway bench soak`."""

from typing import Annotated

import typer
import uvloop
from msgspec import to_builtins

from bench.chaos import faults, table
from bench.chaos import soak as enduring
from bench.conclusion import Json, conclude, console_for
from bench.results import results


def chaos(
    *,
    fault: Annotated[
        list[str] | None, typer.Option(help="Only this fault; may be repeated.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long each fault lasts.")] = 8.0,
    warm_up: Annotated[float, typer.Option(min=0.5, help="Seconds of load before it.")] = 3.0,
    servers: Annotated[int, typer.Option(min=2, help="Simulated model servers.")] = 3,
    clients: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 12,
    seed: Annotated[int, typer.Option(help="Seed of requests and faults.")] = 0,
    json: Json = None,
) -> None:
    """Break servers, lines, metrics, events, certificates and configuration under load.

    Each fault meets a fresh gateway before simulated servers, over real sockets. Clients know
    the right answer to each request.
    """
    console = console_for()
    try:
        plan = faults.chosen(fault or ())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    with console.status("starting") as status:
        rows = uvloop.run(
            table.play_all(
                plan,
                servers=servers,
                clients=clients,
                seconds=seconds,
                warm_up=warm_up,
                seed=seed,
                progress=status.update,
            )
        )
    console.print(table.shown(rows))
    figures = to_builtins(rows)
    conclude(
        results(
            "chaos",
            parameters={
                "servers": servers,
                "clients": clients,
                "seconds": seconds,
                "warm_up": warm_up,
                "seed": seed,
            },
            rounds=figures,
            medians=figures,
            checks=table.checks(rows),
        ),
        json,
        console,
    )


def soak(
    *,
    minutes: Annotated[float, typer.Option(min=0.2, help="How long.")] = 60.0,
    rate: Annotated[float, typer.Option(min=1, help="Requests offered a second.")] = 320.0,
    servers: Annotated[int, typer.Option(min=1, help="Simulated model servers.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the prompts.")] = 0,
    json: Json = None,
) -> None:
    """Send unique prompts for long, and see whether memory, descriptors, ledgers or index grow."""
    console = console_for()
    with console.status("starting") as status:
        found = uvloop.run(enduring.measure(minutes, rate, servers, seed, status.update))
    figures = to_builtins(found)
    samples = figures.pop("samples")
    errors = figures.pop("errors")
    console.print(
        f"{found.minutes:.1f} minutes, of which {found.warm_up_minutes:.1f} to warm up: "
        f"{found.answered:,} answered, {found.aborted:,} left by their clients; "
        f"{found.rss_first / 1e6:.1f} MB at first, {found.rss_last / 1e6:.1f} MB at last"
    )
    if found.stood_still_seconds:
        console.print(
            f"the machine stood still for {found.stood_still_seconds:.0f} s, which disturbed "
            f"{found.disturbed} requests"
        )
    conclude(
        results(
            "soak",
            parameters={"rate": rate, "servers": servers, "seed": seed},
            notes=[f"{count} x {kind}" for kind, count in errors.items()],
            rounds=samples,
            medians=[figures],
            checks=enduring.checks(found),
        ),
        json,
        console,
    )
