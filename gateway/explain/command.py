"""The command `inferway explain`."""

import asyncio
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from gateway.admin.receipts import OUTCOMES
from gateway.explain import rendering
from gateway.explain.asking import AskError, ask_latest, ask_one, read_latest, read_one

DEFAULT_ADMIN = "http://127.0.0.1:9090"


def explain(
    request_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[REQUEST_ID]",
            help="Of the response's x-request-id header. Without one: the latest decisions.",
        ),
    ] = None,
    *,
    admin: Annotated[str, typer.Option(help="Admin address of the gateway.")] = DEFAULT_ADMIN,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with everything.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=999_999, help="How many decisions.")] = 20,
    endpoint: Annotated[
        str | None, typer.Option(help="Only decisions that were sent to this endpoint.")
    ] = None,
    outcome: Annotated[str | None, typer.Option(help=f"Only {', '.join(OUTCOMES)}.")] = None,
    slow: Annotated[
        float | None, typer.Option(min=0.0, help="Only those that waited so many seconds.")
    ] = None,
    surprising: Annotated[
        bool, typer.Option("--surprising", help="Only those that came far from when expected.")
    ] = False,
) -> None:
    """Say why requests went where they went, and what came of it.

    Asks the admin server of a running gateway. Receipts of the latest requests are kept.

    [bold]Examples[/bold]

      inferway explain

      inferway explain 9f86d081884c7d65

      inferway explain --surprising --limit 5 --json
    """
    query = {"limit": str(limit)}
    if endpoint is not None:
        query["endpoint"] = endpoint
    if outcome is not None:
        query["outcome"] = outcome
    if slow is not None:
        query["slow"] = f"{slow:f}"
    if surprising:
        query["surprising"] = "true"
    try:
        if request_id is not None:
            if query != {"limit": "20"}:
                raise AskError("a request id stands alone: leave the filters out")
            body = asyncio.run(ask_one(admin, request_id))
            shown = None if as_json else rendering.receipt(read_one(body, admin))
        else:
            body = asyncio.run(ask_latest(admin, query))
            shown = None if as_json else rendering.latest(read_latest(body, admin))
    except AskError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            f"[red]error:[/red] {escape(str(error))}"
        )
        raise typer.Exit(2) from None
    if shown is None:
        sys.stdout.buffer.write(body)
        sys.stdout.flush()
    else:
        Console(highlight=False).print(shown)
