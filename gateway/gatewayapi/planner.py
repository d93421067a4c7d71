"""From a cluster's objects to what a proxy should do and what each object's status should say.

Pure: the same snapshot, bindings and time give the same plan. Only Gateways of a GatewayClass
with our controller name are looked at, and only our entries of shared statuses are written.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.gatewayapi.attachment import Attachment, attachments
from gateway.gatewayapi.backends import (
    H2C,
    BackendResolver,
    PickerPlan,
    Slices,
    picker_of,
    port_of,
)
from gateway.gatewayapi.conditions import Condition, entry_of, parents_with, written
from gateway.gatewayapi.listeners import (
    Listener,
    NamespaceLabels,
    find_conflicts,
    listeners_of,
    status_of,
)
from gateway.gatewayapi.plan import GatewayRules, Place, Plan, PortPlan, ServicePlan, StatusWrite
from gateway.gatewayapi.references import Grants
from gateway.gatewayapi.rules import UnsupportedError, rule_of
from gateway.gatewayapi.snapshot import (
    GATEWAY_GROUP,
    Key,
    Object,
    Snapshot,
    age_of,
    generation_of,
    key_of,
    name_of,
    spec_of,
)
from gateway.routes.rules import Attached, Route, Site, Target, TargetKind

SUPPORTED_FEATURES: Final = (
    "Gateway",
    "GatewayHTTPListenerIsolation",
    "GatewayPort8080",
    "HTTPRoute",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "InferencePool",
    "ReferenceGrant",
)
_MOST_ATTACHED_PARENTS: Final = 32


def plan(
    snapshot: Snapshot, rules: GatewayRules, bound: Mapping[Place, str | None], now: str
) -> Plan:
    """What to do, and what to say.

    ``bound``: where somebody listens already (None), or why nobody can. ``now``: RFC 3339.
    """
    return _Planner(snapshot, rules, bound, now).plan()


class _Planner:
    """One planning; its steps fill what later ones need."""

    def __init__(
        self,
        snapshot: Snapshot,
        rules: GatewayRules,
        bound: Mapping[Place, str | None],
        now: str,
    ) -> None:
        self._snapshot = snapshot
        self._rules = rules
        self._bound = bound
        self._now = now
        self._grants = Grants(snapshot.grants)
        self._slices = Slices(snapshot.slices)
        self._statuses: list[StatusWrite] = []
        self._gateways: dict[Key, Object] = {}
        self._refused: dict[Key, Condition] = {}
        self._listeners: dict[Key, list[Listener]] = {}
        self._attached: dict[int, list[Attached]] = {}  # by the id of the listener
        self._targets: set[Target] = set()
        self._pools: dict[Target, PickerPlan | None] = {}
        self._pool_parents: dict[Key, dict[Key, None]] = {}

    def plan(self) -> Plan:
        classes = self._our_classes()
        self._find_listeners(classes)
        for route in sorted(self._snapshot.routes.values(), key=age_of):
            self._attach(route)
        self._say_of_gateways()
        self._plan_pools()
        return Plan(
            ports=self._ports(),
            services={
                target: self._service(target)
                for target in self._targets
                if target.kind is TargetKind.SERVICE
            },
            pools=self._pools,
            statuses=tuple(self._statuses),
        )

    # --- GatewayClasses and Gateways ---------------------------------------------------------

    def _our_classes(self) -> set[str]:
        ours = set()
        for item in self._snapshot.gateway_classes.values():
            if spec_of(item).get("controllerName") != self._rules.controller:
                continue
            ours.add(item["metadata"]["name"])
            accepted = Condition("Accepted", True, "Accepted", "Gateways of this class are served.")
            self._say(
                "GatewayClass",
                item,
                {
                    "conditions": self._written([accepted], item),
                    "supportedFeatures": [{"name": name} for name in SUPPORTED_FEATURES],
                },
            )
        return ours

    def _find_listeners(self, classes: set[str]) -> None:
        everything: list[Listener] = []
        for gateway in sorted(self._snapshot.gateways.values(), key=age_of):
            if spec_of(gateway).get("gatewayClassName") not in classes:
                continue
            key = key_of(gateway)
            self._gateways[key] = gateway
            address, problem = self._address(gateway)
            if problem is not None:
                self._refused[key] = problem
            found = listeners_of(gateway, address, self._snapshot, self._grants)
            self._listeners[key] = found
            if problem is None:
                everything += found
        find_conflicts(everything)

    def _address(self, gateway: Object) -> tuple[str, Condition | None]:
        wanted = [one for one in spec_of(gateway).get("addresses") or () if one.get("value")]
        ours = self._rules.addresses
        if not wanted:
            return ours[0], None
        if len(wanted) > 1 or wanted[0].get("type", "IPAddress") != "IPAddress":
            message = "A Gateway has one address here, of type IPAddress."
            return ours[0], Condition("Accepted", False, "UnsupportedAddress", message)
        if wanted[0]["value"] not in ours:
            message = f"{wanted[0]['value']} is not among the addresses here: {', '.join(ours)}."
            return ours[0], Condition("Accepted", False, "UnsupportedAddress", message)
        return str(wanted[0]["value"]), None

    def _say_of_gateways(self) -> None:
        for key, gateway in self._gateways.items():
            listeners = self._listeners[key]
            before = (gateway.get("status") or {}).get("listeners") or ()
            known = {one.get("name"): one.get("conditions") or () for one in before}
            generation = generation_of(gateway)
            said = [
                status_of(
                    one,
                    written(
                        self._listener_conditions(one, key),
                        known.get(one.name, ()),
                        generation,
                        self._now,
                    ),
                )
                for one in listeners
            ]
            self._say(
                "Gateway",
                gateway,
                {
                    "addresses": self._shown(self._address(gateway)[0]),
                    "conditions": self._written(self._gateway_conditions(key), gateway),
                    "listeners": said,
                },
            )

    def _shown(self, address: str) -> list[Object]:
        """The addresses that clients should use for those that listen on ours."""
        rules = self._rules
        if address == rules.addresses[0]:
            if rules.published:
                return [_address_of(one) for one in rules.published]
            if rules.service is not None:
                service = self._snapshot.services.get(rules.service)
                return [] if service is None else reached_by(service)
        return [_address_of(address)]

    def _listener_conditions(self, listener: Listener, key: Key) -> list[Condition]:
        if key in self._refused:
            return listener.conditions(
                Condition("Programmed", False, "Invalid", "The Gateway is not accepted.")
            )
        return listener.conditions(self._programmed(listener))

    def _programmed(self, listener: Listener) -> Condition | None:
        place = Place(listener.address, listener.port)
        if place not in self._bound:
            return None
        problem = self._bound[place]
        if problem is not None:
            return Condition("Programmed", False, "Invalid", problem)
        return Condition("Programmed", True, "Programmed", "Requests are served.")

    def _gateway_conditions(self, key: Key) -> list[Condition]:
        refused = self._refused.get(key)
        if refused is not None:
            return [
                refused,
                Condition("Programmed", False, "AddressNotUsable", refused.message),
            ]
        listeners = self._listeners[key]
        valid = [one for one in listeners if one.valid]
        wrong = [one.name for one in listeners if not one.valid]
        if not valid:
            accepted = Condition("Accepted", False, "ListenersNotValid", "No listener is valid.")
        elif wrong:
            message = f"Not valid: {', '.join(wrong)}."
            accepted = Condition("Accepted", True, "ListenersNotValid", message)
        else:
            accepted = Condition("Accepted", True, "Accepted", "Every listener is valid.")
        states = [self._programmed(one) for one in valid]
        if any(one is not None and one.holds for one in states):
            programmed = Condition("Programmed", True, "Programmed", "Requests are served.")
        elif not valid:
            programmed = Condition("Programmed", False, "Invalid", "No listener is valid.")
        elif any(one is None for one in states):
            programmed = Condition("Programmed", None, "Pending", "Not listening yet.")
        else:
            problem = next(one.message for one in states if one is not None)
            programmed = Condition("Programmed", False, "AddressNotUsable", problem)
        return [accepted, programmed]

    # --- HTTPRoutes --------------------------------------------------------------------------

    def _attach(self, item: Object) -> None:
        namespaces = NamespaceLabels(self._snapshot)
        found = attachments(item, self._listeners, namespaces)
        before = (item.get("status") or {}).get("parents") or ()
        if not found:
            if any(one.get("controllerName") == self._rules.controller for one in before):
                self._say_parents("HTTPRoute", item, [], before)
            return
        resolver = BackendResolver(self._snapshot, self._grants, key_of(item)[0])
        route, unsupported = self._route(item, resolver)
        entries = []
        for attachment in found[:_MOST_ATTACHED_PARENTS]:
            accepted = unsupported or attachment.accepted
            if accepted.holds:
                self._take(attachment, route, resolver)
            old = entry_of(before, self._rules.controller, attachment.parent)
            conditions = written(
                [accepted, resolver.condition],
                old.get("conditions") or (),
                generation_of(item),
                self._now,
            )
            entries.append(
                {
                    "parentRef": attachment.parent,
                    "controllerName": self._rules.controller,
                    "conditions": conditions,
                }
            )
        self._say_parents("HTTPRoute", item, entries, before)

    def _route(self, item: Object, resolver: BackendResolver) -> tuple[Route, Condition | None]:
        rules = []
        try:
            for number, spec in enumerate(spec_of(item).get("rules") or ()):
                try:
                    rules.append(rule_of(spec, resolver.resolve))
                except (KeyError, TypeError) as error:
                    raise UnsupportedError(f"rule {number} lacks {error}") from error
        except UnsupportedError as error:
            return Route(name_of(item)), Condition(
                "Accepted", False, "UnsupportedValue", f"{error}."
            )
        created = item["metadata"].get("creationTimestamp") or ""
        return Route(name_of(item), created, tuple(rules)), None

    def _take(self, attachment: Attachment, route: Route, resolver: BackendResolver) -> None:
        self._targets |= resolver.targets
        for listener, hostnames in attachment.listeners:
            listener.attached.add(route.name)
            self._attached.setdefault(id(listener), []).append(Attached(route, hostnames))
        for target in resolver.targets:
            if target.kind is TargetKind.POOL:
                parents = self._pool_parents.setdefault((target.namespace, target.name), {})
                parents[attachment.gateway] = None

    # --- InferencePools ----------------------------------------------------------------------

    def _plan_pools(self) -> None:
        for key, pool in sorted(self._snapshot.pools.items()):
            parents = self._pool_parents.get(key, {})
            before = (pool.get("status") or {}).get("parents") or ()
            ours = any(one.get("controllerName") == self._rules.controller for one in before)
            if not parents:
                if ours:
                    self._say_parents("InferencePool", pool, [], before)
                continue
            picker, resolved = picker_of(
                pool, self._snapshot, self._slices, self._rules.own_pickers
            )
            accepted = _pool_accepted(pool, picker)
            if accepted.holds:
                self._pools[Target(TargetKind.POOL, *key)] = picker
            entries = []
            for namespace, name in parents:
                parent = {
                    "group": GATEWAY_GROUP,
                    "kind": "Gateway",
                    "namespace": namespace,
                    "name": name,
                }
                old = entry_of(before, self._rules.controller, parent)
                conditions = written(
                    [accepted, resolved],
                    old.get("conditions") or (),
                    generation_of(pool),
                    self._now,
                )
                entries.append(
                    {
                        "parentRef": parent,
                        "controllerName": self._rules.controller,
                        "conditions": conditions,
                    }
                )
            self._say_parents("InferencePool", pool, entries, before)

    def _service(self, target: Target) -> ServicePlan:
        service = self._snapshot.services[target.namespace, target.name]
        port = port_of(service, target.port) or {}
        scheme = "h2c" if port.get("appProtocol") == H2C else "http"
        return ServicePlan(self._slices.addresses(service, target.port), scheme)

    # --- what comes of it --------------------------------------------------------------------

    def _ports(self) -> dict[Place, PortPlan]:
        at: dict[Place, list[Listener]] = {}
        for key, listeners in self._listeners.items():
            for one in listeners:
                if key not in self._refused and one.valid:
                    at.setdefault(Place(one.address, one.port), []).append(one)
        return {
            place: PortPlan(
                protocol=listeners[0].protocol,
                sites=tuple(
                    Site(one.hostname, tuple(self._attached.get(id(one), ()))) for one in listeners
                ),
                certificates=tuple(
                    (one.hostname, one.certificates) for one in listeners if one.certificates
                ),
            )
            for place, listeners in sorted(at.items())
        }

    def _written(self, conditions: Iterable[Condition], item: Object) -> list[Object]:
        before = (item.get("status") or {}).get("conditions") or ()
        return written(conditions, before, generation_of(item), self._now)

    def _say_parents(
        self, kind: str, item: Object, entries: list[Object], before: Iterable[Object]
    ) -> None:
        parents = parents_with(entries, tuple(before), self._rules.controller)
        self._say(kind, item, {"parents": parents})

    def _say(self, kind: str, item: Object, status: Object) -> None:
        now = item.get("status") or {}
        if any(now.get(key) != value for key, value in status.items()):
            version = str(item["metadata"].get("resourceVersion") or "")
            self._statuses.append(StatusWrite(kind, key_of(item), version, status))


def _pool_accepted(pool: Object, picker: PickerPlan | None) -> Condition:
    if spec_of(pool).get("appProtocol") == H2C and picker is None:
        message = "Endpoints that this gateway picks itself are probed in HTTP/1.1, not in h2c."
        return Condition("Accepted", False, "NotSupportedByParent", message)
    return Condition("Accepted", True, "Accepted", "The pool is served.")


def reached_by(service: Object) -> list[Object]:
    """The addresses of a Service: its load balancer's, else its own."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    found = [
        _address_of(one["ip"]) if one.get("ip") else {"type": "Hostname", "value": one["hostname"]}
        for one in ingress
        if one.get("ip") or one.get("hostname")
    ]
    own = spec_of(service).get("clusterIP")
    if not found and own and own != "None":
        found = [_address_of(own)]
    return found


def _address_of(address: str) -> Object:
    return {"type": "IPAddress", "value": address}
