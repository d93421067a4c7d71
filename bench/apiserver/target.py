"""What a request is about, by its path and query."""

from collections.abc import Mapping
from dataclasses import dataclass

from bench.apiserver.access import Attempt
from bench.apiserver.failures import StatusError
from bench.apiserver.kinds import Catalogue, Kind

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Target:
    """One kind, in one version, maybe one namespace, maybe one object, maybe its subresource."""

    kind: Kind
    version: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    def attempt(self, user: str, method: str, query: Mapping[str, str]) -> Attempt:
        """The request as authorization sees it."""
        verb = _VERBS.get(method, "get" if self.name else "list")
        if verb == "list" and query.get("watch") in {"1", "true"}:
            verb = "watch"
        if method == "DELETE" and not self.name:
            verb = "deletecollection"
        resource = self.kind.plural + (f"/{self.subresource}" if self.subresource else "")
        return Attempt(user, verb, self.kind.group, resource, self.namespace, self.name)


def target_of(catalogue: Catalogue, path: str) -> Target:
    """What the path names; `StatusError` (404) when it is nothing that is served."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise _nothing()
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in {"status", "finalize"}:
        namespace, rest = rest[1], rest[2:]
    kind = catalogue.find(group, version, rest[0])
    if kind is None or len(rest) > 3 or bool(namespace) > kind.namespaced:
        raise _nothing()
    name = rest[1] if len(rest) > 1 else ""
    if name and kind.namespaced and not namespace:
        raise _nothing()
    subresource = rest[2] if len(rest) > 2 else ""
    served = {"status": kind.status, "scale": kind.scale}
    if subresource and not served.get(subresource, False):
        raise _nothing()
    return Target(kind, version, namespace, name, subresource)


def _nothing() -> StatusError:
    return StatusError(404, "NotFound", "the server could not find the requested resource")
