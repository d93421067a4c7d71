"""HTTPRoute rules as ours."""

import pytest

from gateway.gatewayapi.references import selects
from gateway.gatewayapi.rules import UnsupportedError, rule_of, seconds
from gateway.gatewayapi.snapshot import Object
from gateway.routes.rules import (
    HeaderEdit,
    PathKind,
    PathMatch,
    PathRewrite,
    Redirect,
    RequestMatch,
    Rewrite,
    Target,
    TargetKind,
    ValueMatch,
)

SERVICE = Target(TargetKind.SERVICE, "ns", "svc", 80)


def resolve(_ref: Object) -> Target:
    return SERVICE


def test_a_rule_that_says_nothing_matches_everything() -> None:
    found = rule_of({}, resolve)
    assert found.matches == (RequestMatch(),)
    assert found.backends == ()


def test_matches() -> None:
    spec = {
        "matches": [
            {
                "path": {"type": "Exact", "value": "/a"},
                "headers": [
                    {"name": "X-A", "value": "1"},
                    {"name": "b", "type": "RegularExpression", "value": "v.*"},
                ],
                "queryParams": [{"name": "Q", "value": "2"}],
                "method": "POST",
            },
            {"path": {"value": "/b"}},
        ]
    }
    assert rule_of(spec, resolve).matches == (
        RequestMatch(
            PathMatch(PathKind.EXACT, "/a"),
            (ValueMatch("x-a", "1"), ValueMatch("b", "v.*", regex=True)),
            (ValueMatch("Q", "2"),),
            "POST",
        ),
        RequestMatch(PathMatch(PathKind.PREFIX, "/b")),
    )


def test_filters_timeouts_and_weights() -> None:
    headers = {"set": [{"name": "A", "value": "1"}], "add": [{"name": "B", "value": "2"}]}
    edit = HeaderEdit(set=(("a", "1"),), add=(("b", "2"),))
    found = rule_of(
        {
            "filters": [
                {"type": "RequestHeaderModifier", "requestHeaderModifier": headers},
                {
                    "type": "ResponseHeaderModifier",
                    "responseHeaderModifier": {"remove": ["Server"]},
                },
                {
                    "type": "URLRewrite",
                    "urlRewrite": {
                        "hostname": "inner",
                        "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v1"},
                    },
                },
            ],
            "timeouts": {"request": "1m30s", "backendRequest": "500ms"},
            "backendRefs": [
                {
                    "name": "svc",
                    "weight": 0,
                    "filters": [
                        {"type": "RequestHeaderModifier", "requestHeaderModifier": headers}
                    ],
                },
                {"name": "svc"},
            ],
        },
        resolve,
    )
    assert found.request == edit
    assert found.response == HeaderEdit(remove=("server",))
    assert found.rewrite == Rewrite("inner", PathRewrite("/v1", prefix=True))
    assert (found.request_timeout, found.backend_timeout) == (90.0, 0.5)
    assert [one.weight for one in found.backends] == [0, 1]
    assert found.backends[0].request == edit


def test_redirects() -> None:
    spec = {
        "scheme": "https",
        "port": 8443,
        "statusCode": 301,
        "path": {"type": "ReplaceFullPath", "replaceFullPath": "/x"},
    }
    rule = {"filters": [{"type": "RequestRedirect", "requestRedirect": spec}]}
    assert rule_of(rule, resolve).redirect == Redirect("https", None, PathRewrite("/x"), 8443, 301)


@pytest.mark.parametrize(
    "spec",
    [
        {"filters": [{"type": "RequestMirror"}]},
        {"filters": [{"type": "CORS"}]},
        {"filters": [{"type": "ExtensionRef"}]},
        {"backendRefs": [{"name": "s", "filters": [{"type": "URLRewrite"}]}]},
        {"filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 200}}]},
        {
            "filters": [{"type": "RequestRedirect", "requestRedirect": {}}],
            "backendRefs": [{"name": "s"}],
        },
        {
            "filters": [
                {"type": "URLRewrite", "urlRewrite": {"path": {"type": "Something"}}},
            ]
        },
        {"matches": [{"path": {"type": "Glob", "value": "/"}}]},
        {"matches": [{"path": {"type": "RegularExpression", "value": "("}}]},
        {"matches": [{"path": {"value": "relative"}}]},
        {"matches": [{"headers": [{"name": "a", "value": "b", "type": "Glob"}]}]},
        {"matches": [{"headers": [{"name": "a", "value": "(", "type": "RegularExpression"}]}]},
        {"sessionPersistence": {"sessionName": "x"}},
        {"retry": {"attempts": 3}},
        {"timeouts": {"request": "soon"}},
    ],
)
def test_what_is_not_supported(spec: Object) -> None:
    with pytest.raises(UnsupportedError):
        rule_of(spec, resolve)


@pytest.mark.parametrize(
    ("text", "value"),
    [("10s", 10.0), ("1h2m3s4ms", 3723.004), ("0s", 86_400.0), ("100h", 86_400.0)],
)
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        ({"key": "a", "operator": "In", "values": ["1", "2"]}, True),
        ({"key": "a", "operator": "NotIn", "values": ["1"]}, False),
        ({"key": "b", "operator": "NotIn", "values": ["1"]}, True),
        ({"key": "a", "operator": "Exists"}, True),
        ({"key": "b", "operator": "DoesNotExist"}, True),
        ({"key": "a", "operator": "Wrong"}, False),
    ],
)
def test_label_expressions(expression: Object, selected: bool) -> None:
    assert selects({"matchExpressions": [expression]}, {"a": "1"}) is selected
