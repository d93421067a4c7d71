"""Pools that start at once share the starts."""

from endpoints.scaling.role import Role
from endpoints.scaling.together import Asking, grant

BOTH, PREFILL, DECODE = Role.BOTH, Role.PREFILL, Role.DECODE


def test_the_longest_waiting_pool_starts_first_and_each_gets_one() -> None:
    pools = [
        Asking("a", {BOTH: 0}, {BOTH: 4}, waiting_seconds=1.0),
        Asking("b", {BOTH: 0}, {BOTH: 4}, waiting_seconds=9.0),
        Asking("c", {BOTH: 0}, {BOTH: 4}, waiting_seconds=5.0),
    ]
    assert grant(pools, 0, 2) == {"a": {BOTH: 0}, "b": {BOTH: 1}, "c": {BOTH: 1}}
    assert grant(pools, 0, 5) == {"a": {BOTH: 1}, "b": {BOTH: 2}, "c": {BOTH: 2}}


def test_a_split_pool_starts_both_or_none() -> None:
    split = Asking("s", {PREFILL: 0, DECODE: 0}, {PREFILL: 2, DECODE: 3}, waiting_seconds=1.0)
    busy = Asking("b", {BOTH: 2}, {BOTH: 5})
    assert grant([split, busy], 2, 3)["s"] == {PREFILL: 0, DECODE: 0}
    assert grant([split, busy], 0, 2)["s"] == {PREFILL: 1, DECODE: 1}
    assert grant([split], 0, 1)["s"] == {PREFILL: 1, DECODE: 1}  # else never


def test_shrinking_is_never_held_back() -> None:
    assert grant([Asking("a", {BOTH: 5}, {BOTH: 2})], 9, 1) == {"a": {BOTH: 2}}


def test_nothing_is_left_wanting_with_room() -> None:
    pools = [Asking(name, {BOTH: 1}, {BOTH: 3}) for name in "abc"]
    assert grant(pools, 0, 100) == {name: {BOTH: 3} for name in "abc"}
