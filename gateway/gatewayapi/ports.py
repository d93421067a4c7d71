"""The ports that Gateways listen on: opened, routed anew and closed as plans change."""

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping

from gateway.gatewayapi.certificates import ListenerTls
from gateway.gatewayapi.plan import Place, PortPlan
from gateway.proxy.client import ClientConnection
from gateway.proxy.context import ProxyContext
from gateway.proxy.destinations import Destination, Routing
from gateway.proxy.roster import Roster
from gateway.proxy.routed import RoutedConnection
from gateway.proxy.server import ProxyServer
from gateway.routes.rules import Target
from gateway.routes.table import RouteTable

_log = logging.getLogger("inferway.gatewayapi")


class _Port:
    """One open port."""

    def __init__(self, place: Place, protocol: str, context: ProxyContext, listen: int) -> None:
        self.protocol = protocol
        self.routing = Routing("https" if protocol == "HTTPS" else "http", place.port)
        self.tls = ListenerTls() if protocol == "HTTPS" else None
        self._given: PortPlan | None = None
        self.server = ProxyServer(
            context,
            place.address,
            listen,
            tls=None if self.tls is None else self.tls.context,
            connection=self._connection,
        )

    def _connection(self, context: ProxyContext, roster: Roster) -> ClientConnection:
        return RoutedConnection(context, roster, self.routing)

    def become(self, plan: PortPlan, destinations: Mapping[Target, Destination]) -> None:
        """Serve this from now on. Raises ssl.SSLError for certificates that can't be used."""
        if self.tls is not None:
            self.tls.become(plan.certificates)
        known = self._given is not None and self._given.sites == plan.sites
        table = self.routing.table if known else RouteTable(plan.sites)
        self._given = plan
        self.routing.become(table, destinations)


class ListeningPorts:
    """All of them.

    ``new_context`` makes what a port's connections share. ``listen``: the port to listen on
    instead of a Gateway's (80 wants privileges that we should not have); 0: any free one.
    """

    def __init__(
        self, new_context: Callable[[], ProxyContext], listen: Mapping[int, int], grace: float
    ) -> None:
        self._new_context = new_context
        self._listen = listen
        self._grace = grace
        self._ports: dict[Place, _Port] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.bound: dict[Place, str | None] = {}
        """Where somebody listens (None), or why nobody can."""

    def port_of(self, place: Place) -> int | None:
        """The port that is really listened on; None: nobody listens there."""
        port = self._ports.get(place)
        return None if port is None else port.server.port

    async def become(
        self, plans: Mapping[Place, PortPlan], destinations: Mapping[Target, Destination]
    ) -> None:
        """Serve these; `bound` says how it went."""
        for place in list(self._ports):
            if place not in plans or plans[place].protocol != self._ports[place].protocol:
                self._close(place)
        self.bound = {place: why for place, why in self.bound.items() if place in plans}
        for place, plan in plans.items():
            port = self._ports.get(place)
            if port is None:
                port = _Port(
                    place,
                    plan.protocol,
                    self._new_context(),
                    self._listen.get(place.port, place.port),
                )
            self.bound[place] = await self._serve(place, port, plan, destinations)

    async def _serve(
        self,
        place: Place,
        port: _Port,
        plan: PortPlan,
        destinations: Mapping[Target, Destination],
    ) -> str | None:
        try:
            port.become(plan, destinations)
            if place not in self._ports:
                await port.server.start()
        except ssl.SSLError as error:
            return f"The certificates can't be used: {error.reason or error}."
        except OSError as error:
            return f"Can't listen there: {error.strerror or error}."
        if place not in self._ports:
            self._ports[place] = port
            _log.info(
                "a Gateway listens on %s:%d for port %d",
                place.address,
                port.server.port,
                place.port,
            )
        return None

    def _close(self, place: Place) -> None:
        port = self._ports.pop(place)
        _log.info("no Gateway listens on %s:%d any more", place.address, place.port)
        closing = asyncio.get_running_loop().create_task(_end(port, self._grace))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def drain(self, grace: float) -> None:
        """Stop accepting, let what is in flight finish."""
        await asyncio.gather(*(port.server.drain(grace) for port in self._ports.values()))

    async def stop(self) -> None:
        """Close everything now."""
        for task in list(self._closing):
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await asyncio.gather(*(port.server.stop() for port in self._ports.values()))
        self._ports.clear()


async def _end(port: _Port, grace: float) -> None:
    try:
        await port.server.drain(grace)
    finally:
        await port.server.stop()
