"""The command `inferway sidecar`."""

import os

import typer
import uvloop

from gateway.sidecar.options import OptionError, parse
from gateway.sidecar.server import run
from gateway.tls import TlsError


def sidecar(context: typer.Context) -> None:
    """Stand before a decode engine, as llm-d's routing sidecar does; same flags.

    Requests that name a prefill server in x-prefiller-host-port are computed there first. See
    --help for the flags.
    """
    try:
        options = parse(context.args, os.environ)
        uvloop.run(run(options, lambda served: typer.echo(f"serving {served}")))
    except (OptionError, TlsError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
