from gateway.routes.rules import (
    Attached,
    Backend,
    PathKind,
    PathMatch,
    RequestMatch,
    Route,
    Rule,
    Site,
    Target,
    TargetKind,
    ValueMatch,
)
from gateway.routes.table import Asked, RouteTable, chosen


def rule(*matches: RequestMatch) -> Rule:
    return Rule(matches)


def path(value: str, kind: PathKind = PathKind.PREFIX, **more: object) -> RequestMatch:
    return RequestMatch(PathMatch(kind, value), **more)  # type: ignore[arg-type]


def found(
    table: RouteTable,
    target: str,
    host: str = "any",
    method: str = "GET",
    fields: dict[bytes, bytes] | None = None,
) -> str | None:
    matched = table.match(
        Asked(host.encode(), method, target.partition("?")[0], fields or {}, target.encode())
    )
    return None if matched is None else f"{matched.route.name}#{matched.number}"


def table_of(*routes: Route) -> RouteTable:
    return RouteTable([Site(None, tuple(Attached(route) for route in routes))])


def test_an_empty_table_has_nothing() -> None:
    assert found(RouteTable(), "/") is None
    assert found(table_of(), "/") is None


def test_prefixes_match_whole_elements() -> None:
    table = table_of(Route("r", rules=(rule(path("/a/b")),)))
    assert found(table, "/a/b") == found(table, "/a/b/") == found(table, "/a/b/c") == "r#0"
    assert found(table, "/a/bc") is None
    assert found(table, "/a") is None


def test_exact_before_pattern_before_longest_prefix() -> None:
    table = table_of(
        Route(
            "r",
            rules=(
                rule(path("/")),
                rule(path("/a")),
                rule(path("/a/b")),
                rule(path("/a/[xy]", PathKind.REGEX)),
                rule(path("/a/x", PathKind.EXACT)),
            ),
        )
    )
    assert found(table, "/") == "r#0"
    assert found(table, "/a/c") == "r#1"
    assert found(table, "/a/b/c") == "r#2"
    assert found(table, "/a/y") == "r#3"
    assert found(table, "/a/x") == "r#4"
    assert found(table, "/a/x/") == "r#1"


def test_method_then_headers_then_query() -> None:
    one = (ValueMatch("x", "1"),)
    two = (*one, ValueMatch("y", "2"))
    table = table_of(
        Route(
            "r",
            rules=(
                rule(path("/")),
                rule(path("/", query=two)),
                rule(path("/", headers=one)),
                rule(path("/", headers=two)),
                rule(path("/", method="POST")),
            ),
        )
    )
    both = {b"x": b"1", b"y": b"2"}
    assert found(table, "/?x=1&y=2", method="POST", fields=both) == "r#4"
    assert found(table, "/?x=1&y=2", fields=both) == "r#3"
    assert found(table, "/?x=1&y=2", fields={b"x": b"1"}) == "r#2"
    assert found(table, "/?x=1&y=2") == "r#1"
    assert found(table, "/?x=1") == "r#0"


def test_the_oldest_route_then_the_first_name() -> None:
    older = Route("z", "2026-01-01T00:00:00Z", (rule(path("/")),))
    newer = Route("b", "2026-02-01T00:00:00Z", (rule(path("/")),))
    same = Route("a", "2026-02-01T00:00:00Z", (rule(path("/")),))
    assert found(table_of(newer, older, same), "/") == "z#0"
    assert found(table_of(newer, same), "/") == "a#0"


def test_patterns_have_the_whole_value() -> None:
    table = table_of(
        Route("r", rules=(rule(path("/", headers=(ValueMatch("v", "a+", regex=True),))),))
    )
    assert found(table, "/", fields={b"v": b"aaa"}) == "r#0"
    assert found(table, "/", fields={b"v": b"aab"}) is None
    assert found(table, "/") is None


def test_of_two_matches_on_one_header_the_first_counts() -> None:
    twice = (ValueMatch("v", "1"), ValueMatch("v", "2"))
    table = table_of(Route("r", rules=(rule(path("/", headers=twice)),)))
    assert found(table, "/", fields={b"v": b"1"}) == "r#0"


def test_a_more_specific_host_name_comes_first_and_the_others_after_it() -> None:
    exact = Route("exact", rules=(rule(path("/a")),))
    wild = Route("wild", rules=(rule(path("/a"), path("/b")),))
    rest = Route("rest", rules=(rule(path("/")),))
    table = RouteTable(
        [
            Site(
                None,
                (
                    Attached(rest),
                    Attached(wild, ("*.com",)),
                    Attached(exact, ("a.com",)),
                ),
            )
        ]
    )
    assert found(table, "/a", "a.com") == "exact#0"
    assert found(table, "/b", "a.com") == "wild#0"
    assert found(table, "/c", "a.com:81") == "rest#0"
    assert found(table, "/a", "a.org") == "rest#0"


def test_a_less_specific_listener_is_another_listener() -> None:
    rest = Route("rest", rules=(rule(path("/")),))
    mine = Route("mine", rules=(rule(path("/a")),))
    table = RouteTable(
        [Site(None, (Attached(rest),)), Site("a.com", (Attached(mine, ("a.com",)),))]
    )
    assert found(table, "/a", "a.com") == "mine#0"
    assert found(table, "/b", "a.com") is None
    assert found(table, "/b", "b.com") == "rest#0"


def test_weights_share_the_dice() -> None:
    first, none, last = (
        Backend(Target(TargetKind.SERVICE, "ns", name), weight)
        for name, weight in (("first", 7), ("none", 0), ("last", 3))
    )
    shares = [chosen((first, none, last), throw / 100) for throw in range(100)]
    assert shares.count(first) == 70
    assert shares.count(last) == 30
    assert chosen((none,), 0.5) is None
    assert chosen((), 0.5) is None
