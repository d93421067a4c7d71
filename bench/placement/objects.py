"""Clusters as the API server would show them: nodes, slices, classes, claims, written briefly."""

from collections.abc import Iterable, Mapping
from typing import Any

from endpoints.allocation.inventory import Inventory

GPU = "gpu.example.com"
NIC = "nic.example.com"
Item = dict[str, Any]
Extra = Any


def node(name: str, labels: Mapping[str, str] | None = None, **spec: Extra) -> Item:
    """A node with its host name as label; ``spec`` as a Node has it."""
    ready = spec.pop("ready", True)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": spec,
        "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


def attributes(**values: Extra) -> Item:
    """Names with two underscores are qualified: ``resource_kubernetes_io__pcieRoot``."""
    made = {}
    for name, value in values.items():
        domain, mark, rest = name.partition("__")
        key = f"{domain.replace('_', '.')}/{rest}" if mark else name
        kind = {bool: "bool", int: "int", str: "string"}.get(type(value))
        made[key] = {kind: value} if kind else value
    return made


def gpu(name: str, memory: str = "80Gi", **extra: Extra) -> Item:
    """A GPU of a slice; ``attributes`` join or replace the usual ones."""
    given = extra.pop("attributes", {})
    return {
        "name": name,
        "attributes": {**attributes(type="gpu", model="H100"), **given},
        "capacity": {"memory": {"value": memory}},
        **extra,
    }


def slice_(
    node_name: str | None,
    devices: Iterable[Item] = (),
    *,
    driver: str = GPU,
    pool: str | None = None,
    name: str | None = None,
    generation: int = 1,
    count: int = 1,
    version: str = "v1",
    **spec: Extra,
) -> Item:
    """A ResourceSlice, of one node unless that is None; ``spec`` as a ResourceSlice has it."""
    pool = pool if pool is not None else str(node_name)
    shown = list(devices)
    if version == "v1beta1":
        shown = [
            {"name": one["name"], "basic": {k: v for k, v in one.items() if k != "name"}}
            for one in shown
        ]
    made = {
        "driver": driver,
        "pool": {"name": pool, "generation": generation, "resourceSliceCount": count},
        **spec,
    }
    if shown:
        made["devices"] = shown
    if node_name is not None:
        made["nodeName"] = node_name
    return {
        "apiVersion": f"resource.k8s.io/{version}",
        "kind": "ResourceSlice",
        "metadata": {"name": name or f"{pool}-{driver}"},
        "spec": made,
    }


def device_class(name: str = GPU, *selectors: str) -> Item:
    """A DeviceClass; without selectors, of the driver of that name."""
    expressions = selectors or (f'device.driver == "{name}"',)
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": name},
        "spec": {"selectors": [{"cel": {"expression": one}} for one in expressions]},
    }


def used(
    device: str, pool: str, *, driver: str = GPU, request: str = "gpu", **extra: Extra
) -> Item:
    """One result of an allocated claim."""
    return {"request": request, "driver": driver, "pool": pool, "device": device, **extra}


def claim(
    name: str, *results: Item, namespace: str = "default", labels: Mapping[str, str] | None = None
) -> Item:
    """A ResourceClaim; allocated when it has results."""
    made: Item = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels or {})},
        "spec": {"devices": {"requests": []}},
    }
    if results:
        made["status"] = {"allocation": {"devices": {"results": list(results)}}}
    return made


def inventory(*items: Item) -> Inventory:
    """An inventory that holds all of them, and the classes of the two drivers."""
    made = Inventory()
    for one in (device_class(GPU), device_class(NIC), *items):
        add(made, one)
    return made


def add(to: Inventory, item: Item) -> None:
    """Upsert an object of any kind."""
    {
        "Node": to.upsert_node,
        "ResourceSlice": to.upsert_slice,
        "DeviceClass": to.upsert_class,
        "ResourceClaim": to.upsert_claim,
        "DeviceTaintRule": to.upsert_taint_rule,
    }[item["kind"]](item)


def gpu_node(name: str, count: int = 8, labels: Mapping[str, str] | None = None) -> list[Item]:
    """A node with so many equal GPUs."""
    return [node(name, labels), slice_(name, [gpu(f"gpu-{at}") for at in range(count)])]
