"""Where routed requests go, as long as they may: pools with a brain, and plain addresses."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from gateway.brains import Brains
from gateway.proxy.context import ProxyContext
from gateway.proxy.picking import EndpointPicker
from gateway.routes.edits import FieldEdits
from gateway.routes.rules import Backend, Target
from gateway.routes.table import Matched, RouteTable
from gateway.settings import ProxySettings
from routing.fleet import Endpoint

_MOST_TRIED: Final = 3  # addresses of a Service, when the first ones can't be reached


class Destination:
    """What stands behind a target now."""


class BrainDestination(Destination):
    """A pool whose endpoints our own brain chooses; there is one in ``brains``."""

    def __init__(self, brains: Brains) -> None:
        self.brains = brains


class PlainDestination(Destination):
    """Addresses that take turns; ``picker``: somebody else chooses among them.

    ``fail_open``: when the picker does not answer, they take turns again.
    """

    def __init__(
        self,
        name: str,
        endpoints: Sequence[Endpoint],
        picker: EndpointPicker | None = None,
        *,
        fail_open: bool = False,
    ) -> None:
        self.name = name
        self.picker = picker
        self.fail_open = fail_open
        self._endpoints = list(endpoints)
        self._by_address = {one.url.partition("://")[2]: one for one in endpoints}
        self._turn = 0

    def in_turn(self) -> list[Endpoint]:
        """Whom to try, in order; each request begins with another one. Empty: nobody is there."""
        endpoints = self._endpoints
        if not endpoints:
            return []
        self._turn = at = (self._turn + 1) % len(endpoints)
        wanted = min(len(endpoints), _MOST_TRIED)
        return [endpoints[(at + step) % len(endpoints)] for step in range(wanted)]

    def at(self, addresses: Sequence[str]) -> list[Endpoint]:
        """Those of the addresses (``host:port``) that are ours, in their order."""
        found = (self._by_address.get(address) for address in addresses)
        return [one for one in found if one is not None]


class Routing:
    """What the connections of one port ask: the table, and what its targets are now.

    Both change while connections are open: `become` puts new ones in place, and requests in
    flight stay where they are.
    """

    def __init__(self, scheme: str = "http", port: int = 80) -> None:
        self.scheme = scheme
        self.port = port
        """As clients know it, for redirects."""
        self.table = RouteTable()
        self._destinations: Mapping[Target, Destination] = {}
        self._contexts: dict[tuple[int, int], ProxyContext] = {}

    def become(self, table: RouteTable, destinations: Mapping[Target, Destination]) -> None:
        """Route the next requests by these."""
        self.table = table
        self._destinations = destinations
        self._contexts = {}

    def destination(self, target: Target) -> Destination | None:
        """What a target is; None when it is not known (any more)."""
        return self._destinations.get(target)

    def context(
        self, matched: Matched, backend: Backend, base: ProxyContext, brains: Brains
    ) -> ProxyContext:
        """The port's context with what the rule and the backend say of it, and these brains."""
        key = (id(matched.rule), id(backend))  # both live as long as the table
        known = self._contexts.get(key)
        if known is None:
            known = self._contexts[key] = _ruled(matched, backend, base, brains)
        return known


def _ruled(matched: Matched, backend: Backend, base: ProxyContext, brains: Brains) -> ProxyContext:
    rule, settings = matched.rule, base.settings
    changes: dict[str, float] = {}
    if rule.request_timeout is not None:
        changes["request_timeout"] = rule.request_timeout
    if rule.backend_timeout is not None:
        changes["first_byte_timeout"] = rule.backend_timeout
    edits = FieldEdits([backend.response, rule.response])
    return replace(
        base,
        brains=brains,
        settings=_with(settings, changes) if changes else settings,
        keeps_host=True,
        edits=edits if edits else None,
    )


def _with(settings: ProxySettings, changes: dict[str, float]) -> ProxySettings:
    values = {name: getattr(settings, name) for name in settings.__struct_fields__}
    return ProxySettings(**{**values, **changes})
