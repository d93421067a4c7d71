"""A proxy's port that asks a route table, over scripted endpoints."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from gateway.brains import Brains
from gateway.proxy.context import ProxyContext
from gateway.proxy.destinations import BrainDestination, Destination, PlainDestination, Routing
from gateway.proxy.pool import Pools, PoolSettings
from gateway.proxy.roster import Roster
from gateway.proxy.routed import RoutedConnection
from gateway.proxy.server import ProxyServer
from gateway.record import RequestRecord
from gateway.routes.rules import Attached, Backend, Route, Rule, Site, Target, TargetKind
from gateway.routes.table import RouteTable
from gateway.settings import ProxySettings
from gateway.telemetry import Telemetry
from routing.fleet import Endpoint, Fleet, ServedModel
from routing.policies import make_policy
from routing.prefix.index import PrefixIndex
from routing.router import Router, RouterSettings

MODEL = "sim-8b"


def service(name: str, port: int = 80) -> Target:
    return Target(TargetKind.SERVICE, "ns", name, port)


def pool(name: str) -> Target:
    return Target(TargetKind.POOL, "ns", name)


def to(target: Target, weight: int = 1) -> Backend:
    return Backend(target, weight)


def plain(*urls: str) -> PlainDestination:
    """Addresses that take turns."""
    return PlainDestination(
        "ns/plain", [Endpoint(url.removeprefix("http://"), url) for url in urls]
    )


def brain(*urls: str) -> BrainDestination:
    """A pool of healthy endpoints that serve `MODEL`."""
    fleet = Fleet()
    for url in urls:
        name = url.removeprefix("http://")
        fleet.upsert(Endpoint(name=name, url=url), 0.0)
        fleet.observe_models(name, [ServedModel(MODEL)], 0.0)
        fleet.observe_health(name, True, 0.0, "test")
    router = Router(fleet, PrefixIndex(16 << 20), make_policy("round_robin"), RouterSettings())
    return BrainDestination(Brains({"pool": router}))


@dataclass
class RoutedPort:
    """A running port and its insides."""

    server: ProxyServer
    context: ProxyContext
    routing: Routing
    records: list[RequestRecord] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.server.port

    def become(self, rules: Sequence[Rule], destinations: Mapping[Target, Destination]) -> None:
        """Route by these rules from now on."""
        route = Route("ns/route", rules=tuple(rules))
        self.routing.become(RouteTable([Site(None, (Attached(route),))]), destinations)


@asynccontextmanager
async def routed_port(
    rules: Sequence[Rule], destinations: Mapping[Target, Destination], **settings: float
) -> AsyncIterator[RoutedPort]:
    """A port with one listener for any host, and one route."""
    records: list[RequestRecord] = []
    context = ProxyContext(
        brains=Brains(),
        pools=Pools(PoolSettings(connect_timeout=1.0)),
        telemetry=Telemetry(),
        settings=msgspec.structs.replace(ProxySettings(), **settings),
        log_request=records.append,
    )
    routing = Routing()

    def connection(context: ProxyContext, roster: Roster) -> RoutedConnection:
        return RoutedConnection(context, roster, routing)

    server = ProxyServer(context, "127.0.0.1", 0, connection=connection)
    await server.start()
    under_test = RoutedPort(server, context, routing, records)
    under_test.become(rules, destinations)
    try:
        yield under_test
    finally:
        await server.stop()
        assert context.telemetry.in_flight == 0
