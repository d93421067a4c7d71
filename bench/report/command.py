"""The command `inferway bench report`."""

from pathlib import Path
from typing import Annotated

import typer

from bench.report.figures import ReportError, read
from bench.report.markdown import tables
from bench.report.page import page


def report(
    files: Annotated[
        list[Path], typer.Argument(help="What benches wrote with --json.", dir_okay=False)
    ],
    *,
    output: Annotated[Path, typer.Option(help="The page to write.", dir_okay=False)] = Path(
        "report.html"
    ),
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the tables as Markdown instead.")
    ] = False,
) -> None:
    """Put what benches found on one page of HTML that needs nothing else.

    [bold]Example[/bold]

      inferway bench report chaos.json soak.json lab.json --output report.html
    """
    try:
        found = [read(file) for file in files]
        if markdown:
            typer.echo(tables(found))
            return
        output.write_text(page(found))
    except (ReportError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"wrote {output}")
