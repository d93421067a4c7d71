"""Walking a prompt's blocks through tables of holders: who holds how long a leading run.

A table maps a block's hash to its holders as one integer of bits. Consecutive blocks often share
one integer object, so that most steps compare identities only.
"""

from collections.abc import Mapping, Sequence

from routing.request import Chain


def runs(table: Mapping[int, int], chain: Chain, live: int) -> list[tuple[int, int]]:
    """The leading runs of ``chain`` in one tier: (holders, blocks), each holder once.

    Only of the slots in ``live``; those that lack the first block are left out.
    """
    found: list[tuple[int, int]] = []
    last, blocks = -1, 0
    for here in map(table.get, chain):
        if here is not last:
            if here is None:
                break
            last = here
            left = live & here
            if left != live:
                if blocks:
                    found.append((live ^ left, blocks))
                live = left
                if not live:
                    return found
        blocks += 1
    if blocks:
        found.append((live, blocks))
    return found


def runs_anywhere(
    tables: Sequence[Mapping[int, int]], chain: Chain, live: int
) -> list[tuple[int, int]]:
    """`runs` over several tiers: a block may lie in any of them."""
    found: list[tuple[int, int]] = []
    last: tuple[int | None, ...] = ()
    blocks = 0
    for here in zip(*(map(table.get, chain) for table in tables), strict=True):
        if here != last:
            last = here
            anywhere = 0
            for holders in here:
                if holders is not None:
                    anywhere |= holders
            left = live & anywhere
            if left != live:
                if blocks:
                    found.append((live ^ left, blocks))
                live = left
                if not live:
                    return found
        blocks += 1
    if blocks:
        found.append((live, blocks))
    return found
