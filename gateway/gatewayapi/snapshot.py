"""The objects of a cluster that matter to a Gateway, as one moment has them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Object: TypeAlias = dict[str, Any]
"""An object as the API server's JSON says it."""

Key: TypeAlias = tuple[str, str]
"""Namespace (empty for cluster scope) and name."""

Objects: TypeAlias = Mapping[Key, Object]

GATEWAY_GROUP: Final = "gateway.networking.k8s.io"
POOL_GROUP: Final = "inference.networking.k8s.io"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Objects by kind, then by namespace and name. What a cluster lacks is just empty."""

    gateway_classes: Objects = field(default_factory=dict)
    gateways: Objects = field(default_factory=dict)
    routes: Objects = field(default_factory=dict)
    grants: Objects = field(default_factory=dict)
    pools: Objects = field(default_factory=dict)
    services: Objects = field(default_factory=dict)
    slices: Objects = field(default_factory=dict)
    secrets: Objects = field(default_factory=dict)
    namespaces: Objects = field(default_factory=dict)


def spec_of(item: Object) -> Object:
    """Its spec; an empty one where there is none."""
    spec = item.get("spec")
    return spec if isinstance(spec, dict) else {}


def name_of(item: Object) -> str:
    """Its ``namespace/name``."""
    return "/".join(key_of(item))


def key_of(item: Object) -> Key:
    """Its namespace and name."""
    metadata = item["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def age_of(item: Object) -> tuple[str, str]:
    """Sorts the oldest first, then by name."""
    return item["metadata"].get("creationTimestamp") or "", name_of(item)


def generation_of(item: Object) -> int:
    """Which generation of its spec it is."""
    return int(item["metadata"].get("generation") or 0)
