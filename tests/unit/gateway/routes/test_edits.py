import pytest

from gateway.routes.edits import FieldEdits, location, rewritten
from gateway.routes.rules import (
    HeaderEdit,
    PathKind,
    PathMatch,
    PathRewrite,
    Redirect,
    RequestMatch,
)


def prefix(value: str) -> RequestMatch:
    return RequestMatch(PathMatch(PathKind.PREFIX, value))


def test_fields_are_set_added_and_removed() -> None:
    edits = FieldEdits(
        [
            HeaderEdit(set=(("a", "1"),), add=(("b", "2"), ("c", "3")), remove=("d",)),
            HeaderEdit(add=(("a", "4"),)),
        ]
    )
    fields = [(b"a", b"0"), (b"a", b"00"), (b"b", b"x"), (b"d", b"y")]
    assert edits.applied(fields) == [(b"b", b"x,2"), (b"a", b"1,4"), (b"c", b"3")]
    assert fields[0] == (b"a", b"0")  # what was given stays as it was


def test_edits_that_change_nothing_are_none() -> None:
    assert not FieldEdits([HeaderEdit()])


@pytest.mark.parametrize(
    ("target", "match", "to", "result"),
    [
        # The table in the Gateway API's HTTPPathModifier.
        (b"/foo/bar", "/foo", "/xyz", b"/xyz/bar"),
        (b"/foo/bar", "/foo", "/xyz/", b"/xyz/bar"),
        (b"/foo/bar", "/foo/", "/xyz", b"/xyz/bar"),
        (b"/foo/bar", "/foo/", "/xyz/", b"/xyz/bar"),
        (b"/foo", "/foo", "/xyz", b"/xyz"),
        (b"/foo/", "/foo", "/xyz", b"/xyz/"),
        (b"/foo/bar", "/foo", "", b"/bar"),
        (b"/foo/", "/foo", "", b"/"),
        (b"/foo", "/foo", "", b"/"),
        (b"/foo/", "/foo", "/", b"/"),
        (b"/foo", "/foo", "/", b"/"),
        (b"/bar?x=1", "/", "/new", b"/new/bar?x=1"),
        (b"/f%6Fo/b%20r", "/foo", "/xyz", b"/xyz/b%20r"),
    ],
)
def test_a_prefix_is_replaced_by_whole_elements(
    target: bytes, match: str, to: str, result: bytes
) -> None:
    assert rewritten(target, prefix(match), PathRewrite(to, prefix=True)) == result


def test_a_whole_path_is_replaced_and_the_query_stays() -> None:
    assert rewritten(b"/a/b?q=1", prefix("/a"), PathRewrite("/v1/x")) == b"/v1/x?q=1"


@pytest.mark.parametrize(
    ("redirect", "where"),
    [
        (Redirect(), b"http://a.com:8080/p?q"),
        (Redirect(scheme="https"), b"https://a.com/p?q"),
        (Redirect(hostname="b.com", port=80), b"http://b.com/p?q"),
        (Redirect(path=PathRewrite("/new", prefix=True)), b"http://a.com:8080/new?q"),
    ],
)
def test_redirects_keep_what_they_do_not_name(redirect: Redirect, where: bytes) -> None:
    found = location(redirect, b"/p?q", b"A.com:8080", prefix("/p"), scheme="http", port=8080)
    assert found == where
