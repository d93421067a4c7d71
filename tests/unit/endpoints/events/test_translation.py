from typing import Any

import pytest

from endpoints.events.decoding import decode
from endpoints.events.health import FeedHealth
from endpoints.events.translation import Translator
from routing.prefix.residency import Held, Residency, Tier
from routing.prefix.tokens import blocks_of, token_salt
from tests.support.event_messages import CLEARED, SIZE, batch, removed, row, stored, tokens_of


class Engine:
    """An endpoint whose events are translated, and what the view then says of prompts."""

    def __init__(self, budget: int = 1 << 24) -> None:
        self.view = Residency(budget)
        self.health = FeedHealth()
        self.translator = Translator("pod", self.view, self.health)

    def tells(self, *events: Any) -> None:
        self.translator.apply(decode(batch(*events)).events)

    def holds(
        self, tokens: list[int], adapter: str | None = None, salt: str | None = None
    ) -> tuple[int, int]:
        """Blocks of the prompt: in the GPU, and anywhere."""
        chain = blocks_of(token_salt(adapter, salt), tokens, SIZE)
        held = self.view.look({SIZE: chain}).get("pod", Held(0, 0))
        return held.gpu_tokens // SIZE, held.reachable_tokens // SIZE


@pytest.fixture
def engine() -> Engine:
    return Engine()


def test_prompts_are_found_whatever_the_engine_calls_their_blocks(engine: Engine) -> None:
    engine.tells(stored([1, 2, 3]), stored([4], 3), stored([5], 2))
    assert engine.holds(tokens_of(1, 2, 3, 4)) == (4, 4)
    assert engine.holds(tokens_of(1, 2, 5)) == (3, 3)
    assert engine.holds(tokens_of(1, 9)) == (1, 1)
    assert engine.holds(tokens_of(2, 3)) == (0, 0)
    assert engine.health.stored_blocks == 5


def test_arrays_and_bytes_are_followed_as_well(engine: Engine) -> None:
    wide = [bytes(24) + number.to_bytes(8, "big") for number in (1, 2, 3)]
    engine.tells(row(stored(wide[:2])), row(stored(wide[2:], wide[1])))
    assert engine.holds(tokens_of(1, 2, 3)) == (3, 3)
    engine.tells(row(removed([3])))
    assert engine.holds(tokens_of(1, 2, 3)) == (2, 2)


def test_a_removed_block_is_gone_until_it_is_stored_again(engine: Engine) -> None:
    engine.tells(stored([1, 2, 3]), removed([2]))
    assert engine.holds(tokens_of(1, 2, 3)) == (1, 1)
    engine.tells(stored([2], 1))
    assert engine.holds(tokens_of(1, 2, 3)) == (3, 3)
    engine.tells(removed([1]), removed([2]), removed([3]), removed([77]))
    assert engine.view.blocks("pod") == 0
    assert len(engine.translator) == 0


def test_removals_and_stores_take_effect_in_order(engine: Engine) -> None:
    engine.tells(stored([1]), removed([1]), stored([1]), removed([1]), stored([1]))
    assert engine.holds(tokens_of(1)) == (1, 1)
    engine.tells(removed([1]), CLEARED, stored([2]))
    assert engine.holds(tokens_of(2)) == (1, 1)


def test_what_continues_an_unknown_block_cannot_be_placed(engine: Engine) -> None:
    engine.tells(stored([2, 3], 1), stored([4], 3))
    assert engine.view.blocks("pod") == 0
    assert engine.health.unknown_parents == 2
    assert engine.health.unplaced_blocks == 3


def test_a_parent_of_zero_means_none_unless_it_is_known(engine: Engine) -> None:
    engine.tells(stored([1], 0))
    assert engine.holds(tokens_of(1)) == (1, 1)
    assert engine.health.unknown_parents == 0


def test_clearing_forgets_everything(engine: Engine) -> None:
    engine.tells(stored([1, 2]), CLEARED)
    assert engine.holds(tokens_of(1)) == (0, 0)
    engine.tells(stored([3], 2))
    assert engine.health.unknown_parents == 1
    assert engine.view.covers("pod")


def test_tiers_are_kept_apart(engine: Engine) -> None:
    engine.tells(stored([1, 2, 3]), stored([1, 2], medium="CPU_PINNED"), removed([2]))
    assert engine.holds(tokens_of(1, 2, 3)) == (1, 3)
    engine.tells(removed([2], medium="cpu"))
    assert engine.holds(tokens_of(1, 2, 3)) == (1, 1)
    engine.tells(stored([2], 1, locality="REMOTE"))
    assert engine.holds(tokens_of(1, 2, 3)) == (1, 3)
    assert engine.view.blocks_in("pod", Tier.SHARED) == 1


def test_offloading_names_blocks_without_their_tokens(engine: Engine) -> None:
    engine.tells(stored([1, 2, 3]))
    engine.tells(stored([1, 2, 99], tokens=[], medium="CPU", block_size=4 * SIZE))
    engine.tells(removed([1]), removed([2]), removed([3]))
    assert engine.holds(tokens_of(1, 2, 3)) == (0, 2)
    assert engine.health.unplaced_blocks == 1
    engine.tells(stored([4], 2))  # its parent is known from the lower tier
    assert engine.holds(tokens_of(1, 2, 4)) == (0, 3)
    engine.tells(removed([1, 2], medium="CPU"), removed([4]))
    assert len(engine.translator) == 0


def test_copies_must_all_be_removed(engine: Engine) -> None:
    engine.tells(stored([1, 2]), stored([1]), stored([2], tokens=[]))
    engine.tells(removed([1]), removed([2]))
    assert engine.holds(tokens_of(1, 2)) == (2, 2)
    engine.tells(removed([1]), removed([2]))
    assert engine.view.blocks("pod") == 0
    engine.tells(removed([1]), removed([2]))
    assert len(engine.translator) == 0


def test_one_name_for_two_contents_leaves_nothing_behind(engine: Engine) -> None:
    engine.tells(stored([1]), stored([1], tokens=[9, 9, 9, 9]))
    engine.tells(removed([1]), removed([1]))
    assert engine.view.blocks("pod") == 0


def test_adapters_and_cache_salts_keep_prompts_apart(engine: Engine) -> None:
    salted = [["s"], None]
    engine.tells(
        stored([1, 2], extra_keys=salted),
        stored([3], lora_name="fr", extra_keys=[["fr"]]),
        stored([4], lora_name="fr", extra_keys=[["fr", "s"]]),
        stored([5], 4, lora_name="fr", extra_keys=[["fr"]]),
        stored([6], lora_name="fr"),
    )
    assert engine.holds(tokens_of(1, 2), salt="s") == (2, 2)
    assert engine.holds(tokens_of(1, 2)) == (0, 0)
    assert engine.holds(tokens_of(3), adapter="fr") == (1, 1)
    assert engine.holds(tokens_of(3)) == (0, 0)
    assert engine.holds(tokens_of(4, 5), adapter="fr", salt="s") == (2, 2)
    assert engine.holds(tokens_of(4, 5), adapter="fr") == (0, 0)
    assert engine.holds(tokens_of(6), adapter="fr") == (1, 1)


def test_a_numbered_adapter_never_matches_the_base_model(engine: Engine) -> None:
    engine.tells(stored([1], lora_id=3))
    assert engine.view.blocks("pod") == 1
    assert engine.holds(tokens_of(1)) == (0, 0)
    assert engine.holds(tokens_of(1), adapter="3") == (0, 0)


def test_a_picture_ends_what_plain_prompts_can_share(engine: Engine) -> None:
    picture = ["hash-of-a-picture", 3]
    engine.tells(stored([1, 2, 3], extra_keys=[None, [picture], None]))
    assert engine.view.blocks("pod") == 3
    assert engine.holds(tokens_of(1, 2, 3)) == (1, 1)
    engine.tells(stored([4, 5], extra_keys=[[picture, "s"], None]))
    assert engine.holds(tokens_of(4, 5), salt="s") == (0, 0)


def test_only_groups_that_keep_whole_prefixes_count(engine: Engine) -> None:
    full: dict[str, Any] = {"group_idx": 0, "kv_cache_spec_kind": "full_attention"}
    sliding: dict[str, Any] = {"group_idx": 1, "kv_cache_spec_kind": "sliding_window"}
    engine.tells(stored([1, 2], **full), stored([1, 2], **sliding), stored([3], 2, **sliding))
    assert engine.holds(tokens_of(1, 2, 3)) == (2, 2)
    engine.tells(removed([1], group_idx=1))
    assert engine.holds(tokens_of(1, 2)) == (2, 2)
    engine.tells(removed([2], group_idx=0))
    assert engine.holds(tokens_of(1, 2)) == (1, 1)
    assert engine.health.unsupported_groups == 2


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({"kv_cache_spec_kind": "mla_attention", "group_idx": 2}, True),
        ({"kv_cache_spec_kind": "sink_full_attention"}, True),
        ({"group_idx": 0}, True),
        ({"group_idx": 1}, False),
        ({"kv_cache_spec_sliding_window": 1024}, False),
        ({"kv_cache_spec_kind": "mamba"}, False),
    ],
)
def test_kinds_of_groups(engine: Engine, fields: dict[str, Any], counts: bool) -> None:
    engine.tells(stored([1], **fields))
    assert engine.view.blocks("pod") == counts


def test_events_that_do_not_fit_are_counted_and_skipped(engine: Engine) -> None:
    engine.tells(stored([1, 2], tokens=[1, 2, 3, 4]))
    assert engine.health.misshapen_events == 1
    engine.tells(stored([1]), stored([2], 1, tokens=range(8), block_size=8))
    assert engine.health.other_block_size == 1
    assert engine.health.foreign_block_tokens == 8
    engine.tells(stored([3], 1, tokens=[1, 2, 3, 1 << 32]))
    assert engine.health.malformed_events == 1
    assert "index 3" in (engine.health.last_problem or "")
    assert engine.holds(tokens_of(1)) == (1, 1)
    assert engine.view.blocks("pod") == 1


def test_another_block_size_is_taken_once_nothing_is_left(engine: Engine) -> None:
    engine.tells(stored([1]), CLEARED, stored([2], tokens=range(8), block_size=8))
    assert engine.view.size_of("pod") == 8
    assert engine.health.other_block_size == 0


def test_an_unknown_medium_is_named_and_counts_as_the_farthest(engine: Engine) -> None:
    engine.tells(stored([1], medium="tape"))
    assert engine.health.unknown_media == {"tape": 1}
    assert engine.holds(tokens_of(1)) == (0, 1)
    engine.tells(*(stored([number], medium=f"m{number}") for number in range(100)))
    assert len(engine.health.unknown_media) < 40


def test_without_memory_nothing_is_remembered_beyond_the_view() -> None:
    engine = Engine(budget=20_000)
    engine.tells(stored(list(range(1, 1001))))
    held = engine.view.blocks("pod")
    assert 0 < held < 1000
    assert len(engine.translator) == held
    assert engine.view.incomplete("pod")
    assert engine.holds(tokens_of(*range(1, 1001))) == (held, held)
    engine.tells(*(removed([name]) for name in range(1, 1001)))
    assert engine.view.blocks("pod") == 0


def test_ranks_behind_one_endpoint_are_cleared_one_by_one() -> None:
    view, health = Residency(1 << 24), FeedHealth()
    ranks = [Translator("pod", view, health, alone=False) for _ in range(2)]
    for rank, tells in zip(ranks, ([stored([1, 2]), stored([1])], [stored([1, 3])]), strict=True):
        rank.apply(decode(batch(*tells)).events)
    ranks[0].clear()
    assert view.blocks("pod") == 2
    ranks[1].clear()
    assert view.blocks("pod") == 0
