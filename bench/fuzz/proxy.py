"""A proxy before one endpoint that is always taken for healthy: no probes, no configuration."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.brains import Brains
from gateway.proxy.context import ProxyContext
from gateway.proxy.pool import Pools, PoolSettings
from gateway.proxy.server import ProxyServer
from gateway.settings import ProxySettings
from gateway.telemetry import Telemetry
from routing.fleet import Endpoint, Fleet, ServedModel
from routing.policies import make_policy
from routing.prefix.index import PrefixIndex
from routing.router import Router, RouterSettings

MODEL = "sim-8b"
_INDEX_BYTES = 1 << 20
_SETTINGS = ProxySettings(max_header_bytes=8192, max_body_bytes=65_536)


@dataclass(frozen=True, slots=True)
class FuzzedProxy:
    """A running proxy and what must be empty when nobody talks to it."""

    server: ProxyServer
    router: Router

    @property
    def in_flight(self) -> int:
        """Reservations in the ledger."""
        return sum(state.ledger.requests for state in self.router.fleet)

    @property
    def connections(self) -> int:
        """Open client connections."""
        return self.server.connections


@asynccontextmanager
async def fuzzed_proxy(url: str) -> AsyncIterator[FuzzedProxy]:
    """A fresh proxy before the endpoint at ``url``, with small limits."""
    fleet = Fleet()
    name = url.removeprefix("http://")
    fleet.upsert(Endpoint(name=name, url=url), 0.0)
    fleet.observe_models(name, [ServedModel(MODEL)], 0.0)
    fleet.observe_health(name, True, 0.0, "fuzzed")
    router = Router(fleet, PrefixIndex(_INDEX_BYTES), make_policy("round_robin"), RouterSettings())
    context = ProxyContext(
        brains=Brains({"default": router}),
        pools=Pools(PoolSettings()),
        telemetry=Telemetry(),
        settings=_SETTINGS,
        log_request=lambda _record: None,
    )
    server = ProxyServer(context, "127.0.0.1", 0)
    await server.start()
    try:
        yield FuzzedProxy(server, router)
    finally:
        await server.stop()
