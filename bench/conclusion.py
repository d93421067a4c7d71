"""How every bench ends: its checks printed, its JSON written, its exit code."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.results import Results, print_checks, write_json

_WIDTH = 140
Json = Annotated[
    Path | None, typer.Option("--json", help="Write everything to this file.", dir_okay=False)
]


def console_for() -> Console:
    """As wide as the tables when nobody's terminal says otherwise."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH)


def conclude(found: Results, file: Path | None, console: Console) -> None:
    """Print the checks, write the file; exit code 1 when a check failed."""
    print_checks(found, console)
    if file is not None:
        write_json(found, file)
    if not found.ok:
        raise typer.Exit(1)
