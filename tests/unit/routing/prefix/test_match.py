import os
from array import array

import pytest

from routing.prefix.index import PrefixIndex
from routing.prefix.match import Match, together
from routing.request import Chain

NAMES = [f"e{number}" for number in range(12)]


def unique(blocks: int) -> Chain:
    return array("Q", os.urandom(8 * blocks))


def filled() -> tuple[PrefixIndex, Chain]:
    """All hold 5 blocks of the chain, the first six 9, the first two all 12."""
    index, chain = PrefixIndex(1 << 24), unique(12)
    for names, blocks in ((NAMES, 5), (NAMES[:6], 9), (NAMES[:2], 12)):
        for name in names:
            index.stored(name, chain[:blocks])
    return index, chain


@pytest.mark.parametrize("few", [0, 1, 2, 5, 6, 11, 12, 100])
def test_looking_answers_as_matching_does_wherever_many_begins(few: int) -> None:
    index, chain = filled()
    for change in range(4):
        match change:
            case 1:
                index.cleared("e0")  # hidden, and filed under another key when it comes back
                index.forget("e3")
            case 2:
                index.stored("e0", chain[:5])
            case 3:
                index.sweep(1_000)
        seen = index.look(chain, few)
        spelled = index.match(chain)
        assert {name: seen.blocks(name) for name in NAMES if seen.blocks(name)} == spelled
        assert seen.blocks("stranger") == 0
        assert seen.few.items() <= spelled.items()
        assert all(len(holders) > few for _, holders in seen.wide)


def test_wide_tables_come_longest_first_and_tell_who_is_in_them() -> None:
    index, chain = filled()
    seen = index.look(chain, 2)
    assert seen.few == {"e0": 12, "e1": 12}
    assert [blocks for blocks, _ in seen.wide] == [9, 5]
    names = NAMES + NAMES
    holders = seen.wide[0][1]
    assert seen.among([11, 0, 6, 5], names, 1, holders) == [11, 0]
    index.cleared("e1")
    assert index.look(chain, 2).among(range(12), names, 0, holders) == [0, 2, 3, 4, 5]


def test_what_is_held_of_several_prompts_adds_up() -> None:
    held = together([{"a": 3, "b": 1}, {"a": 2}, {}])
    assert [held.blocks(name) for name in "abc"] == [5, 1, 0]
    assert Match({}).blocks("a") == 0
