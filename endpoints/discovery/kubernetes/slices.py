"""From EndpointSlices to endpoints, for people without the inference definitions. Pure.

A headless Service (``clusterIP: None``) names pods; its EndpointSlices have their addresses.

Source: ``discovery.k8s.io/v1``: an endpoint whose ``ready`` is not told counts as ready; one that
is ``terminating`` gets nothing new.
"""

from collections.abc import Iterable
from typing import Final

from endpoints.discovery.kubernetes.pods import url_host
from endpoints.kubernetes.resources import Object
from routing.endpoint import Endpoint

SERVICE_LABEL: Final = "kubernetes.io/service-name"
_PROTOCOLS: Final = frozenset({"TCP", None})


def endpoints_of_slices(
    slices: Iterable[Object], port: int | str | None = None
) -> tuple[Endpoint, ...]:
    """The endpoints in a Service's slices; the same address in two of them counts once.

    ``port`` chooses by number or name; None takes all TCP ports.
    """
    found: dict[str, Endpoint] = {}
    for one in slices:
        if one.get("addressType") == "FQDN":
            continue
        ports = [
            given["port"]
            for given in one.get("ports") or ()
            if given.get("port")
            and given.get("protocol") in _PROTOCOLS
            and port in (None, given["port"], given.get("name"))
        ]
        for member in one.get("endpoints") or ():
            if takes_requests(member):
                for number in ports:
                    endpoint = _endpoint(one, member, number, several=len(ports) > 1)
                    found.setdefault(endpoint.name, endpoint)
    return tuple(found.values())


def takes_requests(member: Object) -> bool:
    """Whether this member of a slice is ready."""
    conditions = member.get("conditions") or {}
    return conditions.get("ready") is not False and not conditions.get("terminating")


def _endpoint(one: Object, member: Object, port: int, *, several: bool) -> Endpoint:
    host = url_host(member["addresses"][0])
    target = member.get("targetRef") or {}
    namespace = one["metadata"].get("namespace") or ""
    pod = target.get("name") if target.get("kind") == "Pod" else None
    labels = {
        "namespace": namespace,
        "pod": pod or "",
        "node": member.get("nodeName") or "",
        "zone": member.get("zone") or "",
        "port": str(port) if several else "",
    }
    return Endpoint(
        name=f"{namespace}/{pod or host}:{port}",
        url=f"http://{host}:{port}",
        labels=tuple((key, value) for key, value in labels.items() if value),
    )
