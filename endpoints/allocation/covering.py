"""Whether the nodes of a domain can hold a gang together, and how many pods each then takes.

Each node offers vectors (pods by role that fit there together); one is chosen for each node so
that the sum reaches what is needed. Partial sums of which another is at least as large are
dropped, so the answer is exact for node-local devices, unless sums had to be thinned out.
"""

from collections.abc import Sequence
from typing import NamedTuple

from endpoints.allocation.packing import Vector

MOST_SUMS = 4_000
Offers = tuple[Vector, ...]
"""What one node offers: vectors of which none is below another."""


class Cover(NamedTuple):
    """For each node in order, the vector that it takes (maybe of nothing)."""

    taken: tuple[Vector, ...]


def most_of(offers: Offers, role: int) -> int:
    """The most pods of a role that a node takes."""
    return max((vector[role] for vector in offers), default=0)


def totals(nodes: Sequence[Offers], roles: int) -> Vector:
    """For each role the most pods of it alone: an upper bound for each."""
    return tuple(sum(most_of(offers, role) for offers in nodes) for role in range(roles))


def weigh(vector: Vector, sizes: Vector) -> int:
    """Devices that so many pods use, at least one each: what a sum of vectors is bounded by."""
    return sum(count * max(size, 1) for count, size in zip(vector, sizes, strict=True))


def restricted(offers: Offers, roles: int) -> Offers:
    """The offers of a node that only some roles may use: a bit for each of them."""
    if not offers or roles + 1 == 1 << len(offers[0]):
        return offers
    kept = {
        tuple(count if roles >> role & 1 else 0 for role, count in enumerate(vector))
        for vector in offers
    }
    return tuple(sorted((one for one in kept if any(one)), reverse=True))


def cover(nodes: Sequence[Offers], need: Vector) -> Cover | None:
    """A choice whose sum reaches ``need``; None when there is none.

    What is taken may be more than needed: whoever uses it stops when the need is met.
    """
    bounds = totals(nodes, len(need))
    if any(bound < wanted for bound, wanted in zip(bounds, need, strict=True)):
        return None
    if len(need) == 1:
        return Cover(tuple(max(offers, default=(0,)) for offers in nodes))
    start: Vector = tuple(0 for _ in need)
    steps: list[dict[Vector, tuple[Vector, Vector]]] = []
    sums: list[Vector] = [start]
    order = sorted(range(len(nodes)), key=lambda at: -sum(map(sum, nodes[at])))
    for at in order:
        if need in (steps[-1] if steps else ()):
            break
        made: dict[Vector, tuple[Vector, Vector]] = {}
        for have in sums:
            made.setdefault(have, (have, start))
            for vector in nodes[at]:
                after = tuple(map(min, need, map(int.__add__, have, vector)))
                made.setdefault(after, (have, vector))
        sums = _undominated(list(made))
        steps.append(made)
    if not steps or need not in steps[-1]:
        return None
    taken = [start for _ in nodes]
    have = need
    for made, at in zip(reversed(steps), reversed(order[: len(steps)]), strict=True):
        have, taken[at] = made[have]
    return Cover(tuple(taken))


def _undominated(sums: list[Vector]) -> list[Vector]:
    sums.sort(reverse=True)
    if sums and len(sums[0]) == 2:
        kept, best = [], -1
        for one in sums:
            if one[1] > best:
                kept.append(one)
                best = one[1]
        return kept
    found: list[Vector] = []
    for one in sums[:MOST_SUMS]:
        if not any(all(a <= b for a, b in zip(one, other, strict=True)) for other in found):
            found.append(one)
    return found
