"""Where a gang could go, for one choice of alternatives: domain by domain, best first.

A domain is refused with a reason, or gets a `Placement`: nodes with pods by role, and the terms of
its score. Only the most promising domains are looked at closely.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, product
from typing import NamedTuple

from endpoints.allocation.covering import weigh
from endpoints.allocation.filling import Seat, Seating, per_node, seat_all, seat_by_group, seat_of
from endpoints.allocation.needs import Gang
from endpoints.allocation.packing import Vector
from endpoints.allocation.plan import Domain, Refusal, Term
from endpoints.allocation.sites import Site, Sites, homes
from endpoints.allocation.stock import Overlay

CLOSELY = 8
"""How many domains that can hold the gang are compared."""
_MOST_CORNERS = 64


class Placement(NamedTuple):
    """Nodes for all pods inside one site."""

    site: Site
    seating: Seating
    corners: tuple[tuple[str, Domain], ...]
    score: tuple[Term, ...]

    @property
    def rank(self) -> tuple[object, ...]:
        """Smaller is better."""
        name = self.site.domain.value if self.site.domain else ""
        return (*(term.value for term in self.score), name, self.seating)


class Search:
    """Looks for placements of one gang, as one ask of it sees the nodes."""

    def __init__(
        self, sites: Sites, gang: Gang, overlay: Overlay, neighbours: Mapping[str, int]
    ) -> None:
        """``neighbours``: for each domain of the spread level, how many replicas are there."""
        self.ask = sites.profiles.ask
        self.gang = gang
        self.topology = sites.topology
        self.neighbours = neighbours
        self.refusals: list[Refusal] = []
        self.possible = 0
        self.sites = sites.at(gang.reach.required, overlay)
        self._weight = weigh(self.ask.need, self.ask.sizes)
        wanted = gang.reach.preferred or gang.near
        self._homes: frozenset[str] | None = None
        if wanted is not None:
            self._homes = homes(sites.at(wanted, overlay), self.ask.need, self._weight)

    def ranked(self) -> list[Site]:
        """The sites that could hold the gang as far as bounds go, most promising first.

        The others are refused.
        """
        ranked: list[tuple[tuple[object, ...], Site]] = []
        for site in self.sites:
            if site.has_room(self.ask.need, self._weight):
                ranked.append((self._promise(site), site))
            else:
                self.refusals.append(self._refusal(site))
        ranked.sort(key=lambda one: one[0])
        return [site for _, site in ranked]

    def placements(self, closely: int = CLOSELY) -> list[Placement]:
        """The best placements, best first; `refusals` say which sites can't hold the gang."""
        found: list[Placement] = []
        for site in self.ranked():
            if len(found) >= closely:
                self.possible += 1
                continue
            made = self.place_in(site)
            if made is None:
                self.refusals.append(self._refusal(site))
            else:
                self.possible += 1
                found.append(made)
        return sorted(found, key=lambda one: one.rank)

    def place_in(self, site: Site) -> Placement | None:
        """The gang inside of one site."""
        for corners in self.corners(site):
            seats = self._seats(site, corners)
            seating = self._seating(seats)
            if seating is not None:
                named = tuple((self.gang.roles[role].name, domain) for role, domain, _ in corners)
                return Placement(site, seating, named, self.score(site, seating))
        return None

    def _refusal(self, site: Site) -> Refusal:
        for role, (bound, wanted) in enumerate(zip(site.most, self.ask.need, strict=True)):
            if bound < wanted:
                name = self.gang.roles[role].name
                reason = f"role {name}: {bound} of {wanted} pods fit"
                return Refusal(site.domain, "too-few", reason, name, bound, wanted)
        apart = [role.name for role in self.gang.roles if role.reach.required is not None]
        if apart:
            return Refusal(
                site.domain,
                "no-corner",
                f"role {', '.join(apart)}: no domain of its required level inside has room beside "
                "the other roles",
            )
        names = " and ".join(role.name for role in self.gang.roles)
        return Refusal(site.domain, "not-together", f"{names} fit there alone, but not together")

    def _promise(self, site: Site) -> tuple[object, ...]:
        """What sites are looked at first: least crowded, with one near place, fullest."""
        far = self._homes is not None and self._homes.isdisjoint(site.nodes)
        name = site.domain.value if site.domain else ""
        return (self._crowd(site.nodes), far, site.free, name)

    def _crowd(self, nodes: Iterable[str]) -> int:
        """Replicas of the pool in the least crowded domain of the spread level among the nodes."""
        if self.gang.spread is None:
            return 0
        found = {self.topology.domain_of(node, self.gang.spread) for node in nodes}
        return min((self.neighbours.get(str(one), 0) for one in found if one), default=0)

    # Roles with a level of their own

    def corners(self, site: Site) -> Iterable[tuple[tuple[int, Domain, frozenset[str]], ...]]:
        """For each role that must, or would rather, be in one domain: which; preferences first."""
        required = {
            place: role.reach.required
            for place, role in enumerate(self.gang.roles)
            if role.reach.required is not None
        }
        preferred = {
            place: role.reach.preferred
            for place, role in enumerate(self.gang.roles)
            if role.reach.preferred is not None
        }
        tries = [{**required, **preferred}, required] if preferred else [required]
        for levels in tries:
            options = [self._corners_of(site, role, level) for role, level in levels.items()]
            yield from islice(product(*options), _MOST_CORNERS)

    def _corners_of(
        self, site: Site, role: int, level: str
    ) -> list[tuple[int, Domain, frozenset[str]]]:
        place = self.topology.place(level)
        groups: dict[int, list[str]] = {}
        for node, profile in site.nodes.items():
            if profile.offers and node in place:
                groups.setdefault(place[node], []).append(node)
        found = []
        for at, nodes in groups.items():
            profiles = [site.nodes[node] for node in nodes]
            bound = sum(one.most[role] for one in profiles)
            if bound >= self.ask.need[role]:
                domain = self.topology.groups(level)[at].domain
                free = sum(one.free for one in profiles)
                found.append((free, domain.value, (role, domain, frozenset(nodes))))
        return [one for _, _, one in sorted(found, key=lambda one: one[:2])]

    def _seats(
        self, site: Site, corners: tuple[tuple[int, Domain, frozenset[str]], ...]
    ) -> list[Seat]:
        every = (1 << len(self.gang.roles)) - 1
        if not corners:
            return [
                Seat(node, one, every, one.offers) for node, one in site.nodes.items() if one.offers
            ]
        seats = []
        for node, one in site.nodes.items():
            roles = every
            for role, _, nodes in corners:
                if node not in nodes:
                    roles &= ~(1 << role)
            if roles and one.offers:
                seats.append(seat_of(node, one, roles))
        return seats

    # Near each other where it goes

    def _seating(self, seats: list[Seat]) -> Seating | None:
        """All pods on some of the seats; the whole replica where fewest of the pool are, if it
        fits in one domain of the spread level.
        """
        for group in islice(self._apart(seats), _MOST_CORNERS):
            seating = self._together(group)
            if seating is not None:
                return seating
        return self._together(seats)

    def _apart(self, seats: list[Seat]) -> Iterable[list[Seat]]:
        """Domains of the spread level that could hold a replica, the least crowded first."""
        if self.gang.spread is None:
            return
        groups = [
            group
            for group in self._grouped(seats, self.gang.spread)
            if all(
                sum(seat.profile.most[role] for seat in group) >= wanted
                for role, wanted in enumerate(self.ask.need)
            )
        ]
        if len(groups) > 1:
            yield from sorted(
                groups,
                key=lambda group: (
                    self._spread_of([group[0].node]),
                    sum(seat.profile.free for seat in group),
                ),
            )

    def _together(self, seats: list[Seat]) -> Seating | None:
        need, sizes = self.ask.need, self.ask.sizes
        levels = [one for one in (self.gang.reach.preferred, self.gang.near) if one is not None]
        for level in levels:
            groups = self._grouped(seats, level)
            groups.sort(key=lambda group: sum(seat.profile.free for seat in group))
            for group in groups:
                seating = seat_all(group, need, sizes)
                if seating is not None:
                    return seating
        if levels:
            return seat_by_group(self._grouped(seats, levels[0], rest=True), need, sizes)
        return seat_all(seats, need, sizes)

    def _grouped(self, seats: Sequence[Seat], level: str, rest: bool = False) -> list[list[Seat]]:
        """Seats by domain; with ``rest`` those that are in none too, each alone."""
        place = self.topology.place(level)
        groups: dict[object, list[Seat]] = {}
        for seat in seats:
            if seat.node in place:
                groups.setdefault(place[seat.node], []).append(seat)
            elif rest:
                groups[seat.node] = [seat]
        return list(groups.values())

    # Score

    def score(self, site: Site, seating: Seating) -> tuple[Term, ...]:
        """How good a seating is, term by term."""
        taken = per_node(seating, len(self.ask.need))
        terms = []
        if self.gang.spread is not None:
            crowd = self._spread_of(taken)
            terms.append(
                Term("spread", crowd, f"{_many(crowd, 'replica')} of the pool there already")
            )
        preferred = self.gang.reach.preferred
        if preferred is not None:
            count = self._domains(taken, preferred)
            terms.append(Term("preferred", count - 1, f"pods in {_many(count, preferred)}"))
        if self.gang.near is not None and len(self.gang.roles) > 1:
            count = self._domains(taken, self.gang.near)
            terms.append(Term("near", count - 1, f"roles in {_many(count, self.gang.near)}"))
        broken = sum(
            1
            for node, vector in taken.items()
            if site.nodes[node].whole and self._used(vector) < site.nodes[node].free
        )
        terms.append(Term("broken nodes", broken, f"{_many(broken, 'unused node')} broken into"))
        used = sum(map(self._used, taken.values()))
        free = site.free
        if site.domain is not None:
            breaks = int(site.whole and used < free)
            terms.append(Term("broken domain", breaks, "the domain was unused" * breaks))
        waits = sum(site.nodes[node].waits for node in taken)
        terms.append(Term("waits", waits, f"{waits} devices to be bound first" * bool(waits)))
        terms.append(
            Term("leftover", free - used, f"{_many(free - used, 'free device')} left there")
        )
        return tuple(terms)

    def _used(self, vector: Vector) -> int:
        return sum(count * size for count, size in zip(vector, self.ask.sizes, strict=True))

    def _domains(self, nodes: Iterable[str], level: str) -> int:
        place = self.topology.place(level)
        return len({place.get(node, node) for node in nodes})

    def _spread_of(self, nodes: Iterable[str]) -> int:
        level = str(self.gang.spread)
        found = {str(self.topology.domain_of(node, level)) for node in nodes}
        return sum(self.neighbours.get(one, 0) for one in found)


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
