import pytest

from routing.hashring import HashRing, prefix_key
from tests.support.slates import chain_of, request_of


def named(*numbers: int) -> dict[str, int]:
    return {f"n{number}": number for number in numbers}


def test_a_walk_meets_each_name_once_and_in_the_same_order() -> None:
    ring, names = HashRing(10), named(*range(6))
    ring.cover(names)
    walk = ring.walk(12345, names, 6)
    assert sorted(walk) == sorted(names)
    assert ring.walk(12345, names, 6) == walk
    assert ring.walk(12345, names, 3) == walk[:3]
    assert ring.walk(12345, {walk[1], walk[4]}, 6) == [walk[1], walk[4]]


def test_the_end_of_the_ring_is_its_beginning() -> None:
    ring, names = HashRing(10), named(*range(4))
    ring.cover(names)
    assert ring.walk((1 << 64) - 1, names, 4) == ring.walk(0, names, 4)


def test_joining_later_makes_the_same_ring() -> None:
    together, apart = HashRing(20), HashRing(20)
    together.cover(named(0, 1, 2))
    for number in (2, 0, 1):
        apart.cover(named(number))
    for key in range(0, 1 << 64, 1 << 58):
        names = named(0, 1, 2)
        assert together.walk(key, names, 3) == apart.walk(key, names, 3)


def test_names_long_out_of_use_leave_the_ring() -> None:
    ring = HashRing(4, most_members=10)
    for number in range(100):
        ring.cover(named(0, number))
        assert len(ring) <= 10
        assert len(ring.walk(7, named(0, number), 2)) == min(number + 1, 2)
    ring.cover(named(*range(30)))  # what is in use stays, however much
    assert len(ring) == 30


def test_a_key_covers_whole_blocks_of_the_beginning() -> None:
    opening = chain_of("o", 4)
    longer = request_of(chain_of("x", 9, after=opening))
    assert prefix_key(longer, 256.0) == opening[3]
    assert prefix_key(longer, 300.0) == opening[3]
    assert prefix_key(longer, 1.0) == opening[0]
    assert prefix_key(request_of(opening), 9_999.0) == opening[3]
    assert prefix_key(request_of(name="a"), 64.0) != prefix_key(request_of(name="b"), 64.0)
    assert prefix_key(request_of(name="\udce4"), 64.0) >= 0


def test_a_ring_needs_points() -> None:
    with pytest.raises(ValueError, match="replicas must be at least 1, not 0"):
        HashRing(0)
