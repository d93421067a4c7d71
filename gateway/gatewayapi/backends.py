"""What backendRefs and endpointPickerRefs lead to."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from gateway.gatewayapi.conditions import Condition
from gateway.gatewayapi.references import Grants
from gateway.gatewayapi.snapshot import POOL_GROUP, Key, Object, Objects, Snapshot, spec_of
from gateway.routes.rules import Target, TargetKind

_RESOLVED: Final = Condition("ResolvedRefs", True, "ResolvedRefs", "Every backend is there.")
H2C: Final = "kubernetes.io/h2c"
_SPOKEN: Final = frozenset({None, "", "http", "kubernetes.io/http", H2C})
SERVICE_NAME: Final = "kubernetes.io/service-name"


class BackendResolver:
    """Resolves one route's backendRefs, and says whether all could be."""

    def __init__(self, snapshot: Snapshot, grants: Grants, namespace: str) -> None:
        self._snapshot = snapshot
        self._grants = grants
        self._namespace = namespace
        self._problem: Condition | None = None
        self.targets: set[Target] = set()
        """What was found."""

    @property
    def condition(self) -> Condition:
        """``ResolvedRefs`` of the route: the first problem, if there was any."""
        return self._problem or _RESOLVED

    def resolve(self, ref: Object) -> Target:
        """A backendRef's target; a broken one says why."""
        group, kind = ref.get("group") or "", ref.get("kind") or "Service"
        name, namespace = ref["name"], ref.get("namespace") or self._namespace
        known = (group, kind) in {("", "Service"), (POOL_GROUP, "InferencePool")}
        if not known:
            of = f" of group {group}" if group else ""
            return self._broken("InvalidKind", f"{kind}{of} can't be a backend")
        if not self._grants.allow("HTTPRoute", self._namespace, group, kind, namespace, name):
            return self._broken(
                "RefNotPermitted", f"no ReferenceGrant in {namespace} allows {kind} {name}"
            )
        if kind == "Service":
            return self._service(namespace, name, ref.get("port"))
        return self._pool(namespace, name)

    def _pool(self, namespace: str, name: str) -> Target:
        pool = self._snapshot.pools.get((namespace, name))
        if pool is None:
            return self._broken("BackendNotFound", f"there is no InferencePool {namespace}/{name}")
        target = Target(TargetKind.POOL, namespace, name)  # a port is ignored, as it should be
        self.targets.add(target)
        return target

    def _service(self, namespace: str, name: str, port: int | None) -> Target:
        service = self._snapshot.services.get((namespace, name))
        where = f"Service {namespace}/{name}"
        if service is None:
            return self._broken("BackendNotFound", f"there is no {where}")
        if port is None:
            return self._broken("InvalidKind", f"{where} is referred to without a port")
        if spec_of(service).get("type") == "ExternalName":
            return self._broken("InvalidKind", f"{where} is an ExternalName")
        found = port_of(service, port)
        if found is None:
            return self._broken("BackendNotFound", f"{where} has no port {port}")
        if found.get("appProtocol") not in _SPOKEN:
            return self._broken(
                "UnsupportedProtocol", f"{where} wants {found['appProtocol']} on port {port}"
            )
        target = Target(TargetKind.SERVICE, namespace, name, port)
        self.targets.add(target)
        return target

    def _broken(self, reason: str, message: str) -> Target:
        if self._problem is None:
            self._problem = Condition(
                "ResolvedRefs", False, reason, message[0].upper() + message[1:] + "."
            )
        return Target(TargetKind.BROKEN, self._namespace, message)


def port_of(service: Object, number: int) -> Object | None:
    """The port of a Service with that number."""
    for port in spec_of(service).get("ports") or ():
        if port.get("port") == number and port.get("protocol", "TCP") == "TCP":
            found: Object = port
            return found
    return None


class Slices:
    """Addresses of Services, as EndpointSlices have them."""

    def __init__(self, slices: Objects) -> None:
        self._by_service: dict[Key, list[Object]] = {}
        for (namespace, _), item in sorted(slices.items()):
            service = (item["metadata"].get("labels") or {}).get(SERVICE_NAME)
            if service and item.get("addressType") in {"IPv4", "IPv6"}:
                self._by_service.setdefault((namespace, service), []).append(item)

    def addresses(self, service: Object, number: int) -> tuple[str, ...]:
        """``host:port`` of those that are ready behind a Service's port."""
        port = port_of(service, number)
        if port is None:
            return ()
        metadata = service["metadata"]
        key = (metadata.get("namespace") or "", metadata["name"])
        found: dict[str, None] = {}
        for item in self._by_service.get(key, ()):
            for address in _ready(item):
                for one in item.get("ports") or ():
                    if (one.get("name") or "") == (port.get("name") or "") and one.get("port"):
                        host = f"[{address}]" if ":" in address else address
                        found[f"{host}:{one['port']}"] = None
        return tuple(found)


def _ready(item: Object) -> Iterator[str]:
    for endpoint in item.get("endpoints") or ():
        conditions = endpoint.get("conditions") or {}
        if conditions.get("ready") is not False and not conditions.get("terminating"):
            yield from endpoint.get("addresses") or ()


@dataclass(frozen=True, slots=True)
class PickerPlan:
    """Somebody else's picker of a pool: where it is, and what to do while it does not answer."""

    addresses: tuple[str, ...]
    fail_open: bool
    name: str
    """Of its Service: ``name.namespace``."""
    port: int = 0
    """Of its Service."""

    @property
    def service(self) -> Key:
        """Its Service."""
        name, _, namespace = self.name.rpartition(".")
        return namespace, name


def picker_of(
    pool: Object, snapshot: Snapshot, slices: Slices, ours: Collection[str]
) -> tuple[PickerPlan | None, Condition]:
    """A pool's picker, None when the pool is left to us, and the pool's ``ResolvedRefs``.

    ``ours`` are the names of the Services behind which we pick ourselves.
    """
    namespace = pool["metadata"].get("namespace") or ""
    ref = spec_of(pool).get("endpointPickerRef")
    if ref is None:
        return None, Condition("ResolvedRefs", True, "ResolvedRefs", "This gateway picks.")
    group, kind, name = ref.get("group") or "", ref.get("kind") or "Service", ref.get("name")
    fail_open = ref.get("failureMode") == "FailOpen"
    nowhere = PickerPlan((), fail_open, f"{name}.{namespace}")

    def wrong(message: str) -> tuple[PickerPlan, Condition]:
        return nowhere, Condition("ResolvedRefs", False, "InvalidExtensionRef", message)

    if (group, kind) != ("", "Service"):
        return wrong(f"An endpoint picker is a Service, not {kind} of group {group!r}.")
    if name in ours:
        return None, Condition("ResolvedRefs", True, "ResolvedRefs", "This gateway picks.")
    service = snapshot.services.get((namespace, name))
    if service is None:
        return wrong(f"There is no Service {namespace}/{name}.")
    if spec_of(service).get("type") == "ExternalName":
        return wrong(f"Service {namespace}/{name} is an ExternalName.")
    number = (ref.get("port") or {}).get("number")
    if number is None or port_of(service, number) is None:
        return wrong(f"Service {namespace}/{name} has no port {number}.")
    addresses = slices.addresses(service, number)
    plan = PickerPlan(addresses, fail_open, f"{name}.{namespace}", number)
    return plan, Condition("ResolvedRefs", True, "ResolvedRefs", "The endpoint picker is there.")
