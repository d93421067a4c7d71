"""What an InferencePool object says. Pure.

Source: Gateway API Inference Extension, ``api/v1/inferencepool_types.go``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from endpoints.kubernetes.resources import Object

H2C: Final = "kubernetes.io/h2c"
_MOST_PORTS: Final = 8


class MalformedError(ValueError):
    """An object that its kind's rules forbid; the message names the field."""


@dataclass(frozen=True, slots=True)
class PickerRef:
    """Who picks for the pool: usually a Service, in the pool's namespace."""

    name: str
    kind: str = "Service"
    group: str = ""
    port: int | None = None
    fail_open: bool = False


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """One pool: whose pods, which of their ports.

    ``source`` is ``InferencePool``, or ``Service`` for one that stands for a headless Service.
    ``ports`` is empty when the ports are those of the Service. ``picker``: None when the pool
    names none, so that whoever serves it picks by itself.
    """

    namespace: str
    name: str
    selector: tuple[tuple[str, str], ...] = ()
    ports: tuple[int, ...] = ()
    app_protocol: str = "http"
    picker: PickerRef | None = None
    uid: str = ""
    generation: int = 0
    source: str = "InferencePool"

    @property
    def full_name(self) -> str:
        """``namespace/name``, which no other pool of the cluster has."""
        return f"{self.namespace}/{self.name}"

    @property
    def label_selector(self) -> str:
        """As list and watch queries write it."""
        return ",".join(f"{key}={value}" for key, value in self.selector)


def pool_of(item: Object) -> PoolSpec:
    """The pool that an object is; `MalformedError` for one that the kind's rules forbid.

    The API server checks these rules, too, where the definitions are the current ones.
    """
    metadata, spec = item["metadata"], item.get("spec") or {}
    labels = (spec.get("selector") or {}).get("matchLabels") or {}
    if not labels:
        raise MalformedError("spec.selector.matchLabels is empty; it must name the pool's pods")
    return PoolSpec(
        namespace=metadata.get("namespace") or "default",
        name=metadata["name"],
        selector=tuple(sorted(labels.items())),
        ports=_ports(spec.get("targetPorts") or ()),
        app_protocol=spec.get("appProtocol") or "http",
        picker=_picker(spec.get("endpointPickerRef")),
        uid=metadata.get("uid") or "",
        generation=metadata.get("generation") or 0,
    )


def _ports(given: Any) -> tuple[int, ...]:  # noqa: ANN401 - as JSON has it
    ports = tuple(one.get("number") for one in given)
    if not 1 <= len(ports) <= _MOST_PORTS:
        raise MalformedError(f"spec.targetPorts has {len(ports)} entries; give 1 to {_MOST_PORTS}")
    for port in ports:
        if not isinstance(port, int) or not 1 <= port <= 65_535:
            raise MalformedError(f"spec.targetPorts: {port!r} is no port, 1 to 65535")
    if len(set(ports)) < len(ports):
        raise MalformedError("spec.targetPorts: port number must be unique")
    return ports


def _picker(ref: Mapping[str, Any] | None) -> PickerRef | None:
    if ref is None:
        return None
    kind = ref.get("kind") or "Service"
    port = (ref.get("port") or {}).get("number")
    if kind == "Service" and port is None:
        raise MalformedError("spec.endpointPickerRef.port is required when kind is 'Service'")
    return PickerRef(
        name=ref["name"],
        kind=kind,
        group=ref.get("group") or "",
        port=port,
        fail_open=ref.get("failureMode") == "FailOpen",
    )
