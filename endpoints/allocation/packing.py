"""Which pods fit on one node together, and with which devices: an exact search over kinds.

A claim is filled wish by wish, device by device, with backtracking, as the scheduler's allocator
does; pods follow each other, with backtracking over what earlier pods took. States that led
nowhere are remembered. Searches are bounded: one that runs out of steps counts as "does not fit".
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from endpoints.allocation.ask import Ask, Bond
from endpoints.allocation.stock import CounterKey, Kind, Stock

MOST_PODS = 110
"""Pods that a kubelet takes when nobody says otherwise."""
MOST_STEPS = 4_000
_MOST_VECTORS = 512
Vector = tuple[int, ...]
"""Pods by role."""
Filling = tuple[tuple[int, tuple[int, ...]], ...]
"""What one pod's wishes get: (place of the wish, places of kinds, one for each device)."""


class Packed(NamedTuple):
    """Pods of one node in order, each with its role and what it gets."""

    pods: tuple[tuple[int, Filling], ...]


class _Held:
    """What is left while pods are tried out. Every change is undone by whoever made it."""

    def __init__(self, stock: Stock) -> None:
        self.free = list(stock.free)
        self.counters: dict[CounterKey, int] = dict(stock.counters)
        self.left: list[dict[str, int] | None] = [
            None if kind.left is None else dict(kind.left) for kind in stock.kinds
        ]
        self.holders = [int(kind.started) for kind in stock.kinds]

    def key(self) -> tuple[object, ...]:
        """Equal keys: the same is left."""
        shares = tuple(tuple(one.values()) if one is not None else None for one in self.left)
        return (tuple(self.free), tuple(self.counters.values()), shares, tuple(self.holders))


class Packer:
    """Searches on one node's stock for one ask."""

    def __init__(self, ask: Ask, stock: Stock) -> None:
        self.ask = ask
        self.stock = stock
        self.gave_up = False
        self._steps = 0
        self._held = _Held(stock)
        self._bonds: tuple[tuple[Bond, ...], ...] = tuple(
            tuple(bond for bond in ask.bonds if place in bond.wishes)
            for place in range(len(ask.wishes))
        )
        self._places = {bond: place for place, bond in enumerate(ask.bonds)}
        self._of_wish = tuple(
            tuple(place for place, kind in enumerate(stock.kinds) if kind.mask >> wish & 1)
            for wish in range(len(ask.wishes))
        )

    def pack(self, vector: Vector) -> Packed | None:
        """Devices for so many pods of each role, or None when they do not fit together."""
        self._held = _Held(self.stock)
        self._steps = MOST_STEPS
        order = sorted(
            (role for role, count in enumerate(vector) if count),
            key=lambda role: (-self.ask.sizes[role], role),
        )
        roles = [role for role in order for _ in range(vector[role])]
        dead: set[tuple[object, ...]] = set()
        open_: list[Iterator[Filling]] = []
        made: list[Filling] = []
        keys: list[tuple[object, ...]] = []
        while True:
            if len(made) == len(roles):
                return Packed(tuple(zip(roles, made, strict=True)))
            key = (len(made), *self._held.key())
            if key in dead:
                filling = None
            else:
                open_.append(self._pod(roles[len(made)]))
                keys.append(key)
                filling = next(open_[-1], None)
                if filling is None:
                    dead.add(keys.pop())
                    open_.pop()
            while filling is None and open_:
                made.pop()
                filling = next(open_[-1], None)
                if filling is None:
                    dead.add(keys.pop())
                    open_.pop()
            if filling is None or self._steps <= 0:
                self.gave_up |= self._steps <= 0
                return None
            made.append(filling)

    def first_fit(self, roles: Sequence[int]) -> bool:
        """Whether pods of these roles find devices one after the other, as the scheduler does it.

        It backtracks inside of a claim, but never takes back what an earlier pod has.
        """
        self._held = _Held(self.stock)
        self._steps = MOST_STEPS
        held = []  # what a pod takes is taken for as long as its search is kept
        for role in roles:
            pod = self._pod(role)
            held.append(pod)
            if next(pod, None) is None:
                return False
        return True

    def frontier(self, most: Vector) -> tuple[Vector, ...]:
        """The largest vectors that fit, none below another; () when nothing does."""
        bounds = [
            min(most[role], MOST_PODS, self._bound(role)) if self.stock.roles >> role & 1 else 0
            for role in range(len(most))
        ]
        found: list[Vector] = []
        self._extend((), bounds, found)
        return pareto(found)

    def _extend(self, head: Vector, bounds: list[int], found: list[Vector]) -> None:
        role = len(head)
        rest = len(bounds) - role - 1
        least, most = 0, bounds[role]
        while least < most:  # fitting is monotone: fewer pods fit wherever more do
            middle = (least + most + 1) // 2
            if self.pack((*head, middle, *(0 for _ in range(rest)))) is not None:
                least = middle
            else:
                most = middle - 1
        if rest == 0:
            found.append((*head, least))
            return
        for count in range(least, -1, -1):
            if len(found) >= _MOST_VECTORS:
                return
            self._extend((*head, count), bounds, found)

    def _bound(self, role: int) -> int:
        """At least as many pods as fit, from each wish on its own."""
        best = MOST_PODS
        for place in self.ask.of_role[role]:
            wish = self.ask.wishes[place]
            kinds = self._of_wish[place]
            if wish.every:
                enough = self.stock.every[place] > 0
                best = min(best, (MOST_PODS if wish.admin else self._every_bound(place)) * enough)
            elif wish.admin:
                there = sum(self.stock.there[kind] for kind in kinds)
                best = min(best, MOST_PODS * (there >= wish.devices))
            elif not any(self.stock.kinds[kind].left is not None for kind in kinds):
                best = min(best, sum(self.stock.free[kind] for kind in kinds) // wish.devices)
            else:
                best = min(best, self._share_bound(place))
        return best

    def _every_bound(self, place: int) -> int:
        shared = all(self.stock.kinds[kind].left is not None for kind in self._of_wish[place])
        return MOST_PODS if shared else 1

    def _share_bound(self, place: int) -> int:
        total = 0
        for at in self._of_wish[place]:
            kind = self.stock.kinds[at]
            if kind.left is None:
                total += self.stock.free[at]
                continue
            left, takes = dict(kind.left), dict(dict(kind.takes).get(place, ()))
            total += min(
                (left[name] // amount for name, amount in takes.items() if amount),
                default=MOST_PODS,
            )
        return total // self.ask.wishes[place].devices

    def _pod(self, role: int) -> Iterator[Filling]:
        """Each way to fill one pod's claim; what it takes is taken until it is asked for more."""
        taken: list[tuple[int, tuple[int, ...]]] = []
        bonds: tuple[object, ...] = tuple(None for _ in self.ask.bonds)
        yield from self._wish(self.ask.of_role[role], 0, bonds, taken)

    def _wish(
        self,
        places: tuple[int, ...],
        at: int,
        bonds: tuple[object, ...],
        taken: list[tuple[int, tuple[int, ...]]],
    ) -> Iterator[Filling]:
        if at == len(places):
            yield tuple(taken)
            return
        place = places[at]
        wish = self.ask.wishes[place]
        kinds = self._of_wish[place]
        if wish.every:
            count = self.stock.every[place]
            if count == 0:
                return
            held = self.stock.there if wish.admin else self._held.free
            if sum(held[kind] for kind in kinds) != count:
                return
        else:
            count = wish.devices
        chosen: list[int] = []
        for after in self._devices(place, kinds, 0, count, bonds, chosen, taken):
            taken.append((place, tuple(chosen)))
            yield from self._wish(places, at + 1, after, taken)
            taken.pop()

    def _devices(
        self,
        place: int,
        kinds: tuple[int, ...],
        start: int,
        count: int,
        bonds: tuple[object, ...],
        chosen: list[int],
        taken: list[tuple[int, tuple[int, ...]]],
    ) -> Iterator[tuple[object, ...]]:
        """Each choice of ``count`` devices from kinds on, with what the bonds are then."""
        if count == 0:
            yield bonds
            return
        admin = self.ask.wishes[place].admin
        for index in range(start, len(kinds)):
            at = kinds[index]
            self._steps -= 1
            if self._steps <= 0:
                return
            kind = self.stock.kinds[at]
            after = self._bound_by(place, kind, bonds)
            if after is None:
                continue
            if admin:
                used = chosen.count(at) + sum(
                    got.count(at) for wish, got in taken if self.ask.wishes[wish].admin
                )
                if used >= self.stock.there[at]:
                    continue
                undo = None
            elif not self._take(place, at, kind):
                continue
            else:
                undo = at
            chosen.append(at)
            # A shared device is taken once by a wish; of others there may be more of the kind.
            again = index + 1 if kind.left is not None else index
            yield from self._devices(place, kinds, again, count - 1, after, chosen, taken)
            chosen.pop()
            if undo is not None:
                self._give_back(place, at, kind)
            if self.ask.wishes[place].every:  # leaving one out can't lead to all of them
                return

    def _bound_by(
        self, place: int, kind: Kind, bonds: tuple[object, ...]
    ) -> tuple[object, ...] | None:
        if not self._bonds[place]:
            return bonds
        after = list(bonds)
        for bond in self._bonds[place]:
            value = kind.values[bond.attribute]
            at = self._places[bond]
            joined = None if value is None else _joined(bond, after[at], value)
            if joined is None:
                return None
            after[at] = joined
        return tuple(after)

    def _take(self, place: int, at: int, kind: Kind) -> bool:
        held = self._held
        if held.free[at] <= 0:
            return False
        left = held.left[at]
        if left is None:
            if kind.consumes and not self._count(kind):
                return False
            held.free[at] -= 1
            return True
        takes = dict(kind.takes)[place]
        if any(left[name] < amount for name, amount in takes):
            return False
        # A shared device takes of the counters once, with its first holder.
        if kind.consumes and not held.holders[at] and not self._count(kind):
            return False
        held.holders[at] += 1
        for name, amount in takes:
            left[name] -= amount
        return True

    def _count(self, kind: Kind) -> bool:
        counters = self._held.counters
        if any(counters[key] < amount for key, amount in kind.consumes):
            return False
        for key, amount in kind.consumes:
            counters[key] -= amount
        return True

    def _give_back(self, place: int, at: int, kind: Kind) -> None:
        held = self._held
        left = held.left[at]
        if left is None:
            held.free[at] += 1
        else:
            held.holders[at] -= 1
            for name, amount in dict(kind.takes)[place]:
                left[name] += amount
        if kind.consumes and (left is None or not held.holders[at]):
            for key, amount in kind.consumes:
                held.counters[key] += amount


def _joined(bond: Bond, held: object, value: tuple[type, object]) -> object | None:
    """What a bond holds with one more device; None when it breaks.

    A match holds what all have in common: one value, or what is in all lists. A distinction holds
    every value so far.
    """
    type_, one = value
    values = frozenset((type(each), each) for each in one) if type_ is tuple else frozenset([value])  # type: ignore[attr-defined]
    if bond.distinct:
        seen = held if isinstance(held, frozenset) else frozenset()
        return None if seen & values else seen | values
    common = values & held if isinstance(held, frozenset) else values
    return common or None


def pareto(vectors: list[Vector]) -> tuple[Vector, ...]:
    """Those that no other is at least as large as, in order; without the vector of nothing."""
    kept: list[Vector] = []
    for one in sorted(set(vectors), reverse=True):
        below = any(all(a <= b for a, b in zip(one, other, strict=True)) for other in kept)
        if any(one) and not below:
            kept.append(one)
    return tuple(kept)
