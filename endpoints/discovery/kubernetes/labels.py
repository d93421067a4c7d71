"""What an endpoint's labels say, from those of its pod and its node. Pure.

An endpoint gets, under short names, what decisions and people look for:

| label | from |
|---|---|
| ``namespace``, ``pod``, ``node`` | the pod |
| ``rank`` | the port's place among the pool's target ports, when there are several |
| ``role`` | the pod's ``inferway.dev/role`` or ``llm-d.ai/role`` |
| ``engine`` | the pod's ``inferway.dev/engine``, or ``engine-type`` of llm-d or GIE |
| ``hardware`` | ``inferway.dev/hardware``, else the node's GPU product or instance type |
| ``zone``, ``region`` | the node's ``topology.kubernetes.io/*`` |

and, as they are written, the pod's labels ``inferway.dev/*`` and ``llm-d.ai/*``, those that the
configuration names, and the node's topology labels. Annotations of the pod count like labels where
they begin with ``inferway.dev/``: their values may hold what a label's may not.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from endpoints.engines import ENGINES

OWN: Final = "inferway.dev/"
_LLMD: Final = "llm-d.ai/"
_ROLES: Final = (f"{OWN}role", f"{_LLMD}role")
_ENGINES: Final = (
    f"{OWN}engine",
    f"{_LLMD}engine-type",
    "inference.networking.k8s.io/engine-type",
)
_HARDWARE: Final = ("nvidia.com/gpu.product", "node.kubernetes.io/instance-type")
_ZONE: Final = "topology.kubernetes.io/zone"
_REGION: Final = "topology.kubernetes.io/region"
_OUR_ENGINES: Final = MappingProxyType(
    {"trtllm-serve": "trtllm", "triton-tensorrt-llm": "trtllm", "llama.cpp": "llamacpp"}
)
"""How others write engines that are known here by another name."""

NODE_LABELS: Final = (
    "topology.kubernetes.io/*",
    "kubernetes.io/hostname",
    "node.kubernetes.io/instance-type",
    "nvidia.com/gpu.clique",
    "nvidia.com/gpu.product",
    "accelerator.topograph.run/*",
    "fabric.topograph.run/*",
    "network.topology.nvidia.com/*",
    "topology.k8s.aws/*",
    "cloud.google.com/gce-topology-*",
    "oci.oraclecloud.com/host.*",
)
"""Node labels that tell where a node is, by default; a ``*`` at the end stands for any rest."""


def narrowed(labels: Mapping[str, str], patterns: Iterable[str]) -> dict[str, str]:
    """Those labels that a pattern names, in the order of their names."""
    exact = {pattern for pattern in patterns if not pattern.endswith("*")}
    begins = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
    return {
        key: labels[key]
        for key in sorted(labels)
        if key in exact or (begins and key.startswith(begins))
    }


def said_by_pod(
    labels: Mapping[str, str], annotations: Mapping[str, str], more: Iterable[str] = ()
) -> dict[str, str]:
    """What the pod itself says, as it writes it."""
    said = {key: value for key, value in annotations.items() if key.startswith(OWN)}
    said.update(narrowed(labels, (f"{OWN}*", f"{_LLMD}*", *_ENGINES, *more)))
    return said


def engine_of(said: Mapping[str, str]) -> str | None:
    """The engine that a pod says it runs; None when it says none that is known here."""
    told = _first(said, _ENGINES)
    name = _OUR_ENGINES.get(told, told)
    return name if name in ENGINES else None


def endpoint_labels(
    said: Mapping[str, str], node: Mapping[str, str], identity: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """All labels of one endpoint; ``identity`` names pod, node, namespace and rank."""
    named = {
        **identity,
        "role": _first(said, _ROLES),
        "engine": _first(said, _ENGINES),
        "hardware": said.get(f"{OWN}hardware") or _first(node, _HARDWARE),
        "zone": node.get(_ZONE, ""),
        "region": node.get(_REGION, ""),
    }
    everything = {**node, **said, **{key: value for key, value in named.items() if value}}
    return tuple(everything.items())


def _first(labels: Mapping[str, str], keys: Iterable[str]) -> str:
    return next((labels[key] for key in keys if labels.get(key)), "")
