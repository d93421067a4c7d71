"""The command `inferway bench prefill-faults`."""

import logging
from typing import Annotated

import typer
import uvloop
from msgspec import to_builtins

from bench.conclusion import Json, conclude, console_for
from bench.fleet.settings import Connector
from bench.prefill import faults
from bench.results import number, results
from gateway.app import StartError


def prefill_faults(
    *,
    requests: Annotated[int, typer.Option(min=100, help="Split requests.")] = 10_000,
    rate: Annotated[
        float, typer.Option(min=0.0, max=0.5, help="Share that fails in each phase.")
    ] = 0.05,
    connector: Annotated[str, typer.Option(help="How KV is handed over.")] = "nixl",
    servers: Annotated[int, typer.Option(min=2, help="Half prefill, half decode.")] = 4,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 32,
    lease: Annotated[float, typer.Option(min=0.5, help="Seconds for which KV is kept.")] = 5.0,
    seed: Annotated[int, typer.Option(help="Seed of requests and faults.")] = 0,
    json: Json = None,
) -> None:
    """Break both legs of split requests in every phase, and see whether anything leaks.

    Prefill fails, aborts, gives wrong, torn or no parameters, or is late; the KV can't be fetched;
    decode fails before and after its first byte; clients leave at any moment.
    """
    try:
        chosen = Connector(connector)
    except ValueError:
        names = ", ".join(one.value for one in Connector)
        raise typer.BadParameter(f"one of {names}", param_hint="--connector") from None
    console = console_for()
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # its clients leave on purpose
    try:
        with console.status("starting") as status:
            found = uvloop.run(
                faults.measure(
                    requests,
                    rate,
                    connector=chosen,
                    servers=servers,
                    concurrency=concurrency,
                    lease=lease,
                    seed=seed,
                    progress=status.update,
                )
            )
    except StartError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    figures = to_builtins(found)
    for name in ("endings", "errors", "prefill_failures", "fallbacks", "wrong"):
        counts = ", ".join(f"{word} {count:,}" for word, count in figures[name].items())
        console.print(f"{name.replace('_', ' '):>17}  {counts or '-'}")
    for name, value in figures.items():
        if not isinstance(value, dict):
            console.print(f"{name.replace('_', ' '):>28}  {number(value)}")
    conclude(
        results(
            "prefill-faults",
            parameters={
                "requests": requests,
                "rate": rate,
                "connector": connector,
                "servers": servers,
                "concurrency": concurrency,
                "lease": lease,
                "seed": seed,
            },
            rounds=[figures],
            medians=[figures],
            checks=faults.checks(found),
        ),
        json,
        console,
    )
