"""The route table: compiled once, asked for every request.

Precedence, most important first (HTTPRoute's ``rules`` and ``hostnames`` in the Gateway API):

1. the listener with the most specific host name;
2. the route's host name: exact, then the longest wildcard, then none;
3. the path: exact, regular expression (the longer pattern first; the order is ours), then the
   longest prefix;
4. a method match; more header matches; more query matches;
5. the oldest route; then by ``namespace/name``; within one route the first rule.

Lookups by exact path, and by each prefix of the path: neither grows with the number of routes.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.routes.hosts import HostMap, host_of
from gateway.routes.rules import (
    Backend,
    PathKind,
    RequestMatch,
    Route,
    Rule,
    Site,
    ValueMatch,
)
from gateway.routes.targets import query_of

_Order: TypeAlias = tuple[object, ...]
_ROOT: Final = ""  # how the prefix / is kept, so that every prefix has no slash at its end


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """The rule that a request is for, and by which match."""

    route: Route
    rule: Rule
    match: RequestMatch
    number: int
    """Of the rule in its route."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a request is compared. Header names in lower case, path as `routable_path` has it."""

    host: bytes
    method: str
    path: str
    fields: Mapping[bytes, bytes]
    target: bytes


class _Values:
    """Compiled value matches: exact ones compared, others searched as a whole."""

    __slots__ = ("_exact", "_patterns")

    def __init__(self, wanted: Iterable[ValueMatch]) -> None:
        first: dict[str, ValueMatch] = {}
        for one in wanted:  # of several with one name only the first counts
            first.setdefault(one.name, one)
        self._exact = [(one.name, one.value) for one in first.values() if not one.regex]
        self._patterns = [(one.name, re.compile(one.value)) for one in first.values() if one.regex]

    def fit(self, value_of: Callable[[str], str | None]) -> bool:
        for name, value in self._exact:
            if value_of(name) != value:
                return False
        for name, pattern in self._patterns:
            found = value_of(name)
            if found is None or pattern.fullmatch(found) is None:
                return False
        return True


class _Candidate:
    """One match of one rule, ready to be compared."""

    __slots__ = ("_headers", "_method", "_pattern", "_query", "matched", "order")

    def __init__(self, matched: Matched, match_number: int) -> None:
        match, route = matched.match, matched.route
        self.matched = matched
        self._method = match.method
        self._headers = _Values(match.headers) if match.headers else None
        self._query = _Values(match.query) if match.query else None
        regex = match.path.kind is PathKind.REGEX
        self._pattern = re.compile(match.path.value) if regex else None
        self.order: _Order = (
            -len(match.path.value) if regex else 0,
            match.method is None,
            -len(match.headers),
            -len(match.query),
            route.created,
            route.name,
            matched.number,
            match_number,
        )

    def fits(self, asked: Asked) -> bool:
        if self._method is not None and self._method != asked.method:
            return False
        if self._pattern is not None and self._pattern.fullmatch(asked.path) is None:
            return False
        if self._headers is not None:
            fields = asked.fields

            def header(name: str) -> str | None:
                value = fields.get(name.encode())
                return None if value is None else value.decode("latin-1")

            if not self._headers.fit(header):
                return False
        return self._query is None or self._query.fit(query_of(asked.target).get)


class _Paths:
    """The candidates of one host name, by path."""

    __slots__ = ("_exact", "_prefixes", "_regexes")

    def __init__(self, candidates: Iterable[_Candidate]) -> None:
        self._exact: dict[str, list[_Candidate]] = {}
        self._prefixes: dict[str, list[_Candidate]] = {}
        self._regexes: list[_Candidate] = []
        for one in sorted(candidates, key=lambda candidate: candidate.order):
            path = one.matched.match.path
            if path.kind is PathKind.EXACT:
                self._exact.setdefault(path.value, []).append(one)
            elif path.kind is PathKind.PREFIX:
                self._prefixes.setdefault(path.value.rstrip("/"), []).append(one)
            else:
                self._regexes.append(one)

    def match(self, asked: Asked) -> Matched | None:
        for candidates in self._in_order(asked.path):
            for one in candidates:
                if one.fits(asked):
                    return one.matched
        return None

    def _in_order(self, path: str) -> Iterator[list[_Candidate]]:
        if path in self._exact:
            yield self._exact[path]
        yield self._regexes
        prefix = path.rstrip("/")
        while prefix != _ROOT:
            if prefix in self._prefixes:
                yield self._prefixes[prefix]
            prefix = prefix[: prefix.rfind("/")]
        if _ROOT in self._prefixes:
            yield self._prefixes[_ROOT]


class RouteTable:
    """Everything that is attached behind one port."""

    def __init__(self, sites: Iterable[Site] = ()) -> None:
        self.sites = tuple(sites)
        self._sites: HostMap[HostMap[_Paths]] = HostMap(
            (site.hostname, _by_hostname(site)) for site in self.sites
        )

    def match(self, asked: Asked) -> Matched | None:
        """The rule that a request is for; None: there is none."""
        host = host_of(asked.host)
        for site in self._sites.of(host):
            for paths in site.of(host):
                matched = paths.match(asked)
                if matched is not None:
                    return matched
            return None  # a less specific listener is another listener
        return None


def _by_hostname(site: Site) -> HostMap[_Paths]:
    found: dict[str | None, list[_Candidate]] = {}
    for attached in site.attached:
        candidates = list(_candidates(attached.route))
        for hostname in attached.hostnames:
            found.setdefault(hostname, []).extend(candidates)
    return HostMap((hostname, _Paths(candidates)) for hostname, candidates in found.items())


def _candidates(route: Route) -> Iterator[_Candidate]:
    for number, rule in enumerate(route.rules):
        for match_number, match in enumerate(rule.matches or (RequestMatch(),)):
            yield _Candidate(Matched(route, rule, match, number), match_number)


def chosen(backends: Iterable[Backend], dice: float) -> Backend | None:
    """The backend for a throw of the dice in [0, 1), by weight; None when no one has any."""
    backends = tuple(backends)
    left = dice * sum(one.weight for one in backends)
    last = None
    for one in backends:
        if one.weight:
            last = one
            if left < one.weight:
                return one
            left -= one.weight
    return last
