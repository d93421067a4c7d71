"""Objects of a cluster, as short as tests want them."""

from typing import Any

from gateway.gatewayapi.plan import CONTROLLER, GatewayRules, Place, Plan, StatusWrite
from gateway.gatewayapi.planner import plan
from gateway.gatewayapi.snapshot import Key, Object, Objects, Snapshot

NOW = "2026-01-02T03:04:05Z"
RULES = GatewayRules(addresses=("127.0.0.1", "127.0.0.2"))


def item(name: str, spec: Object, namespace: str = "ns", **metadata: Any) -> Object:
    whole = {
        "name": name,
        "namespace": namespace,
        "generation": 3,
        "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        **metadata,
    }
    return {"metadata": whole, "spec": spec}


def keyed(*items: Object) -> Objects:
    return {(one["metadata"].get("namespace") or "", one["metadata"]["name"]): one for one in items}


def gateway_class(name: str = "ours", controller: str = CONTROLLER) -> Object:
    return item(name, {"controllerName": controller}, "")


def gateway(*listeners: Object, name: str = "gw", namespace: str = "ns", **more: Any) -> Object:
    metadata = more.pop("metadata", {})
    spec = {"gatewayClassName": "ours", "listeners": list(listeners) or [listener()], **more}
    return item(name, spec, namespace, **metadata)


def listener(name: str = "http", port: int = 80, protocol: str = "HTTP", **more: Any) -> Object:
    return {"name": name, "port": port, "protocol": protocol, **more}


def route(*rules: Object, name: str = "web", namespace: str = "ns", **more: Any) -> Object:
    metadata = more.pop("metadata", {})
    spec = {"parentRefs": [{"name": "gw"}], "rules": list(rules) or [rule()], **more}
    return item(name, spec, namespace, **metadata)


def rule(*backends: Object, path: str = "/", **more: Any) -> Object:
    match = {"path": {"type": "PathPrefix", "value": path}}
    return {"matches": [match], "backendRefs": list(backends), **more}


def to_service(name: str, port: int | None = 80, **more: Any) -> Object:
    return {"name": name, "port": port, **more}


def to_pool(name: str, **more: Any) -> Object:
    group = "inference.networking.k8s.io"
    return {"group": group, "kind": "InferencePool", "name": name, **more}


def service(name: str = "svc", port: int = 80, namespace: str = "ns", **more: Any) -> Object:
    spec = {"ports": [{"name": "http", "port": port, **more.pop("entry", {})}], **more}
    return item(name, spec, namespace)


def pool(name: str = "llm", picker: Object | None = None, **more: Any) -> Object:
    spec = {
        "selector": {"matchLabels": {"app": name}},
        "targetPorts": [{"number": 8000}],
        **more,
    }
    if picker is not None:
        spec["endpointPickerRef"] = picker
    return item(name, spec)


def namespace(name: str, **labels: str) -> Object:
    return item(name, {}, "", labels=labels)


def planned(
    *,
    bound: dict[Place, str | None] | None = None,
    rules: GatewayRules = RULES,
    classes: Objects | None = None,
    **objects: Objects,
) -> Plan:
    """The plan for these objects and a class of ours."""
    found = keyed(gateway_class()) if classes is None else classes
    snapshot = Snapshot(gateway_classes=found, **objects)
    return plan(snapshot, rules, bound or {}, NOW)


def written(found: Plan, kind: str, name: str, namespace: str = "ns") -> Object:
    """The status that a plan writes to an object."""
    key: Key = (namespace, name)
    [write] = [one for one in found.statuses if (one.kind, one.key) == (kind, key)]
    assert isinstance(write, StatusWrite)
    return write.status


def conditions(status: Object) -> dict[str, tuple[str, str]]:
    """Status and reason by type."""
    return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


def parent(found: Plan, kind: str, name: str, namespace: str = "ns") -> dict[str, tuple[str, str]]:
    """The conditions of an object's first parent."""
    return conditions(written(found, kind, name, namespace)["parents"][0])
