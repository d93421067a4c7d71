"""The `inferway` command: one thin function a command."""

from collections.abc import AsyncIterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.markup import escape

from gateway.app import Gateway, StartError
from gateway.config import ConfigError, Settings, from_options, load, watch
from gateway.embedded import EmbeddedFleet
from gateway.explain.command import explain
from gateway.logs import set_up_logging
from gateway.placing.command import capacity
from gateway.planning.command import plan
from gateway.sidecar.command import sidecar

app = typer.Typer(
    name="inferway",
    help="A model-aware inference gateway: the OpenAI API in front, the pod with the warm prefix "
    "behind.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
EMBEDDED_ARGUMENTS = ("--servers", "4", "--port", "0")
_errors = Console(stderr=True, soft_wrap=True, highlight=False)


def _fail(error: Exception) -> typer.Exit:
    _errors.print(f"[red]error:[/red] {escape(str(error))}")
    return typer.Exit(2)


@app.command()
def serve(
    urls: Annotated[
        list[str] | None,
        typer.Argument(metavar="[URL]...", help="Model servers, such as http://gpu1:8000."),
    ] = None,
    *,
    config: Annotated[
        Path | None, typer.Option(help="YAML file; see docs/configuration.md.", dir_okay=False)
    ] = None,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Start four simulated model servers and use those.")
    ] = False,
    host: Annotated[
        str | None, typer.Option(help="Address for clients and operators [127.0.0.1].")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port for clients [8080]; 0: any free.")] = None,
    admin_port: Annotated[
        int | None, typer.Option(help="Port for metrics, health and debug views [9090].")
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="How endpoints are chosen [predicted_time].")
    ] = None,
) -> None:
    """Serve the OpenAI API before model servers.

    Endpoints come from the command line, from the file, or from --embedded. Options win over the
    file. The file's endpoints are re-read when it changes.

    [bold]Examples[/bold]

      inferway serve --embedded

      inferway serve http://gpu1:8000 http://gpu2:8000

      inferway serve --config inferway.yaml --policy least_request
    """

    def with_options(settings: Settings) -> Settings:
        return from_options(
            settings, urls=urls or (), host=host, port=port, admin_port=admin_port, policy=policy
        )

    async def changes(path: Path) -> AsyncIterator[Settings | ConfigError]:
        async for said in watch(path):
            yield said if isinstance(said, ConfigError) else with_options(said)

    try:
        settings = with_options(load(config) if config is not None else Settings())
        set_up_logging(settings.log)
        gateway = Gateway(
            settings,
            changes=changes(config) if config is not None else None,
            embedded=EmbeddedFleet(EMBEDDED_ARGUMENTS) if embedded else None,
        )
        uvloop.run(gateway.run())
    except (ConfigError, StartError) as error:
        raise _fail(error) from None


@app.command("check-config")
def check_config(
    file: Annotated[Path, typer.Argument(help="The YAML file to check.", dir_okay=False)],
) -> None:
    """Check a configuration file and say what it means, without starting anything."""
    try:
        settings = load(file)
    except ConfigError as error:
        raise _fail(error) from None
    endpoints = settings.fleet_endpoints()
    Console(highlight=False).print(
        f"{file}: ok, {len(endpoints)} endpoint{'s' * (len(endpoints) != 1)}, "
        f"policy {settings.routing.policy}, clients on {settings.listen.host}:"
        f"{settings.listen.port}, operators on {settings.admin.host}:{settings.admin.port}"
    )


app.command()(explain)
app.command()(capacity)
app.command(
    # Its flags are read as llm-d's are, which ours could not be.
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)(sidecar)
app.command()(plan)


def _add_commands() -> None:
    """Commands of other packages, which join as entry points so that we need not import them."""
    for entry in sorted(entry_points(group="inferway.commands"), key=lambda point: point.name):
        command = entry.load()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        else:
            app.command(entry.name)(command)


def main() -> None:
    """Run the command line."""
    _add_commands()
    app()


if __name__ == "__main__":
    main()
