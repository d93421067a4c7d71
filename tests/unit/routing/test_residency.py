from array import array

import pytest

from routing.prefix.residency import Held, Residency, Tier
from routing.prefix.tokens import blocks_of

CHAIN = blocks_of(b"", range(160), 16)  # ten blocks
GPU, CPU = Tier.GPU, Tier.CPU


def residency(byte_budget: int = 1 << 24) -> Residency:
    return Residency(byte_budget)


def test_an_endpoint_holds_the_leading_run_without_a_hole() -> None:
    view = residency()
    view.stored("a", 16, CHAIN[:4], GPU)
    view.stored("a", 16, CHAIN[6:], GPU)
    view.stored("b", 16, CHAIN[1:], GPU)
    assert view.look({16: CHAIN}) == {"a": Held(64, 64)}
    view.stored("a", 16, CHAIN[4:6], GPU)
    view.stored("b", 16, CHAIN[:1], GPU)
    assert view.look({16: CHAIN}) == {"a": Held(160, 160), "b": Held(160, 160)}


def test_a_lower_tier_makes_blocks_reachable_but_not_resident_in_the_gpu() -> None:
    view = residency()
    view.stored("a", 16, CHAIN[:3], GPU)
    view.stored("a", 16, CHAIN[2:7], CPU)
    view.stored("a", 16, CHAIN[7:8], Tier.SHARED)
    view.stored("b", 16, CHAIN[:2], Tier.DISK)
    assert view.look({16: CHAIN}) == {"a": Held(48, 128), "b": Held(0, 32)}


def test_an_endpoint_is_matched_in_its_own_block_size() -> None:
    view = residency()
    large = blocks_of(b"", range(160), 64)
    view.stored("small", 16, CHAIN[:3], GPU)
    view.stored("large", 64, large, GPU)
    assert view.sizes == {16, 64}
    assert view.size_of("large") == 64
    assert view.size_of("nobody") is None
    assert view.look({16: CHAIN, 64: large}) == {"small": Held(48, 48), "large": Held(128, 128)}
    assert view.look({64: large}) == {"large": Held(128, 128)}
    assert view.look({16: array("Q")}) == {}
    view.forget("large")
    assert view.sizes == {16}


def test_another_block_size_needs_an_empty_view() -> None:
    view = residency()
    view.stored("a", 16, CHAIN, GPU)
    with pytest.raises(ValueError, match=r"64 tokens.*16.*cleared"):
        view.stored("a", 64, [1], GPU)
    view.cleared("a")
    assert view.size_of("a") == 16
    view.stored("a", 64, [1], GPU)
    assert view.sizes == {64}
    with pytest.raises(ValueError, match="block_tokens"):
        view.stored("b", 0, [1], GPU)


def test_a_removed_block_ends_the_run() -> None:
    view = residency()
    view.stored("a", 16, CHAIN, GPU)
    view.stored("b", 16, CHAIN, GPU)
    view.removed("a", [CHAIN[5], 12345], GPU)
    view.removed("a", [CHAIN[1]], CPU)  # it never was there
    assert view.look({16: CHAIN}) == {"a": Held(80, 80), "b": Held(160, 160)}
    assert (view.blocks("a"), view.blocks("b")) == (9, 10)


def test_two_copies_need_two_removals() -> None:
    view = residency()
    view.stored("a", 16, CHAIN, GPU)
    view.stored("a", 16, CHAIN[:5], GPU)
    view.removed("a", CHAIN, GPU)
    assert view.look({16: CHAIN}) == {"a": Held(80, 80)}
    view.removed("a", CHAIN, GPU)
    assert view.look({16: CHAIN}) == {}
    assert view.blocks("a") == 0
    view.stored("a", 16, [CHAIN[0], CHAIN[0]], GPU)
    view.removed("a", CHAIN, GPU)
    assert view.blocks("a") == 1


def test_a_cleared_endpoint_holds_nothing_at_once_and_others_keep_theirs() -> None:
    view = residency()
    for name in ("a", "b"):
        view.stored(name, 16, CHAIN, GPU)
    view.cleared("a")
    assert view.look({16: CHAIN}) == {"b": Held(160, 160)}
    assert view.covers("a")
    view.stored("a", 16, CHAIN[:2], GPU)
    assert view.look({16: CHAIN}) == {"a": Held(32, 32), "b": Held(160, 160)}
    while view.sweep(3):
        pass
    assert view.look({16: CHAIN}) == {"a": Held(32, 32), "b": Held(160, 160)}


def test_memory_comes_back_after_endpoints_left() -> None:
    view = residency()
    view.follow("stays")
    empty = view.bytes_used
    for round_ in range(50):
        view.stored(f"pod-{round_}", 16, CHAIN, GPU)
        view.forget(f"pod-{round_}")
        view.sweep(1000)
    assert len(view) == 0
    assert view.bytes_used <= 2 * empty  # slots are used again


def test_a_slot_is_not_given_to_another_before_it_is_swept() -> None:
    view = residency()
    view.stored("old", 16, list(range(1000)), GPU)
    view.forget("old")
    view.stored("new", 16, [5000], GPU)
    assert view.look({16: array("Q", [0, 1])}) == {}
    assert view.blocks("new") == 1
    view.sweep(10_000)
    view.follow("newer")
    assert view.look({16: array("Q", [0, 1])}) == {}


def test_storing_pays_back_what_left() -> None:
    view = residency()
    view.stored("old", 16, list(range(1000)), GPU)
    view.forget("old")
    for block in range(2000, 3000):
        view.stored("new", 16, [block], GPU)
    assert len(view) == 1000


def test_whoever_reported_is_covered_until_forgotten() -> None:
    view = residency()
    assert not view.covers("a")
    view.follow("a")
    assert view.covers("a")
    view.cleared("b")
    assert view.covers("b")
    view.forget("b")
    assert not view.covers("b")
    view.forget("b")


def test_what_exceeds_the_budget_is_dropped_and_counted() -> None:
    view = residency(100_000)
    kept = view.stored("a", 16, list(range(10_000)), GPU)
    assert 0 < kept < 10_000
    assert view.dropped == 10_000 - kept
    assert view.bytes_used <= view.byte_budget
    assert view.incomplete("a")
    assert view.blocks("a") == kept
    others = list(range(1 << 40, (1 << 40) + 200))
    assert view.stored("b", 16, others, GPU) < 200
    view.forget("b")
    assert view.look({16: array("Q", range(3))}) == {"a": Held(48, 48)}
    view.cleared("a")
    assert not view.incomplete("a")
    view.sweep(10_000)
    assert view.stored("b", 16, others, GPU) == 200


def test_missed_reports_make_a_view_incomplete_until_it_is_cleared() -> None:
    view = residency()
    assert not view.incomplete("a")
    view.mark_incomplete("a")
    assert view.incomplete("a")
    view.cleared("a")
    assert not view.incomplete("a")


def test_many_holders_of_one_prefix_are_all_named() -> None:
    view = residency()
    names = {f"pod-{place}" for place in range(300)}
    for name in sorted(names):
        view.stored(name, 16, CHAIN, GPU)
    for name in sorted(names)[::3]:
        view.removed(name, CHAIN[4:], GPU)
    found = view.look({16: CHAIN})
    assert found.keys() == names
    assert sum(held.gpu_tokens == 64 for held in found.values()) == 100


def test_budgets_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="byte_budget"):
        Residency(0)
    with pytest.raises(ValueError, match="feeder_bytes"):
        Residency(1, -1)
