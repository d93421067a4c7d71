"""Which nodes of a domain take how many pods: greedy where that works, exact where it does not.

The greedy way keeps room for big gangs: nodes that are partly used come before whole ones, and of
several the one of which least is left over. Where pods of one role should be near each other, or
all pods, it goes domain by domain, those first in which most fits.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from endpoints.allocation.covering import Offers, cover, restricted, totals, weigh
from endpoints.allocation.packing import Vector
from endpoints.allocation.profiles import Profile


class Seat(NamedTuple):
    """A node, as far as a gang may use it: ``roles`` has a bit for each role that may.

    ``offers``: what fits there of these roles.
    """

    node: str
    profile: Profile
    roles: int
    offers: Offers


def seat_of(node: str, profile: Profile, roles: int) -> Seat:
    """A node's seat for these roles."""
    return Seat(node, profile, roles, restricted(profile.offers, roles))


Seating = tuple[tuple[str, Vector], ...]
"""Nodes with the pods by role that each takes."""


def seat_all(seats: Sequence[Seat], need: Vector, sizes: Vector) -> Seating | None:
    """Places for all pods, or None when there are none. ``sizes``: devices of one pod by role."""
    offered = [seat for seat in seats if seat.offers]
    if sum(seat.profile.weight for seat in offered) < weigh(need, sizes):
        return None
    bounds = totals([seat.offers for seat in offered], len(need))
    if any(bound < wanted for bound, wanted in zip(bounds, need, strict=True)):
        return None
    made, left = _greedy(offered, need, sizes)
    if not any(left):
        return tuple(made)
    return _exact(offered, need)


def seat_by_group(groups: Sequence[Sequence[Seat]], need: Vector, sizes: Vector) -> Seating | None:
    """As `seat_all`, but in as few groups as it goes: the ones in which most fits come first."""
    offered = [[seat for seat in group if seat.offers] for group in groups]
    made: list[tuple[str, Vector]] = []
    left = need
    rest = [
        (totals([seat.offers for seat in group], len(need)), at)
        for at, group in enumerate(offered)
        if group
    ]
    while any(left) and rest:
        best = max(rest, key=lambda one: (weigh(tuple(map(min, one[0], left)), sizes), -one[1]))
        rest.remove(best)
        taken, left = _greedy(offered[best[1]], left, sizes)
        made += taken
    if not any(left):
        return tuple(made)
    return _exact([seat for group in offered for seat in group], need)


def _greedy(
    seats: Sequence[Seat], need: Vector, sizes: Vector
) -> tuple[list[tuple[str, Vector]], Vector]:
    """Seats taken one by one, and what is left to seat."""
    buckets: dict[tuple[int, int], list[str]] = {}
    profiles: dict[int, Profile] = {}
    offers: dict[tuple[int, int], Offers] = {}
    for seat in seats:  # equal profiles are one object
        profiles[id(seat.profile)] = seat.profile
        buckets.setdefault((id(seat.profile), seat.roles), []).append(seat.node)
        offers[id(seat.profile), seat.roles] = seat.offers
    for names in buckets.values():
        names.sort(reverse=True)
    made: list[tuple[str, Vector]] = []
    left = need
    while any(left):
        best: tuple[tuple[object, ...], tuple[int, int], Vector] | None = None
        for key, names in buckets.items():
            if not names:
                continue
            vector, used = _best_vector(offers[key], left, sizes)
            if not used:
                continue
            profile = profiles[key[0]]
            over = max(profile.free - used, 0)
            rank = (profile.whole and over > 0, over, profile.waits, -used, names[-1])
            if best is None or rank < best[0]:
                best = (rank, key, vector)
        if best is None:
            break
        _, key, vector = best
        made.append((buckets[key].pop(), vector))
        left = tuple(map(int.__sub__, left, vector))
    return made, left


def _best_vector(offers: Offers, left: Vector, sizes: Vector) -> tuple[Vector, int]:
    """What of the offers uses most, as far as it is needed; and devices (at least pods) used."""
    best: Vector = ()
    most = 0
    for offer in offers:
        vector = tuple(map(min, offer, left))
        used = weigh(vector, sizes)
        if used > most:
            best, most = vector, used
    return best, most


def _exact(seats: Sequence[Seat], need: Vector) -> Seating | None:
    kept: list[Seat] = []
    counts: dict[Offers, int] = {}
    for seat in seats:  # of equal nodes no more than there are pods can matter
        counts[seat.offers] = counts.get(seat.offers, 0) + 1
        if counts[seat.offers] <= sum(need):
            kept.append(seat)
    found = cover([seat.offers for seat in kept], need)
    if found is None:
        return None
    made: list[tuple[str, Vector]] = []
    left = need
    for seat, taken in zip(kept, found.taken, strict=True):
        vector = tuple(map(min, taken, left))
        if any(vector):
            made.append((seat.node, vector))
            left = tuple(map(int.__sub__, left, vector))
    return None if any(left) else tuple(made)


def per_node(seating: Seating, roles: int) -> Mapping[str, Vector]:
    """Each node once, with all pods that it takes."""
    found: dict[str, Vector] = {}
    for node, vector in seating:
        before = found.get(node, (0,) * roles)
        found[node] = tuple(map(int.__add__, before, vector))
    return found
