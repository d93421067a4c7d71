"""What a route table is made of: the Gateway API's vocabulary as plain values.

Names, precedence and defaults are those of the Gateway API's HTTPRoute
(https://gateway-api.sigs.k8s.io/reference/spec/). Nothing here knows of Kubernetes: whoever
has rules from elsewhere builds the same values.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final


class PathKind(Enum):
    """How a path is compared."""

    EXACT = "Exact"
    PREFIX = "PathPrefix"  # by whole path elements: /a matches /a and /a/b, not /ab
    REGEX = "RegularExpression"  # Python's `re`, the whole path


@dataclass(frozen=True, slots=True)
class PathMatch:
    """A path, percent-decoded."""

    kind: PathKind = PathKind.PREFIX
    value: str = "/"


@dataclass(frozen=True, slots=True)
class ValueMatch:
    """A header field (its name in lower case) or a query parameter, and its value."""

    name: str
    value: str
    regex: bool = False


@dataclass(frozen=True, slots=True)
class RequestMatch:
    """What a request must have, all of it; the default is had by every request."""

    path: PathMatch = PathMatch()
    headers: tuple[ValueMatch, ...] = ()
    query: tuple[ValueMatch, ...] = ()
    method: str | None = None


class TargetKind(Enum):
    """What a backend is."""

    POOL = "InferencePool"
    SERVICE = "Service"
    BROKEN = "broken"  # it can't be resolved: its share of the requests gets 500


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go; for a `BROKEN` one ``name`` says in words why they can't."""

    kind: TargetKind
    namespace: str
    name: str
    port: int = 0
    """Of a Service; 0 for a pool, whose endpoints have ports of their own."""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class HeaderEdit:
    """Changes to header fields, names in lower case: set, then add, then remove."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.set or self.add or self.remove)


NO_EDIT: Final = HeaderEdit()


@dataclass(frozen=True, slots=True)
class PathRewrite:
    """A new path: the whole, or in place of the prefix that matched."""

    value: str
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What the backend is told instead; None: it stays."""

    hostname: str | None = None
    path: PathRewrite | None = None


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where the client is sent; what is None stays as in the request."""

    scheme: str | None = None
    hostname: str | None = None
    path: PathRewrite | None = None
    port: int | None = None
    status: int = 302


@dataclass(frozen=True, slots=True)
class Backend:
    """One of a rule's targets with its share, and edits of its own."""

    target: Target
    weight: int = 1
    request: HeaderEdit = NO_EDIT
    response: HeaderEdit = NO_EDIT


@dataclass(frozen=True, slots=True)
class Rule:
    """Matches (one of them is enough), filters, backends. Times in seconds, None: the default."""

    matches: tuple[RequestMatch, ...] = (RequestMatch(),)
    backends: tuple[Backend, ...] = ()
    request: HeaderEdit = NO_EDIT
    response: HeaderEdit = NO_EDIT
    rewrite: Rewrite | None = None
    redirect: Redirect | None = None
    request_timeout: float | None = None
    """For the whole answer, retries included."""
    backend_timeout: float | None = None
    """For one attempt's first byte."""


@dataclass(frozen=True, slots=True)
class Route:
    """Rules in order, by whom and since when."""

    name: str
    """``namespace/name``."""
    created: str = ""
    """As RFC 3339 in UTC, which sorts like time."""
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Attached:
    """A route at a listener, for the host names that both have; None: any host."""

    route: Route
    hostnames: tuple[str | None, ...] = (None,)


@dataclass(frozen=True, slots=True)
class Site:
    """A listener's host name (None: any) and what is attached there."""

    hostname: str | None = None
    attached: tuple[Attached, ...] = ()
