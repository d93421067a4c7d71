"""`inferway capacity`: place the replicas of InferenceCapacity objects, until told to stop."""

import asyncio
import signal
from collections.abc import Iterable
from typing import Annotated

import aiohttp
import typer
import uvloop
from rich.console import Console
from rich.markup import escape

from endpoints.allocation.controller.feed import DriverPods
from endpoints.allocation.controller.service import CapacityController, ControllerSettings
from endpoints.allocation.controller.traffic import EngineTraffic
from endpoints.allocation.controller.watchdog import Patience
from endpoints.allocation.emission.served import NotServedError
from endpoints.allocation.planner import Planner
from endpoints.kubernetes.connection import ClusterSettings, open_connection
from endpoints.kubernetes.errors import KubernetesError
from gateway.logs import set_up_logging
from gateway.settings import LogSettings


def capacity(
    *,
    kubeconfig: Annotated[
        str | None, typer.Option(help="Which cluster; without it, the one that this runs in.")
    ] = None,
    context: Annotated[str | None, typer.Option(help="A context of that file.")] = None,
    namespace: Annotated[
        str | None, typer.Option(help="Only the capacities of this namespace. [all]")
    ] = None,
    driver: Annotated[
        list[str] | None,
        typer.Option(
            help="Where a DRA driver's pods are, as DRIVER=NAMESPACE/SELECTOR, so that its death "
            "is noticed; may be repeated."
        ),
    ] = None,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="How long a replica may take to end its work.")
    ] = 600.0,
    pending_seconds: Annotated[
        float, typer.Option(min=1, help="How long pods may be Pending before another place.")
    ] = 120.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Have everything checked, and nothing written.")
    ] = False,
    log_format: Annotated[str, typer.Option(help="console or json.")] = "console",
) -> None:
    """Place the replicas of InferenceCapacity objects on the cluster's devices.

    Needs the definition in deploy/kubernetes/crds and the rules in
    deploy/kubernetes/capacity/rbac.yaml. One at a time: it elects no leader.
    """
    try:
        drivers = dict(map(_driver, driver or ()))
        set_up_logging(LogSettings(format="json" if log_format == "json" else "console"))
        settings = ControllerSettings(
            namespace=namespace,
            drain_seconds=drain_seconds,
            patience=Patience(pending=pending_seconds),
            drivers=drivers,
            dry_run=dry_run,
        )
        uvloop.run(run(ClusterSettings(kubeconfig=kubeconfig, context=context), settings))
    except (ValueError, KubernetesError, NotServedError) as error:
        Console(stderr=True, soft_wrap=True).print(f"[red]error:[/red] {escape(str(error))}")
        raise typer.Exit(2) from None


async def run(
    cluster: ClusterSettings,
    settings: ControllerSettings,
    signals: Iterable[int] = (signal.SIGTERM, signal.SIGINT),
) -> None:
    """Until one of the signals comes. Raises KubernetesError, NotServedError at the start."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in signals:
        loop.add_signal_handler(number, over.set)
    connection = await open_connection(cluster)
    try:
        async with aiohttp.ClientSession() as session:
            controller = CapacityController(connection, Planner, settings, EngineTraffic(session))
            await controller.start()
            try:
                await over.wait()
            finally:
                await controller.stop()
    finally:
        await connection.close()


def _driver(said: str) -> tuple[str, DriverPods]:
    name, equals, where = said.partition("=")
    namespace, slash, selector = where.partition("/")
    if not (name and equals and namespace and slash and selector):
        raise ValueError(
            f"--driver {said!r}: write DRIVER=NAMESPACE/SELECTOR, such as "
            "gpu.nvidia.com=nvidia-dra-driver-gpu/app.kubernetes.io/name=kubelet-plugin"
        )
    return name, DriverPods(namespace, selector)
