"""The scale subresource of whatever has it, as ``autoscaling/v1`` Scale."""

from typing import Any

from bench.apiserver.failures import bad_request, conflict
from bench.apiserver.kinds import Kind


def scale_of(kind: Kind, item: dict[str, Any]) -> dict[str, Any]:
    """The Scale that the object has."""
    metadata = item["metadata"]
    spec, status = item.get("spec") or {}, item.get("status") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"replicas": _at(item, kind.wanted_at, 1)},
        "status": {
            "replicas": _at(item, kind.there_at, 0),
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
    return _with(item, kind.wanted_at, replicas)


def _at(item: dict[str, Any], path: tuple[str, ...], otherwise: int) -> int:
    found: Any = item
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, int) else otherwise


def _with(item: dict[str, Any], path: tuple[str, ...], value: int) -> dict[str, Any]:
    name, rest = path[0], path[1:]
    return {**item, name: _with(item.get(name) or {}, rest, value) if rest else value}


def _selector(spec: dict[str, Any]) -> str:
    labels = (spec.get("selector") or {}).get("matchLabels") or {}
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
