import os
import tracemalloc
from array import array

import pytest

from routing.prefix.index import PrefixIndex
from routing.prefix.tree import NODE_BLOCKS
from routing.request import Chain


def unique(blocks: int) -> Chain:
    return array("Q", os.urandom(8 * blocks))


def big() -> PrefixIndex:
    return PrefixIndex(1 << 30)


def test_endpoints_match_the_leading_blocks_they_hold() -> None:
    index, shared = big(), unique(10)
    index.stored("a", shared + unique(5))
    index.stored("b", shared[:4] + unique(3))
    assert index.match(shared + unique(2)) == {"a": 10, "b": 4}
    assert index.match(unique(3)) == {}


def test_a_chain_longer_than_a_node_matches_anywhere_in_it() -> None:
    index, chain = big(), unique(3 * NODE_BLOCKS + 5)
    index.stored("a", chain)
    for blocks in (1, NODE_BLOCKS, NODE_BLOCKS + 1, 2 * NODE_BLOCKS - 1, len(chain)):
        assert index.match(chain[:blocks] + unique(3)) == {"a": blocks}
    assert index.blocks("a") == len(index) == len(chain)


def test_the_least_recently_used_prefix_leaves_first() -> None:
    index, old, new = big(), unique(8), unique(8)
    index.capacity("a", 16)
    index.stored("a", old)
    index.stored("a", new)
    index.stored("a", old)  # used again
    index.stored("a", unique(8))
    assert index.match(old) == {"a": 8}
    assert index.match(new) == {}
    assert index.blocks("a") == 16


def test_a_shared_prefix_outlives_what_continues_it() -> None:
    index, system = big(), unique(8)
    index.capacity("a", 20)
    for _ in range(50):
        index.stored("a", system + unique(4))
        assert index.blocks("a") <= 20
    assert index.match(system + unique(4)) == {"a": 8}


def test_lowering_a_capacity_takes_effect_at_once_and_only_there() -> None:
    index, chains = big(), [unique(8) for _ in range(4)]
    for chain in chains:
        index.stored("a", chain)
        index.stored("b", chain)
    index.capacity("a", 9)
    assert [index.match(chain) for chain in chains] == [{"b": 8}] * 3 + [{"a": 8, "b": 8}]


def test_a_chain_longer_than_the_capacity_is_held_as_far_as_it_fits() -> None:
    index, chain = big(), unique(200)
    index.capacity("a", 100)
    index.stored("a", chain)
    assert index.match(chain) == {"a": 100}


def test_a_capacity_of_nothing_holds_nothing() -> None:
    index, chain = big(), unique(5)
    index.capacity("a", 0)
    index.stored("a", chain)
    assert index.match(chain) == {}
    assert index.bytes_used == 0


def test_a_cleared_endpoint_keeps_its_capacity_and_starts_empty() -> None:
    index, chain = big(), unique(10)
    index.capacity("a", 10)
    index.stored("a", chain)
    index.cleared("a")
    assert index.match(chain) == {}
    assert index.blocks("a") == 0
    index.stored("a", unique(8))
    index.stored("a", chain)
    assert index.match(chain) == {"a": 10}
    assert index.blocks("a") == 10


def test_a_forgotten_endpoint_is_hidden_at_once_and_swept_in_slices() -> None:
    index, chains = big(), [unique(4) for _ in range(10)]
    for chain in chains:
        index.stored("a", chain)
    index.forget("a")
    assert all(index.match(chain) == {} for chain in chains)
    assert index.sweep(4) == 4
    assert len(index) == 24
    assert index.sweep(100) == 6
    assert index.sweep(100) == 0
    assert len(index) == index.bytes_used == 0


def test_a_name_that_comes_back_before_the_sweep_has_its_own_view() -> None:
    index, old, new = big(), unique(4), unique(4)
    index.stored("a", old)
    for _ in range(3):
        index.forget("a")
        index.stored("a", new)
        assert index.match(old) == {}
        assert index.match(new) == {"a": 4}
    index.stored("b", new)
    index.sweep(100)
    assert index.match(new) == {"a": 4, "b": 4}
    assert len(index) == 4


def test_removed_cuts_every_branch_that_continues_the_lost_block() -> None:
    index, shared = big(), unique(6)
    left, right = shared + unique(3), shared + unique(3)
    for endpoint in ("a", "b"):
        index.stored(endpoint, left)
        index.stored(endpoint, right)
    index.removed("a", left, 4)
    assert index.match(left) == {"a": 4, "b": 9}
    assert index.match(right) == {"a": 4, "b": 9}
    index.removed("b", unique(9), 2)  # not held: changes nothing
    index.removed("nobody", left, 0)
    assert index.match(left) == {"a": 4, "b": 9}


def test_bad_arguments_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="byte_budget must be positive, not 0"):
        PrefixIndex(0)
    with pytest.raises(ValueError, match="capacity of 'a' must not be negative, not -1"):
        big().capacity("a", -1)
    with pytest.raises(ValueError, match="keep_blocks must not be negative, not -2"):
        big().removed("a", unique(1), -2)


@pytest.mark.parametrize(("blocks", "endpoints"), [(1, 1), (16, 4), (70, 20)])
def test_the_budget_holds_in_real_memory_under_endless_unique_traffic(
    blocks: int, endpoints: int
) -> None:
    budget = 600_000
    index = PrefixIndex(budget)
    names = [f"endpoint-{i}" for i in range(endpoints)]
    peak_accounted = 0
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for turn in range(6 * budget // (600 + 30 * blocks)):
            index.stored(names[turn % endpoints], unique(blocks))
            peak_accounted = max(peak_accounted, index.bytes_used)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.95 * budget < peak_accounted <= budget  # full, so that the next line means something
    assert peak - before <= 1.05 * budget


def test_unique_prompts_of_4_kb_cost_at_most_160_bytes_a_block() -> None:
    index = PrefixIndex(2_000_000)
    for turn in range(3_000):
        index.stored(f"endpoint-{turn % 4}", unique(16))
    assert index.bytes_used / len(index) <= 160
