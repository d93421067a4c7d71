"""The scale subresource: ``spec.replicas`` of whatever has it, as ``autoscaling/v1`` Scale."""

from typing import Any

from bench.apiserver.failures import bad_request, conflict
from bench.apiserver.kinds import Kind


def scale_of(item: dict[str, Any]) -> dict[str, Any]:
    """The Scale that the object has."""
    metadata = item["metadata"]
    spec, status = item.get("spec") or {}, item.get("status") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"replicas": spec.get("replicas", 1)},
        "status": {
            "replicas": status.get("replicas", 0),
            "selector": status.get("hpaPodSelector") or status.get("selector") or _selector(spec),
        },
    }


def scaled(kind: Kind, item: dict[str, Any], scale: dict[str, Any]) -> dict[str, Any]:
    """The object with the replicas that ``scale`` wants; 409 for another version than it has."""
    metadata = scale.get("metadata") or {}
    version = metadata.get("resourceVersion")
    if version and version != item["metadata"]["resourceVersion"]:
        raise conflict(kind.name, item["metadata"]["name"], "the object has been modified")
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or replicas < 0:
        raise bad_request("spec.replicas must be a whole number, at least 0")
    return {**item, "spec": {**(item.get("spec") or {}), "replicas": replicas}}


def _selector(spec: dict[str, Any]) -> str:
    labels = (spec.get("selector") or {}).get("matchLabels") or {}
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
