"""From objects to ports and statuses."""

from typing import Any

import pytest

from gateway.gatewayapi.plan import GatewayRules, Place
from gateway.gatewayapi.snapshot import Object
from gateway.routes.rules import Target, TargetKind
from tests.support.gatewayobjects import (
    NOW,
    conditions,
    gateway,
    gateway_class,
    keyed,
    listener,
    namespace,
    parent,
    planned,
    pool,
    route,
    rule,
    service,
    to_pool,
    to_service,
    written,
)

HTTP = Place("127.0.0.1", 80)
BOUND: dict[Place, str | None] = {HTTP: None}


# --- classes and gateways ------------------------------------------------------------------------


def test_only_our_classes_and_their_gateways_are_looked_at() -> None:
    theirs = gateway_class("theirs", "example.com/other")
    found = planned(
        classes=keyed(gateway_class(), theirs),
        gateways=keyed(gateway(), gateway(name="other", gatewayClassName="theirs")),
    )
    assert {(one.kind, one.key[1]) for one in found.statuses} == {
        ("GatewayClass", "ours"),
        ("Gateway", "gw"),
    }
    assert list(found.ports) == [HTTP]


def test_a_gateway_is_pending_until_somebody_listens() -> None:
    gateways = keyed(gateway())
    pending = written(planned(gateways=gateways), "Gateway", "gw")
    assert conditions(pending)["Programmed"] == ("Unknown", "Pending")
    served = written(planned(gateways=gateways, bound=BOUND), "Gateway", "gw")
    assert conditions(served) == {
        "Accepted": ("True", "Accepted"),
        "Programmed": ("True", "Programmed"),
    }
    assert served["addresses"] == [{"type": "IPAddress", "value": "127.0.0.1"}]
    [one] = served["listeners"]
    assert conditions(one) == {
        "Accepted": ("True", "Accepted"),
        "ResolvedRefs": ("True", "ResolvedRefs"),
        "Conflicted": ("False", "NoConflicts"),
        "Programmed": ("True", "Programmed"),
    }
    assert {one["observedGeneration"] for one in served["conditions"]} == {3}


def test_a_port_that_can_not_be_had_is_said() -> None:
    found = planned(gateways=keyed(gateway()), bound={HTTP: "Can't listen there: in use."})
    status = written(found, "Gateway", "gw")
    assert conditions(status)["Programmed"] == ("False", "AddressNotUsable")
    assert conditions(status["listeners"][0])["Programmed"] == ("False", "Invalid")


def test_addresses_are_ours_or_refused() -> None:
    address = {"type": "IPAddress", "value": "127.0.0.2"}
    found = planned(gateways=keyed(gateway(addresses=[address])))
    assert list(found.ports) == [Place("127.0.0.2", 80)]
    for wrong in ({"value": "10.0.0.1"}, {"type": "Hostname", "value": "a.com"}):
        found = planned(gateways=keyed(gateway(addresses=[wrong])))
        assert not found.ports
        status = conditions(written(found, "Gateway", "gw"))
        assert status["Accepted"] == ("False", "UnsupportedAddress")
        assert status["Programmed"] == ("False", "AddressNotUsable")


def test_another_address_may_be_published() -> None:
    rules = GatewayRules(addresses=("0.0.0.0",), published=("192.0.2.1",))
    found = planned(gateways=keyed(gateway()), rules=rules)
    status = written(found, "Gateway", "gw")
    assert status["addresses"] == [{"type": "IPAddress", "value": "192.0.2.1"}]


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({"spec": {"clusterIP": "10.9.8.7"}}, ["10.9.8.7"]),
        ({"spec": {"clusterIP": "None"}}, []),
        (
            {
                "spec": {"clusterIP": "10.9.8.7"},
                "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb"}]}},
            },
            ["192.0.2.1", "lb"],
        ),
    ],
)
def test_the_addresses_of_our_service_are_shown(facts: Object, shown: list[str]) -> None:
    rules = GatewayRules(addresses=("0.0.0.0",), service=("ours", "gateway"))
    ours = {**service("gateway", namespace="ours"), **facts}
    found = planned(gateways=keyed(gateway()), services=keyed(ours), rules=rules)
    status = written(found, "Gateway", "gw")
    assert [one["value"] for one in status["addresses"]] == shown


def test_of_two_gateways_the_older_ones_listener_stays() -> None:
    newer = {"creationTimestamp": "2026-02-01T00:00:00Z"}
    found = planned(
        gateways=keyed(
            gateway(name="b-older"),
            gateway(
                listener(),
                listener("own", hostname="a.com"),
                listener("tls", protocol="HTTPS", tls={}),
                name="a-newer",
                metadata=newer,
            ),
        )
    )
    by_name = {
        one["name"]: conditions(one) for one in written(found, "Gateway", "a-newer")["listeners"]
    }
    assert by_name["http"]["Conflicted"] == ("True", "HostnameConflict")
    assert by_name["http"]["Accepted"] == ("False", "HostnameConflict")
    assert by_name["own"]["Conflicted"] == ("False", "NoConflicts")
    assert by_name["tls"]["ResolvedRefs"] == ("False", "InvalidCertificateRef")
    older = written(found, "Gateway", "b-older")["listeners"][0]
    assert conditions(older)["Conflicted"] == ("False", "NoConflicts")
    assert {site.hostname for site in found.ports[HTTP].sites} == {None, "a.com"}


@pytest.mark.parametrize(
    ("spec", "kinds", "reason"),
    [
        ([{"kind": "HTTPRoute"}], 1, "ResolvedRefs"),
        ([{"kind": "HTTPRoute"}, {"kind": "GRPCRoute"}], 1, "InvalidRouteKinds"),
        ([{"kind": "TCPRoute"}], 0, "InvalidRouteKinds"),
        ([{"group": "example.com", "kind": "HTTPRoute"}], 0, "InvalidRouteKinds"),
    ],
)
def test_kinds_that_may_attach(spec: list[Object], kinds: int, reason: str) -> None:
    found = planned(gateways=keyed(gateway(listener(allowedRoutes={"kinds": spec}))))
    [one] = written(found, "Gateway", "gw")["listeners"]
    assert len(one["supportedKinds"]) == kinds
    assert conditions(one)["ResolvedRefs"][1] == reason


def test_tls_is_terminated_or_not_at_all() -> None:
    passed = listener(port=443, protocol="HTTPS", tls={"mode": "Passthrough"})
    found = planned(gateways=keyed(gateway(passed)))
    [one] = written(found, "Gateway", "gw")["listeners"]
    assert conditions(one)["Accepted"] == ("False", "UnsupportedValue")


# --- attachment ----------------------------------------------------------------------------------


def attached(found: Any, name: str = "web", where: str = "ns") -> tuple[str, str]:
    return parent(found, "HTTPRoute", name, where)["Accepted"]


def test_a_route_is_attached_and_counted() -> None:
    found = planned(
        gateways=keyed(gateway()),
        routes=keyed(route(rule(to_service("svc")))),
        services=keyed(service()),
    )
    assert attached(found) == ("True", "Accepted")
    assert written(found, "Gateway", "gw")["listeners"][0]["attachedRoutes"] == 1
    [site] = found.ports[HTTP].sites
    [one] = site.attached
    assert one.route.name == "ns/web"
    assert list(found.services) == [Target(TargetKind.SERVICE, "ns", "svc", 80)]


def test_a_route_twice_at_one_listener_counts_once() -> None:
    parents = [{"name": "gw"}, {"name": "gw", "sectionName": "http"}]
    found = planned(gateways=keyed(gateway()), routes=keyed(route(parentRefs=parents)))
    assert written(found, "Gateway", "gw")["listeners"][0]["attachedRoutes"] == 1
    assert len(written(found, "HTTPRoute", "web")["parents"]) == 2


@pytest.mark.parametrize(
    ("ref", "result"),
    [
        ({"sectionName": "http"}, ("True", "Accepted")),
        ({"port": 80}, ("True", "Accepted")),
        ({"sectionName": "http", "port": 81}, ("False", "NoMatchingParent")),
        ({"sectionName": "other"}, ("False", "NoMatchingParent")),
        ({"port": 8080}, ("False", "NoMatchingParent")),
    ],
)
def test_a_parent_is_a_listener_by_name_and_port(ref: Object, result: tuple[str, str]) -> None:
    web = route(parentRefs=[{"name": "gw", **ref}])
    assert attached(planned(gateways=keyed(gateway()), routes=keyed(web))) == result


@pytest.mark.parametrize(
    "ref",
    [
        {"name": "unknown"},
        {"name": "gw", "namespace": "other"},
        {"name": "gw", "kind": "Service", "group": ""},
    ],
)
def test_parents_that_are_not_ours_are_not_our_business(ref: Object) -> None:
    found = planned(gateways=keyed(gateway()), routes=keyed(route(parentRefs=[ref])))
    assert not [one for one in found.statuses if one.kind == "HTTPRoute"]


@pytest.mark.parametrize(
    ("allowed", "result"),
    [
        ({}, ("False", "NotAllowedByListeners")),
        ({"from": "Same"}, ("False", "NotAllowedByListeners")),
        ({"from": "None"}, ("False", "NotAllowedByListeners")),
        ({"from": "All"}, ("True", "Accepted")),
        (
            {"from": "Selector", "selector": {"matchLabels": {"team": "a"}}},
            ("True", "Accepted"),
        ),
        (
            {"from": "Selector", "selector": {"matchLabels": {"team": "b"}}},
            ("False", "NotAllowedByListeners"),
        ),
    ],
)
def test_namespaces_that_may_attach(allowed: Object, result: tuple[str, str]) -> None:
    web = route(namespace="apps", parentRefs=[{"name": "gw", "namespace": "ns"}])
    found = planned(
        gateways=keyed(gateway(listener(allowedRoutes={"namespaces": allowed}))),
        routes=keyed(web),
        namespaces=keyed(namespace("apps", team="a")),
    )
    assert attached(found, where="apps") == result


def test_host_names_are_shared_or_the_route_is_not_attached() -> None:
    gateways = keyed(gateway(listener(hostname="*.example.com")))
    other = route(hostnames=["a.org"])
    found = planned(gateways=gateways, routes=keyed(other))
    assert attached(found) == ("False", "NoMatchingListenerHostname")
    some = route(hostnames=["A.example.com", "a.org"])
    found = planned(gateways=gateways, routes=keyed(some))
    assert found.ports[HTTP].sites[0].attached[0].hostnames == ("a.example.com",)


# --- backends ------------------------------------------------------------------------------------


def resolved(*backends: Object, **objects: Any) -> tuple[str, str]:
    found = planned(gateways=keyed(gateway()), routes=keyed(route(rule(*backends))), **objects)
    assert attached(found) == ("True", "Accepted")
    return parent(found, "HTTPRoute", "web")["ResolvedRefs"]


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        (to_service("svc"), "ResolvedRefs"),
        (to_service("unknown"), "BackendNotFound"),
        (to_service("svc", 81), "BackendNotFound"),
        (to_service("svc", None), "InvalidKind"),
        (to_service("outside"), "InvalidKind"),
        (to_service("h2c"), "ResolvedRefs"),
        (to_service("wss"), "UnsupportedProtocol"),
        (to_service("svc", namespace="other"), "RefNotPermitted"),
        (to_pool("llm"), "ResolvedRefs"),
        (to_pool("llm", port=1234), "ResolvedRefs"),
        (to_pool("unknown"), "BackendNotFound"),
        ({"group": "example.com", "kind": "Thing", "name": "x"}, "InvalidKind"),
        ({"kind": "InferencePool", "name": "llm"}, "InvalidKind"),
    ],
)
def test_backends(backend: Object, reason: str) -> None:
    services = keyed(
        service(),
        service("outside", type="ExternalName"),
        service("h2c", entry={"appProtocol": "kubernetes.io/h2c"}),
        service("wss", entry={"appProtocol": "kubernetes.io/wss"}),
    )
    status = "True" if reason == "ResolvedRefs" else "False"
    assert resolved(backend, services=services, pools=keyed(pool())) == (status, reason)


def test_a_broken_backend_keeps_its_weight() -> None:
    found = planned(
        gateways=keyed(gateway()),
        routes=keyed(route(rule(to_service("svc", weight=3), to_service("gone", weight=1)))),
        services=keyed(service()),
    )
    [one] = found.ports[HTTP].sites[0].attached[0].route.rules
    assert [(backend.target.kind, backend.weight) for backend in one.backends] == [
        (TargetKind.SERVICE, 3),
        (TargetKind.BROKEN, 1),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, "ResolvedRefs"),
        ({"to_name": "svc"}, "ResolvedRefs"),
        ({"to_name": "other"}, "RefNotPermitted"),
        ({"from_namespace": "elsewhere"}, "RefNotPermitted"),
        ({"from_kind": "GRPCRoute"}, "RefNotPermitted"),
        ({"where": "third"}, "RefNotPermitted"),
    ],
)
def test_a_grant_opens_another_namespace(change: dict[str, str], reason: str) -> None:
    spec = {
        "from": [
            {
                "group": "gateway.networking.k8s.io",
                "kind": change.get("from_kind", "HTTPRoute"),
                "namespace": change.get("from_namespace", "ns"),
            }
        ],
        "to": [{"group": "", "kind": "Service", "name": change.get("to_name")}],
    }
    where = change.get("where", "other")
    grant = {"metadata": {"name": "grant", "namespace": where}, "spec": spec}
    status = "True" if reason == "ResolvedRefs" else "False"
    assert resolved(
        to_service("svc", namespace="other"),
        services=keyed(service(namespace="other")),
        grants=keyed(grant),
    ) == (status, reason)


def test_the_addresses_of_a_service_are_those_that_are_ready() -> None:
    def entry(address: str, **state: bool | None) -> Object:
        return {"addresses": [address], "conditions": state}

    one = {
        "metadata": {
            "name": "svc-1",
            "namespace": "ns",
            "labels": {"kubernetes.io/service-name": "svc"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}, {"name": "other", "port": 9}],
        "endpoints": [
            entry("10.0.0.1", ready=True),
            entry("10.0.0.2", ready=False),
            entry("10.0.0.3"),
            entry("10.0.0.4", ready=True, terminating=True),
        ],
    }
    six = {
        **one,
        "metadata": {**one["metadata"], "name": "svc-2"},  # type: ignore[dict-item]
        "addressType": "IPv6",
        "endpoints": [entry("fd00::1", ready=True)],
    }
    found = planned(
        gateways=keyed(gateway()),
        routes=keyed(route(rule(to_service("svc")))),
        services=keyed(service()),
        slices=keyed(one, six),
    )
    [plan] = found.services.values()
    assert plan.addresses == ("10.0.0.1:8080", "10.0.0.3:8080", "[fd00::1]:8080")


# --- pools ---------------------------------------------------------------------------------------

EPP = {"name": "epp", "port": {"number": 9002}}


def pool_conditions(picker: Object | None, **objects: Any) -> dict[str, tuple[str, str]]:
    found = planned(
        gateways=keyed(gateway()),
        routes=keyed(route(rule(to_pool("llm")))),
        pools=keyed(pool(picker=picker)),
        **objects,
    )
    return parent(found, "InferencePool", "llm")


@pytest.mark.parametrize(
    ("picker", "reason"),
    [
        (None, "ResolvedRefs"),
        (EPP, "ResolvedRefs"),
        ({"name": "gone", "port": {"number": 9002}}, "InvalidExtensionRef"),
        ({"name": "epp", "port": {"number": 1}}, "InvalidExtensionRef"),
        ({"name": "epp"}, "InvalidExtensionRef"),
        ({"name": "outside", "port": {"number": 80}}, "InvalidExtensionRef"),
        ({"name": "epp", "kind": "Thing", "group": "example.com"}, "InvalidExtensionRef"),
    ],
)
def test_pickers(picker: Object | None, reason: str) -> None:
    services = keyed(service("epp", 9002), service("outside", type="ExternalName"))
    status = "True" if reason == "ResolvedRefs" else "False"
    found = pool_conditions(picker, services=services)
    assert found == {"Accepted": ("True", "Accepted"), "ResolvedRefs": (status, reason)}


def test_a_picker_that_is_ours_leaves_the_pool_to_us() -> None:
    objects: dict[str, Any] = {
        "gateways": keyed(gateway()),
        "routes": keyed(route(rule(to_pool("llm")))),
        "pools": keyed(pool(picker={**EPP, "failureMode": "FailOpen"})),
        "services": keyed(service("epp", 9002)),
    }
    [theirs] = planned(**objects).pools.values()
    assert theirs is not None
    assert (theirs.fail_open, theirs.name) == (True, "epp.ns")
    rules = GatewayRules(own_pickers=frozenset({"epp"}))
    assert list(planned(rules=rules, **objects).pools.values()) == [None]


def test_a_pools_parents_are_the_gateways_that_route_to_it() -> None:
    theirs = {"controllerName": "example.com/other", "parentRef": {"name": "x"}, "conditions": []}
    llm = pool()
    llm["status"] = {"parents": [theirs]}
    objects: dict[str, Any] = {
        "gateways": keyed(gateway(), gateway(listener(port=81), name="second")),
        "pools": keyed(llm),
    }
    both = route(rule(to_pool("llm")), parentRefs=[{"name": "gw"}, {"name": "second"}])
    found = planned(routes=keyed(both), **objects)
    parents = written(found, "InferencePool", "llm")["parents"]
    assert [one["parentRef"]["name"] for one in parents] == ["x", "gw", "second"]
    assert parents[0] == theirs
    # No route: our entries go, theirs stays.
    llm["status"] = {"parents": parents}
    found = planned(**objects)
    assert written(found, "InferencePool", "llm")["parents"] == [theirs]
    # And an object that nobody of ours ever wrote to is left alone.
    llm["status"] = {"parents": [theirs]}
    assert not [one for one in planned(**objects).statuses if one.kind == "InferencePool"]


def test_a_route_that_is_refused_makes_no_parent() -> None:
    found = planned(
        gateways=keyed(gateway(listener(hostname="a.com"))),
        routes=keyed(route(rule(to_pool("llm")), hostnames=["b.com"])),
        pools=keyed(pool()),
    )
    assert not found.pools
    assert not [one for one in found.statuses if one.kind == "InferencePool"]


@pytest.mark.parametrize(
    ("picker", "accepted"),
    [(None, ("False", "NotSupportedByParent")), (EPP, ("True", "Accepted"))],
)
def test_h2c_endpoints_need_somebody_elses_picker(
    picker: Object | None, accepted: tuple[str, str]
) -> None:
    found = planned(
        gateways=keyed(gateway()),
        routes=keyed(route(rule(to_pool("llm")))),
        pools=keyed(pool(picker=picker, appProtocol="kubernetes.io/h2c")),
        services=keyed(service("epp", 9002)),
    )
    assert parent(found, "InferencePool", "llm")["Accepted"] == accepted
    assert bool(found.pools) is (picker is not None)


def test_a_services_protocol_is_known() -> None:
    services = keyed(service("h2c", entry={"appProtocol": "kubernetes.io/h2c"}), service())
    found = planned(
        gateways=keyed(gateway()),
        routes=keyed(route(rule(to_service("svc"), to_service("h2c")))),
        services=services,
    )
    assert {target.name: one.scheme for target, one in found.services.items()} == {
        "svc": "http",
        "h2c": "h2c",
    }


# --- writing -------------------------------------------------------------------------------------


def test_what_is_said_already_is_not_written_again() -> None:
    objects: dict[str, Any] = {
        "gateways": keyed(gateway()),
        "routes": keyed(route(rule(to_pool("llm")))),
        "pools": keyed(pool()),
    }
    classes = keyed(gateway_class())
    first = planned(classes=classes, bound=BOUND, **objects)
    kinds = {
        "GatewayClass": classes,
        "Gateway": objects["gateways"],
        "HTTPRoute": objects["routes"],
        "InferencePool": objects["pools"],
    }
    assert {one.kind for one in first.statuses} == set(kinds)
    for one in first.statuses:
        assert one.version == "7"
        kinds[one.kind][one.key]["status"] = one.status
    assert planned(classes=classes, bound=BOUND, **objects).statuses == ()


def test_a_transition_is_dated_and_what_stays_keeps_its_date() -> None:
    web = route(rule(to_service("svc")))
    web["status"] = {
        "parents": [
            {
                "parentRef": {"name": "gw"},
                "controllerName": "inferway.dev/gateway-controller",
                "conditions": [
                    {"type": "Accepted", "status": "True", "lastTransitionTime": "long ago"},
                    {"type": "ResolvedRefs", "status": "False", "lastTransitionTime": "long ago"},
                ],
            }
        ]
    }
    found = planned(gateways=keyed(gateway()), routes=keyed(web), services=keyed(service()))
    accepted, refs = written(found, "HTTPRoute", "web")["parents"][0]["conditions"]
    assert accepted["lastTransitionTime"] == "long ago"
    assert refs["lastTransitionTime"] == NOW
    assert refs["observedGeneration"] == 3


def test_a_route_that_leaves_us_loses_our_entry() -> None:
    ours = {"controllerName": "inferway.dev/gateway-controller", "parentRef": {"name": "gw"}}
    theirs = {"controllerName": "example.com/other", "parentRef": {"name": "x"}}
    web = route(parentRefs=[{"name": "x"}])
    web["status"] = {"parents": [ours, theirs]}
    found = planned(gateways=keyed(gateway()), routes=keyed(web))
    assert written(found, "HTTPRoute", "web")["parents"] == [theirs]
