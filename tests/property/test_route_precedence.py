"""The table against the Gateway API's order of precedence, spelled out naively."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routes.hosts import covers
from gateway.routes.rules import (
    Attached,
    PathKind,
    PathMatch,
    RequestMatch,
    Route,
    Rule,
    Site,
    ValueMatch,
)
from gateway.routes.table import Asked, RouteTable

_elements = st.sampled_from(["a", "b", "ab"])
_paths = st.lists(_elements, max_size=3).map(lambda parts: "/" + "/".join(parts))
_hostnames = st.sampled_from([None, "x.com", "*.com", "*.x.com", "y.x.com"])
_values = st.lists(
    st.builds(ValueMatch, st.sampled_from("pq"), st.sampled_from("12")),
    max_size=2,
    unique_by=lambda one: one.name,
).map(tuple)
_path_matches = st.one_of(
    st.builds(PathMatch, st.just(PathKind.EXACT), _paths),
    st.builds(PathMatch, st.just(PathKind.PREFIX), _paths),
    st.builds(PathMatch, st.just(PathKind.REGEX), st.sampled_from(["/a.*", "/[ab]", ".*"])),
)
_matches = st.builds(
    RequestMatch, _path_matches, _values, _values, st.sampled_from([None, "GET", "POST"])
)
_rules = st.builds(Rule, st.lists(_matches, min_size=1, max_size=2).map(tuple))
_attached = st.builds(
    Attached,
    st.builds(
        Route,
        st.sampled_from(["ns/a", "ns/b", "ns/c"]),
        st.sampled_from(["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]),
        st.lists(_rules, min_size=1, max_size=3).map(tuple),
    ),
    st.lists(_hostnames, min_size=1, max_size=2, unique=True).map(tuple),
)
_requests = st.tuples(
    st.sampled_from(["x.com", "y.x.com", "z.y.x.com", "a.com", "a.org"]),
    st.sampled_from(["GET", "POST"]),
    _paths,
    st.dictionaries(st.sampled_from("pq"), st.sampled_from("12")),
    st.dictionaries(st.sampled_from("pq"), st.sampled_from("12")),
)
_Request = tuple[str, str, str, dict[str, str], dict[str, str]]


def _fits(match: RequestMatch, request: _Request) -> bool:
    import re

    _, method, path, headers, query = request
    wanted = match.path.value
    if match.path.kind is PathKind.EXACT:
        fits = path == wanted
    elif match.path.kind is PathKind.PREFIX:
        have, want = path.strip("/").split("/"), wanted.strip("/").split("/")
        fits = wanted == "/" or have[: len(want)] == want
    else:
        fits = re.fullmatch(wanted, path) is not None
    return (
        fits
        and match.method in {None, method}
        and all(headers.get(one.name) == one.value for one in match.headers)
        and all(query.get(one.name) == one.value for one in match.query)
    )


def _specificity(hostname: str | None) -> tuple[int, int]:
    """Characters without a wildcard, then characters."""
    if hostname is None:
        return (0, 0)
    return (0 if hostname.startswith("*.") else len(hostname), len(hostname))


def _best(attached: list[Attached], request: _Request) -> tuple[str, int] | None:
    kinds = {PathKind.EXACT: 2, PathKind.REGEX: 1, PathKind.PREFIX: 0}
    ranked = []
    for place, one in enumerate(attached):
        for hostname in one.hostnames:
            if not covers(hostname, request[0]):
                continue
            for number, rule in enumerate(one.route.rules):
                for which, match in enumerate(rule.matches):
                    if not _fits(match, request):
                        continue
                    exact, length = _specificity(hostname)
                    size = len(match.path.value)
                    order = (
                        (-exact, -length),
                        (-kinds[match.path.kind], -size),
                        match.method is None,
                        -len(match.headers),
                        -len(match.query),
                        one.route.created,
                        one.route.name,
                        number,
                        which,
                        place,
                    )
                    ranked.append((order, one.route.name, number))
    return min(ranked)[1:] if ranked else None


@settings(max_examples=300, deadline=None)
@given(
    st.lists(_attached, max_size=4, unique_by=lambda one: one.route.name),
    st.lists(_requests, max_size=5),
)
def test_the_table_follows_the_order_of_precedence(
    attached: list[Attached], requests: list[_Request]
) -> None:
    table = RouteTable([Site(None, tuple(attached))])
    for request in requests:
        host, method, path, headers, query = request
        target = path + "?" + "&".join(f"{name}={value}" for name, value in query.items())
        fields = {name.encode(): value.encode() for name, value in headers.items()}
        matched = table.match(Asked(host.encode(), method, path, fields, target.encode()))
        got = None if matched is None else (matched.route.name, matched.number)
        assert got == _best(attached, request)
