"""Victims: whose cache is worth least goes first."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.scaling.victims import Candidate, WarmTokens, in_order

_HOLDERS = st.dictionaries(
    st.sampled_from("abcd"), st.integers(0, 12).map(lambda blocks: 64.0 * blocks)
)


def _warm(*prompts: tuple[list[int], int, dict[str, float]]) -> WarmTokens:
    warm = WarmTokens()
    for hashes, used, held in prompts:
        warm.add(array("Q", hashes), used, 64.0, held)
    return warm


def _names(warm: WarmTokens, *names: str, rate: float = 1_000.0) -> list[str]:
    order = in_order([Candidate(name) for name in names], warm, prefill_rate=rate)
    return [victim.name for victim in order]


def test_the_endpoint_with_the_least_used_prefix_goes_first() -> None:
    warm = _warm(([1, 2, 3], 3, {"a": 192.0}), ([7], 1, {"b": 64.0}))
    assert _names(warm, "a", "b", "c") == ["c", "b", "a"]


def test_what_nobody_used_is_worth_nothing() -> None:
    warm = _warm((list(range(100)), 1, {"a": 6_400.0}), ([200, 201], 2, {"b": 128.0}))
    assert warm.sole("a") == 64.0
    assert _names(warm, "a", "b") == ["a", "b"]


def test_a_block_counts_once_however_often_it_was_used() -> None:
    held = {"a": 128.0}
    warm = _warm(([1, 2], 2, held), ([1, 2], 2, held), ([1, 2, 3], 3, {"a": 192.0}))
    assert warm.sole("a") == 192.0


def test_a_copy_elsewhere_makes_a_prefix_worthless_until_the_copy_goes() -> None:
    warm = _warm(([1, 2, 3, 4], 4, {"a": 256.0, "b": 256.0}), ([9, 8], 2, {"c": 128.0}))
    assert warm.sole("a") == 0.0
    order = in_order([Candidate(name) for name in "abc"], warm, prefill_rate=64.0)
    assert [victim.name for victim in order] == ["a", "c", "b"]
    assert order[2].sole_tokens == 256.0


def test_who_stays_in_any_case_keeps_its_copy() -> None:
    warm = _warm(([1, 2], 2, {"a": 128.0, "kept": 128.0}), ([5], 1, {"b": 64.0}))
    assert _names(warm, "a", "b") == ["a", "b"]


def test_work_in_flight_weighs_as_much_as_the_cache_it_would_take_to_compute() -> None:
    warm = _warm(([1, 2], 2, {"a": 128.0}))
    busy = [Candidate("a"), Candidate("b", drain_seconds=1.0)]
    assert [v.name for v in in_order(busy, warm, prefill_rate=64.0)] == ["b", "a"]
    assert [v.name for v in in_order(busy, warm, prefill_rate=1_280.0)] == ["a", "b"]


def test_who_is_not_ready_goes_first_and_the_youngest_among_equals() -> None:
    order = in_order(
        [Candidate("old", age=90.0), Candidate("new", age=5.0), Candidate("down", ready=False)],
        WarmTokens(),
        prefill_rate=1.0,
    )
    assert [victim.name for victim in order] == ["down", "new", "old"]
    assert order[0].reason == "not ready"


def test_no_more_than_asked_for() -> None:
    assert (
        len(in_order([Candidate("a"), Candidate("b")], WarmTokens(), prefill_rate=1, count=1)) == 1
    )
    assert in_order([], WarmTokens(), prefill_rate=1, count=3) == ()


def test_a_rate_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="prefill_rate"):
        in_order([], WarmTokens(), prefill_rate=0.0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12), _HOLDERS), max_size=6))
def test_tokens_are_counted_once_and_greedy_costs_add_up(
    prompts: list[tuple[int, int, dict[str, float]]],
) -> None:
    # Prompts of four families; in each family a prompt is a prefix of the longer ones.
    warm = WarmTokens()
    used: dict[int, tuple[int, dict[str, float]]] = {}
    for family, blocks, held in prompts:
        known, holders = used.setdefault(family, (0, held))
        used[family] = (max(known, blocks), holders)
        warm.add(array("Q", range(family * 100, family * 100 + 12)), blocks, 64.0, holders)
    counted = sum(warm.by_holders().values())
    assert counted == sum(
        min(blocks * 64.0, max(holders.values(), default=0.0)) for blocks, holders in used.values()
    )
    order = in_order([Candidate(name) for name in "abcd"], warm, prefill_rate=1.0)
    assert sum(victim.sole_tokens for victim in order) == counted  # with everybody all is lost
    gone: list[str] = []
    for victim in order:
        assert victim.sole_tokens == warm.sole(victim.name, gone)
        gone.append(victim.name)
