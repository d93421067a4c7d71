import pytest

from gateway.routes.hosts import HostMap, covers, host_of, shared


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (b"Example.COM", "example.com"),
        (b"example.com:8080", "example.com"),
        (b"example.com.", "example.com"),
        (b"[::1]:80", "[::1]"),
        (b"", ""),
    ],
)
def test_the_name_in_a_host_field(field: bytes, name: str) -> None:
    assert host_of(field) == name


def test_a_wildcard_has_names_below_it_of_any_depth_but_not_itself() -> None:
    assert covers("*.example.com", "a.example.com")
    assert covers("*.example.com", "b.a.example.com")
    assert not covers("*.example.com", "example.com")
    assert not covers("*.example.com", "badexample.com")
    assert covers("*.example.com", "*.a.example.com")
    assert covers(None, "anything")


def test_what_a_listener_and_a_route_share() -> None:
    assert shared(None, []) == (None,)
    assert shared("a.com", []) == ("a.com",)
    assert shared(None, ["a.com"]) == ("a.com",)
    assert shared("*.a.com", ["x.a.com", "other.com", "a.com"]) == ("x.a.com",)
    assert shared("x.a.com", ["*.a.com"]) == ("x.a.com",)
    assert shared("*.a.com", ["*.b.a.com"]) == ("*.b.a.com",)
    assert shared("a.com", ["b.com"]) == ()


def test_values_come_the_most_specific_first() -> None:
    names = HostMap([(None, 0), ("*.com", 1), ("*.a.com", 2), ("x.a.com", 3)])
    assert list(names.of("x.a.com")) == [3, 2, 1, 0]
    assert list(names.of("y.a.com")) == [2, 1, 0]
    assert list(names.of("a.com")) == [1, 0]
    assert list(names.of("")) == [0]
