"""Which endpoints an InferencePool has: each ready pod with each of its ports."""

from collections.abc import Iterator

from gateway.gatewayapi.references import selects
from gateway.gatewayapi.snapshot import Object, Objects, key_of, spec_of
from routing.fleet import Endpoint


def members(pool: Object, pods: Objects) -> list[Endpoint]:
    """The endpoints of the pods that are ready and stay."""
    namespace, spec = key_of(pool)[0], spec_of(pool)
    selector = spec.get("selector") or {}
    ports = [one["number"] for one in spec.get("targetPorts") or ()]
    if not selector.get("matchLabels") or not ports:
        return []
    return [
        endpoint
        for (where, _), pod in sorted(pods.items())
        if where == namespace and selects(selector, pod["metadata"].get("labels")) and _ready(pod)
        for endpoint in _endpoints(pod, ports)
    ]


def _endpoints(pod: Object, ports: list[int]) -> Iterator[Endpoint]:
    address = (pod.get("status") or {}).get("podIP")
    if address:
        host = f"[{address}]" if ":" in address else address
        for port in ports:
            yield Endpoint(f"{host}:{port}", f"http://{host}:{port}")


def _ready(pod: Object) -> bool:
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
