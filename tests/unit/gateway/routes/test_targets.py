import pytest

from gateway.paths import BadTargetError
from gateway.routes.targets import query_of, routable_path


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/", "/"),
        (b"/a/b?x=/../", "/a/b"),
        (b"/%61dmin", "/admin"),
        (b"/a%2Fb/c", "/a%2Fb/c"),
        (b"/a%2fb", "/a%2Fb"),
        (b"/.well-known/x", "/.well-known/x"),
        (b"/a/...", "/a/..."),
        (b"/caf%C3%A9", "/caf\N{LATIN SMALL LETTER E WITH ACUTE}"),
    ],
)
def test_the_path_that_is_compared(target: bytes, path: str) -> None:
    assert routable_path(target) == path


@pytest.mark.parametrize(
    "target",
    [
        *(b"/a/../b", b"/a/..", b"/.", b"/a/./b", b"/%2e%2e/a", b"/a//b", b"//a", b"/a\\b"),
        *(b"/a%5Cb", b"/a%00", b"/a#b", b"*", b"http://a/b", b"/%ff", b"/a%2f..", b"/a%0d%0ab"),
    ],
)
def test_what_hops_could_read_in_two_ways_is_refused(target: bytes) -> None:
    if target == b"/a%2f..":  # one segment, whatever it means there: it is not compared as two
        assert routable_path(target) == "/a%2F.."
        return
    with pytest.raises(BadTargetError):
        routable_path(target)


def test_of_several_parameters_the_first_counts() -> None:
    assert query_of(b"/p?a=1&a=2&b=&c=%20x") == {"a": "1", "b": "", "c": " x"}
    assert query_of(b"/p") == {}
