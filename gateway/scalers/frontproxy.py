"""Who asks an aggregated API, and whether they may: the API server's own rules, applied by us.

The API server asks on behalf of others. It proves itself by a client certificate of the
front-proxy CA, and says in ``X-Remote-*`` for whom it asks; whether those may is asked back by a
SubjectAccessReview. Without the certificate the headers are worth nothing.

Source: Kubernetes documentation, "Configure the Aggregation Layer".
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiohttp import web

from endpoints.kubernetes.connection import Connection
from endpoints.kubernetes.resources import CONFIG_MAPS, Resource

GROUP: Final = "external.metrics.k8s.io"
_AUTHENTICATION: Final = "extension-apiserver-authentication"
_REVIEWS: Final = Resource(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)
_ALLOWED_SECONDS: Final = 60.0
_DENIED_SECONDS: Final = 10.0
_MOST_REMEMBERED: Final = 1_000


class DeniedError(Exception):
    """Who asks may not: HTTP ``status`` 401 (who is that?) or 403, and why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Asker:
    """For whom is asked."""

    user: str
    groups: tuple[str, ...] = ()


Review = Callable[[Asker, str, str], Awaitable[bool]]
"""Whether somebody may get a metric: asker, namespace, metric."""


class FrontProxy:
    """Lets in whom the API server asks for.

    ``names``: common names that its certificate may have; none: any of that CA. ``review`` None:
    whoever the API server asks for may. ``anonymous``: nobody has to prove anything.
    """

    def __init__(
        self,
        names: Sequence[str] = (),
        review: Review | None = None,
        *,
        anonymous: bool = False,
    ) -> None:
        self._names = frozenset(names)
        self._review = review
        self._anonymous = anonymous

    async def admit(self, request: web.Request, namespace: str, metric: str) -> None:
        """Return when the request may be answered; `DeniedError` otherwise."""
        if self._anonymous:
            return
        asker = self.asker(request)
        if self._review is not None and not await self._review(asker, namespace, metric):
            raise DeniedError(403, f"{asker.user} may not get {metric}.{GROUP} in {namespace!r}")

    def asker(self, request: web.Request) -> Asker:
        """For whom the API server asks; `DeniedError` when it is not the API server."""
        tls = None if request.transport is None else request.transport.get_extra_info("ssl_object")
        certificate = None if tls is None else tls.getpeercert()
        if not certificate:
            raise DeniedError(401, "a client certificate of the front-proxy CA is required")
        name = _common_name(certificate)
        if self._names and name not in self._names:
            raise DeniedError(401, f"the client certificate of {name!r} is not the front proxy's")
        user = request.headers.get("X-Remote-User", "")
        if not user:
            raise DeniedError(401, "X-Remote-User does not say for whom is asked")
        return Asker(user, tuple(request.headers.getall("X-Remote-Group", ())))


class AccessReviews:
    """Asks the API server, and remembers for a while what it said."""

    def __init__(self, connection: Connection, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._clock = clock
        self._known: dict[tuple[Asker, str, str], tuple[bool, float]] = {}

    async def __call__(self, asker: Asker, namespace: str, metric: str) -> bool:
        """Whether they may get the metric."""
        key = asker, namespace, metric
        known = self._known.get(key)
        now = self._clock()
        if known is not None and now < known[1]:
            return known[0]
        attributes = {
            "verb": "get",
            "group": GROUP,
            "version": "v1beta1",
            "resource": metric,
            "namespace": namespace,
        }
        spec = {
            "user": asker.user,
            "groups": list(asker.groups),
            "resourceAttributes": attributes,
        }
        review = {"apiVersion": _REVIEWS.api_version, "kind": _REVIEWS.kind, "spec": spec}
        said = await self._connection.request("POST", _REVIEWS.path(), None, review)
        allowed = bool((said.get("status") or {}).get("allowed"))
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[key] = allowed, now + (_ALLOWED_SECONDS if allowed else _DENIED_SECONDS)
        return allowed


async def front_proxy_authority(connection: Connection) -> tuple[str, tuple[str, ...]] | None:
    """The front-proxy CA (PEM) and its client's names, as the cluster publishes them."""
    path = CONFIG_MAPS.path("kube-system", _AUTHENTICATION)
    data: Mapping[str, Any] = (await connection.request("GET", path)).get("data") or {}
    authority = data.get("requestheader-client-ca-file")
    if not authority:
        return None
    names = msgspec.json.decode(str(data.get("requestheader-allowed-names") or "[]"))
    return str(authority), tuple(str(name) for name in names)


def _common_name(certificate: Mapping[str, Any]) -> str:
    for part in certificate.get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value)
    return ""
