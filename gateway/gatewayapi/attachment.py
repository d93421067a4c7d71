"""Which listeners an HTTPRoute is attached to, by its parentRefs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.gatewayapi.conditions import Condition
from gateway.gatewayapi.listeners import Listener, NamespaceLabels
from gateway.gatewayapi.snapshot import GATEWAY_GROUP, Key, Object, key_of, spec_of
from gateway.routes.hosts import shared

_ACCEPTED = Condition("Accepted", True, "Accepted", "The route is attached.")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A route at one of our Gateways: the listeners that take it, with the shared host names."""

    parent: Object
    """The parentRef, as the route has it."""
    gateway: Key
    listeners: tuple[tuple[Listener, tuple[str | None, ...]], ...]
    accepted: Condition


def attachments(
    route: Object,
    gateways: Mapping[Key, Sequence[Listener]],
    namespaces: NamespaceLabels,
) -> list[Attachment]:
    """One for each parentRef that names one of our Gateways; the others are not our business."""
    namespace, spec = key_of(route)[0], spec_of(route)
    hostnames = [name.lower() for name in spec.get("hostnames") or ()]
    found = []
    for parent in spec.get("parentRefs") or ():
        if parent.get("group", GATEWAY_GROUP) != GATEWAY_GROUP:
            continue
        if parent.get("kind", "Gateway") != "Gateway":
            continue
        gateway = (parent.get("namespace") or namespace, parent["name"])
        if gateway in gateways:
            found.append(
                _attached(parent, gateway, gateways[gateway], namespace, hostnames, namespaces)
            )
    return found


def _attached(
    parent: Object,
    gateway: Key,
    listeners: Sequence[Listener],
    namespace: str,
    hostnames: Sequence[str],
    namespaces: NamespaceLabels,
) -> Attachment:
    def refused(reason: str, message: str) -> Attachment:
        return Attachment(parent, gateway, (), Condition("Accepted", False, reason, message))

    section, port = parent.get("sectionName"), parent.get("port")
    meant = [
        one
        for one in listeners
        if (section is None or one.name == section) and (port is None or one.port == port)
    ]
    if not meant:
        return refused("NoMatchingParent", "The Gateway has no such listener.")
    allowing = [one for one in meant if one.allows(namespace, namespaces)]
    if not allowing:
        return refused(
            "NotAllowedByListeners", f"No listener allows HTTPRoutes of namespace {namespace}."
        )
    taking = [(one, names) for one in allowing if (names := shared(one.hostname, hostnames))]
    if not taking:
        return refused("NoMatchingListenerHostname", "No listener has a host name of the route.")
    return Attachment(parent, gateway, tuple(taking), _ACCEPTED)
