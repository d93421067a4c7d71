"""The Gateways of a cluster beside everything else of one process: started, drained, stopped."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from endpoints.discovery.kubernetes.settings import DiscoverySettings
from endpoints.kubernetes.cache import Cache
from endpoints.kubernetes.connection import Connection
from endpoints.kubernetes.resources import Key
from gateway.brains import Brains
from gateway.gatewayapi.controller import GatewayController
from gateway.gatewayapi.plan import GatewayRules
from gateway.gatewayapi.ports import ListeningPorts
from gateway.picking.pickers import GrpcPickers
from gateway.proxy.context import ProxyContext
from gateway.settings import GatewayApiSettings
from routing.endpoint import Endpoint

_CLOSING_SECONDS = 30.0  # that a port which no Gateway has any more gets to finish


class ClusterBrains:
    """The brains of a cluster's pools, which discovery keeps: each by itself for who is routed."""

    def __init__(self, brains: Brains) -> None:
        self._brains = brains
        self._alone: dict[Key, Brains] = {}

    async def keep(self, wanted: Mapping[Key, Callable[[], Sequence[Endpoint]]]) -> None:
        """Pools come and go without us; only what nobody asks for any more is forgotten."""
        self._alone = {key: alone for key, alone in self._alone.items() if key in wanted}

    def brains(self, pool: Key) -> Brains | None:
        """The pool's; None before discovery has it."""
        name = "/".join(pool)
        known = self._alone.get(pool)
        if known is not None and known.of(name) is self._brains.of(name):
            return known
        alone = self._brains.only(name)
        if alone is None:
            self._alone.pop(pool, None)
        else:
            self._alone[pool] = alone
        return alone


class GatewayApi:
    """One controller with its ports and pickers."""

    def __init__(
        self,
        settings: GatewayApiSettings,
        discovery: DiscoverySettings,
        connection: Connection,
        brains: Brains,
        new_context: Callable[[], ProxyContext],
    ) -> None:
        self.ports = ListeningPorts(
            new_context,
            {one.gateway: one.listen for one in settings.ports},
            grace=_CLOSING_SECONDS,
        )
        self._pickers = GrpcPickers(settings.pickers)
        own = frozenset(() if discovery.picker is None else (discovery.picker,))
        self._controller = GatewayController(
            connection,
            GatewayRules(
                controller=settings.controller,
                addresses=settings.addresses,
                published=settings.published,
                service=_key(settings.service),
                own_pickers=own,
            ),
            self.ports,
            ClusterBrains(brains),
            self._pickers,
            namespaces=discovery.namespaces,
            cache_settings=discovery.cache,
        )

    def caches(self) -> Iterator[Cache]:
        """What is followed in the cluster."""
        yield from self._controller.caches

    def pools_changed(self) -> None:
        """Brains came or left."""
        self._controller.changed()

    async def start(self, seconds: float) -> None:
        """Follow the cluster; returns when it has answered, or after so many seconds."""
        await self._controller.start(seconds)

    async def drain(self, grace: float) -> None:
        """Stop accepting, let what is in flight finish."""
        await self.ports.drain(grace)

    async def stop(self) -> None:
        """Close everything now."""
        await self._controller.stop()
        await self.ports.stop()
        await self._pickers.stop()


def _key(service: str | None) -> Key | None:
    if service is None:
        return None
    namespace, _, name = service.partition("/")
    return namespace, name
