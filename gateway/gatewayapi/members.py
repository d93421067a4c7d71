"""Which endpoints an InferencePool has, for pools that somebody else picks from."""

from collections.abc import Mapping

from endpoints.discovery.kubernetes.pods import LabelRules, endpoints_of
from endpoints.discovery.kubernetes.pools import MalformedError, pool_of
from gateway.gatewayapi.references import selects
from gateway.gatewayapi.snapshot import Object, Objects
from routing.endpoint import Endpoint

_NO_PLACE: Mapping[str, str] = {}
_NO_LABELS = LabelRules(node=())


def members(pool: Object, pods: Objects) -> list[Endpoint]:
    """Each port of each pod that is ready and stays; none for a pool that can't be."""
    try:
        spec = pool_of(pool)
    except MalformedError:
        return []
    selector = {"matchLabels": dict(spec.selector)}
    return [
        endpoint
        for (namespace, _), pod in sorted(pods.items())
        if namespace == spec.namespace and selects(selector, pod["metadata"].get("labels"))
        for endpoint in endpoints_of(pod, spec.ports, _NO_PLACE, _NO_LABELS)
    ]
