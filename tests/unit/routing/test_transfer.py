"""What KV transfers take: configured, then learned."""

import pytest

from routing.fleet import Endpoint
from routing.transfer import Link, Links


def endpoint(name: str, **labels: str) -> Endpoint:
    return Endpoint(name, f"http://{name}", labels=tuple(labels.items()))


A, B, C = (
    endpoint("a", rack="1", host="x"),
    endpoint("b", rack="1", host="y"),
    endpoint("c", rack="2"),
)
LEVELS = (Link("host", 200e9), Link("rack", 50e9))


def test_the_most_local_level_that_both_share_counts() -> None:
    links = Links(10e9, LEVELS, 0.0)
    same = endpoint("d", rack="1", host="x")
    assert links.seconds_of(A, same, 200e9, 0.0) == 1.0
    assert links.seconds_of(A, B, 50e9, 0.0) == 1.0
    assert links.seconds_of(A, C, 10e9, 0.0) == 1.0
    assert links.seconds_of(A, C, 0.0, 0.0) == 0.0


def test_what_a_pair_takes_is_learned_and_its_domain_learns_with_it() -> None:
    links = Links(10e9, LEVELS, 0.0)
    for number in range(30):
        links.observe(A, B, 50e9, 3.0, float(number))
    assert links.seconds_of(A, B, 50e9, 30.0) == pytest.approx(3.0, rel=0.1)
    other = endpoint("e", rack="1")
    assert links.seconds_of(B, other, 50e9, 30.0) == pytest.approx(3.0, rel=0.1)
    assert links.seconds_of(A, C, 10e9, 30.0) == 1.0  # another domain
    assert (links.transfers, links.bytes, links.seconds) == (30, 1.5e12, 90.0)


def test_one_stall_says_little_and_what_is_old_fades() -> None:
    links = Links(10e9, (), 0.0)
    for number in range(20):
        links.observe(A, C, 10e9, 1.0, float(number))
    links.observe(A, C, 10e9, 500.0, 20.0)
    assert links.seconds_of(A, C, 10e9, 20.0) < 1.25
    for number in range(30):
        links.observe(A, C, 10e9, 8.0, 20.0 + number)
    assert links.seconds_of(A, C, 10e9, 50.0) > 5.0
    assert links.seconds_of(A, C, 10e9, 2_000.0) == pytest.approx(1.0, rel=0.01)


def test_nothing_moved_or_no_time_teaches_nothing() -> None:
    links = Links(10e9, (), 0.010)
    links.observe(A, C, 0.0, 1.0, 0.0)
    links.observe(A, C, 1e9, 0.0, 0.0)
    assert links.transfers == 0
    assert links.seconds_of(A, C, 10e9, 0.0) == pytest.approx(1.010)
