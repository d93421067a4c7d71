"""`inferway capacity`: place the replicas of InferenceCapacity objects, until told to stop."""

import asyncio
import signal
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Annotated

import aiohttp
import typer
import uvloop
from rich.console import Console
from rich.markup import escape

from endpoints.allocation.controller.feed import DriverPods
from endpoints.allocation.controller.resources import discover, kinds_of
from endpoints.allocation.controller.service import CapacityController, ControllerSettings
from endpoints.allocation.controller.topologies import topologies
from endpoints.allocation.controller.traffic import EngineTraffic
from endpoints.allocation.controller.watchdog import Patience
from endpoints.allocation.emission.served import NotServedError
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.ledger import Ledger
from endpoints.allocation.levels import PRESETS
from endpoints.allocation.planner import Planner, PlannerSettings
from endpoints.kubernetes.connection import (
    ClusterSettings,
    Connection,
    open_connection,
    own_namespace,
)
from endpoints.kubernetes.errors import KubernetesError
from endpoints.kubernetes.leading.election import ElectionSettings
from endpoints.kubernetes.leading.leader import Leader
from endpoints.kubernetes.leading.reign import Leads, Reigns
from gateway.admin.application import AdminServer
from gateway.logs import set_up_logging
from gateway.placing.pages import Post, make_pages
from gateway.planning.wishes import Cheapest, Costs, Levels, costs_of, scheme_named
from gateway.settings import LogSettings


@dataclass(frozen=True, slots=True)
class Lease:
    """What several of them run for. ``namespace`` None: the one that this runs in."""

    name: str = "inferway-capacity"
    namespace: str | None = None
    pace: ElectionSettings | None = None
    identity: str | None = None


@dataclass(frozen=True, slots=True)
class Wishes:
    """Levels, by name or one by one (NAME=LABEL), and what the planner goes by."""

    topology: str | None = None
    levels: tuple[str, ...] = ()
    planner: PlannerSettings = field(default_factory=PlannerSettings)


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
    topology: Annotated[
        str | None,
        typer.Option(
            help=f"Levels: {', '.join(PRESETS)}, or a Topology of the cluster (KAI, Kueue, Grove) "
            "by name. [the cluster's only Topology, else what the nodes' labels show]"
        ),
    ] = None,
    level: Levels = None,
    cost: Costs = None,
    cheapest: Cheapest = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Have everything checked, and nothing written.")
    ] = False,
    lease: Annotated[
        str, typer.Option(help="The Lease whose holder acts, where several of these run.")
    ] = "inferway-capacity",
    lease_namespace: Annotated[
        str | None, typer.Option(help="Its namespace. [the one that this runs in, or default]")
    ] = None,
    admin_host: Annotated[
        str, typer.Option(help="Where /metrics, /healthz and /readyz are.")
    ] = "127.0.0.1",
    admin_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Their port. [none: no such pages]")
    ] = None,
    log_format: Annotated[str, typer.Option(help="console or json.")] = "console",
) -> None:
    """Place the replicas of InferenceCapacity objects on the cluster's devices.

    Needs the definition in deploy/kubernetes/crds and the rules in
    deploy/kubernetes/capacity/rbac.yaml. Several may run: the holder of the Lease acts, the
    others stand by. With --dry-run it takes no lease.
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
        uvloop.run(
            run(
                ClusterSettings(kubeconfig=kubeconfig, context=context),
                settings,
                lease=None if dry_run else Lease(lease, lease_namespace),
                admin=None if admin_port is None else (admin_host, admin_port),
                wishes=Wishes(
                    topology,
                    tuple(level or ()),
                    PlannerSettings(costs_of(cost or ()), cheapest=cheapest),
                ),
            )
        )
    except (ValueError, OSError, KubernetesError, NotServedError) as error:
        Console(stderr=True, soft_wrap=True).print(f"[red]error:[/red] {escape(str(error))}")
        raise typer.Exit(2) from None


async def run(
    cluster: ClusterSettings,
    settings: ControllerSettings,
    signals: Iterable[int] = (signal.SIGTERM, signal.SIGINT),
    *,
    lease: Lease | None = None,
    admin: tuple[str, int] | None = None,
    wishes: Wishes | None = None,
    began: Callable[[Post], object] = lambda _: None,
) -> None:
    """Until one of the signals comes. Without a ``lease`` it acts as if it were alone.

    ``admin`` is where the pages are. Raises KubernetesError and NotServedError at the start, and
    OSError when the address can't be had.
    """
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in signals:
        loop.add_signal_handler(number, over.set)
    async with AsyncExitStack() as running:
        connection = await open_connection(cluster)
        running.push_async_callback(connection.close)
        kinds_of(await discover(connection))  # what can't work is said now, whoever leads
        planner = await _planner(connection, wishes or Wishes())
        session = await running.enter_async_context(aiohttp.ClientSession())
        post = await _take_post(
            connection, planner, settings, EngineTraffic(session), lease, running
        )
        if admin is not None:
            server = AdminServer(make_pages(post), *admin)
            running.push_async_callback(server.stop)
            await server.start()
        began(post)
        await over.wait()


async def _planner(
    connection: Connection, wishes: Wishes
) -> Callable[[Inventory, Ledger], Planner]:
    """Makes planners that know the levels and costs. WishError: there are no such levels."""
    scheme = scheme_named(await topologies(connection), wishes.topology, wishes.levels)
    return lambda inventory, ledger: Planner(inventory, ledger, wishes.planner, scheme)


async def _take_post(
    connection: Connection,
    planner: Callable[[Inventory, Ledger], Planner],
    settings: ControllerSettings,
    traffic: EngineTraffic,
    lease: Lease | None,
    running: AsyncExitStack,
) -> Post:
    """Begin alone, or run for the lease."""
    if lease is None:
        alone = CapacityController(connection, planner, settings, traffic)
        await alone.start()
        running.push_async_callback(alone.stop)
        return Post(None, None, alone)
    leader = Leader(
        connection,
        lease.namespace or own_namespace(),
        lease.name,
        identity=lease.identity,
        settings=lease.pace,
    )

    def make(leads: Leads) -> CapacityController:
        return CapacityController(
            connection,
            planner,
            settings,
            traffic,
            leads=leads,
            identity=leader.election.identity,
        )

    reigns = Reigns(leader, make)
    await reigns.start()
    running.push_async_callback(reigns.stop)
    return Post(reigns, leader)


def _driver(said: str) -> tuple[str, DriverPods]:
    name, equals, where = said.partition("=")
    namespace, slash, selector = where.partition("/")
    if not (name and equals and namespace and slash and selector):
        raise ValueError(
            f"--driver {said!r}: write DRIVER=NAMESPACE/SELECTOR, such as "
            "gpu.nvidia.com=nvidia-dra-driver-gpu/app.kubernetes.io/name=kubelet-plugin"
        )
    return name, DriverPods(namespace, selector)
