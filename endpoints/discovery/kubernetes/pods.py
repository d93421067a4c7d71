"""From a pod to its endpoints: one for each of its pool's ports. Pure.

A pod is wanted as long as it is ready and not being deleted. One that stops to be is not wanted
any more, and whoever keeps the fleet drains it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from endpoints.discovery.kubernetes.labels import NODE_LABELS, OWN, endpoint_labels, engine_of
from endpoints.discovery.kubernetes.labels import said_by_pod as said_by
from endpoints.kubernetes.resources import Object
from routing.endpoint import Endpoint

_ACTIVE_PORTS: Final = "llm-d.ai/active-ports"
_MODELS: Final = f"{OWN}models"
_SERVING: Final = f"{OWN}serving"
_CACHE_TOKENS: Final = f"{OWN}cache-tokens"
_ENDED: Final = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class LabelRules:
    """Which labels endpoints get, besides the usual ones: patterns for pods' and for nodes'."""

    pod: tuple[str, ...] = ()
    node: tuple[str, ...] = NODE_LABELS


def trimmed(pod: Object) -> Object:
    """The pod without what nobody here looks at: a cache of thousands stays small."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "labels", "deletionTimestamp")
    slim = {key: metadata[key] for key in kept if key in metadata}
    annotations = metadata.get("annotations") or {}
    slim["annotations"] = {
        key: value
        for key, value in annotations.items()
        if key.startswith(OWN) or key == _ACTIVE_PORTS
    }
    conditions = [one for one in status.get("conditions") or () if one.get("type") == "Ready"]
    return {
        "metadata": slim,
        "spec": {"nodeName": (pod.get("spec") or {}).get("nodeName") or ""},
        "status": {
            "podIP": status.get("podIP") or "",
            "phase": status.get("phase") or "",
            "conditions": conditions,
        },
    }


def node_of(pod: Object) -> str:
    """The node that the pod runs on; empty when it has none yet."""
    name: str = (pod.get("spec") or {}).get("nodeName") or ""
    return name


def takes_requests(pod: Object) -> bool:
    """Whether it is ready, has an address, is not being deleted and was not taken out.

    Whoever is about to remove a pod takes it out first, by the label ``inferway.dev/serving:
    "false"``: what is in flight there ends, and nothing new comes.
    """
    metadata, status = pod["metadata"], pod.get("status") or {}
    if metadata.get("deletionTimestamp") or not status.get("podIP"):
        return False
    if (metadata.get("labels") or {}).get(_SERVING) == "false":
        return False
    if status.get("phase") in _ENDED:
        return False
    return any(
        one.get("type") == "Ready" and one.get("status") == "True"
        for one in status.get("conditions") or ()
    )


def endpoints_of(
    pod: Object,
    ports: Sequence[int],
    node: Mapping[str, str],
    rules: LabelRules,
) -> tuple[Endpoint, ...]:
    """The pod's endpoints, none when it takes no requests.

    ``node``: what the node's labels say of where it is. An endpoint is called
    ``namespace/pod:port``. A pod that is made anew under its old name has another address, so
    the fleet takes it for another server.
    """
    if not takes_requests(pod):
        return ()
    metadata = pod["metadata"]
    said = said_by(metadata.get("labels") or {}, metadata.get("annotations") or {}, rules.pod)
    host = url_host(pod["status"]["podIP"])
    active = _active_ports(metadata, ports)
    identity = {
        "namespace": metadata.get("namespace") or "",
        "pod": metadata["name"],
        "node": node_of(pod),
    }
    found = []
    for rank, port in enumerate(ports):
        if port not in active:
            continue
        who = {**identity, "rank": str(rank)} if len(ports) > 1 else identity
        found.append(
            Endpoint(
                name=f"{identity['namespace']}/{identity['pod']}:{port}",
                url=f"http://{host}:{port}",
                engine=engine_of(said),
                models=_models(said),
                cache_tokens=_cache_tokens(said),
                labels=endpoint_labels(said, node, who),
            )
        )
    return tuple(found)


def url_host(address: str) -> str:
    """An address as URLs write it: IPv6 in brackets."""
    return f"[{ip_address(address).compressed}]" if ":" in address else address


def _active_ports(metadata: Object, ports: Sequence[int]) -> frozenset[int]:
    """llm-d's annotation that narrows a pod's ports; a pod without it has all of them."""
    said = (metadata.get("annotations") or {}).get(_ACTIVE_PORTS)
    if said is None:
        return frozenset(ports)
    return frozenset(int(part) for part in said.split(",") if part.strip().isdigit())


def _models(said: Mapping[str, str]) -> tuple[str, ...] | None:
    names = (part.strip() for part in said.get(_MODELS, "").split(","))
    return tuple(dict.fromkeys(name for name in names if name)) or None


def _cache_tokens(said: Mapping[str, str]) -> int | None:
    value = said.get(_CACHE_TOKENS, "")
    return int(value) if value.isdigit() and int(value) > 0 else None
