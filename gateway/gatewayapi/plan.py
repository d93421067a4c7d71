"""What a Gateway is told, and what follows: the values between objects, ports and statuses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.gatewayapi.backends import (
    PickerPlan,
)
from gateway.gatewayapi.listeners import (
    Certificate,
)
from gateway.gatewayapi.snapshot import (
    Key,
    Object,
)
from gateway.routes.rules import Site, Target

CONTROLLER: Final = "inferway.dev/gateway-controller"


@dataclass(frozen=True, slots=True)
class GatewayRules:
    """What is not in the cluster: who we are and where we listen.

    ``addresses``: where Gateways may listen; the first one is for those that name none.
    ``published``: what statuses say instead of the first one, which may be a wildcard; without it
    the addresses of ``service``, the Service that clients reach us by.
    ``own_pickers``: names of the Services behind which we pick ourselves.
    """

    controller: str = CONTROLLER
    addresses: tuple[str, ...] = ("127.0.0.1",)
    published: tuple[str, ...] = ()
    service: Key | None = None
    own_pickers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where to listen: an address of ours, and the port that clients know."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class PortPlan:
    """What to serve at a place; ``certificates`` by listener host name, for HTTPS."""

    protocol: str
    sites: tuple[Site, ...]
    certificates: tuple[tuple[str | None, tuple[Certificate, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class StatusWrite:
    """The status that an object should have and has not; ``version`` is what it was read at."""

    kind: str
    key: Key
    version: str
    status: Object


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """A Service's port: the addresses that are ready there, and what is spoken."""

    addresses: tuple[str, ...]
    scheme: str = "http"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that follows from a snapshot."""

    ports: Mapping[Place, PortPlan] = field(default_factory=dict)
    services: Mapping[Target, ServicePlan] = field(default_factory=dict)
    pools: Mapping[Target, PickerPlan | None] = field(default_factory=dict)
    """With somebody else's picker, or None: ours."""
    statuses: tuple[StatusWrite, ...] = ()

    @property
    def services_in_use(self) -> frozenset[Key]:
        """The Services whose addresses matter: backends and pickers."""
        backends = {(target.namespace, target.name) for target in self.services}
        pickers = {one.service for one in self.pools.values() if one is not None}
        return frozenset(backends | pickers)
