"""Domains with the profiles of their nodes, and sums over them that bound what fits."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from endpoints.allocation.packing import Vector
from endpoints.allocation.plan import Domain
from endpoints.allocation.profiles import Profile, Profiles
from endpoints.allocation.stock import NOTHING, Overlay
from endpoints.allocation.topology import Topology


class Site(NamedTuple):
    """A domain (None: all nodes) with its nodes, and sums of their profiles' fields."""

    domain: Domain | None
    nodes: Mapping[str, Profile]
    most: Vector
    weight: int
    free: int
    total: int

    @property
    def whole(self) -> bool:
        """Whether nothing there is used."""
        return self.total > 0 and self.free == self.total

    def replaced(self, changed: Mapping[str, Profile]) -> "Site":
        """With other profiles for some of its nodes."""
        nodes = dict(self.nodes)
        most, weight, free, total = list(self.most), self.weight, self.free, self.total
        for name, after in changed.items():
            before = nodes[name]
            nodes[name] = after
            for role, count in enumerate(after.most):
                most[role] += count - before.most[role]
            weight += after.weight - before.weight
            free += after.free - before.free
            total += after.total - before.total
        return Site(self.domain, nodes, tuple(most), weight, free, total)

    def has_room(self, need: Vector, weight: int) -> bool:
        """Whether bounds alone let pods of all roles, of this weight together, fit."""
        return self.weight >= weight and all(
            bound >= wanted for bound, wanted in zip(self.most, need, strict=True)
        )


def site_of(domain: Domain | None, nodes: Mapping[str, Profile], roles: int) -> Site:
    """A site with its sums."""
    counts: dict[int, int] = {}
    profiles: dict[int, Profile] = {}
    for one in nodes.values():  # equal profiles are one object
        key = id(one)
        counts[key] = counts.get(key, 0) + 1
        profiles[key] = one
    pairs = [(profiles[key], count) for key, count in counts.items()]
    return Site(
        domain,
        nodes,
        tuple(sum(one.most[role] * count for one, count in pairs) for role in range(roles)),
        sum(one.weight * count for one, count in pairs),
        sum(one.free * count for one, count in pairs),
        sum(one.total * count for one, count in pairs),
    )


class Sites:
    """The sites of each level for one ask; kept while the inventory stays as it is."""

    def __init__(self, profiles: Profiles, topology: Topology) -> None:
        self.profiles = profiles
        self.topology = topology
        self._stamp = -1
        self._levels: dict[str | None, list[Site]] = {}

    def at(self, level: str | None, overlay: Overlay = NOTHING) -> list[Site]:
        """The sites of a level, or the one of all nodes; with an overlay where it matters."""
        if self._stamp != self.profiles.inventory.clock:
            self._levels = {}
            self._stamp = self.profiles.inventory.clock
        kept = self._levels.get(level)
        if kept is None:
            kept = self._levels[level] = self._made(level)
        changed = self.profiles.changed_by(overlay)
        if not changed:
            return kept
        if level is None:
            return [kept[0].replaced(changed)]
        place = self.topology.place(level)
        by_site: dict[int, dict[str, Profile]] = {}
        for node, profile in changed.items():
            if node in place:
                by_site.setdefault(place[node], {})[node] = profile
        found = list(kept)
        for at, some in by_site.items():
            found[at] = found[at].replaced(some)
        return found

    def _made(self, level: str | None) -> list[Site]:
        profiles = self.profiles.all()
        roles = len(self.profiles.ask.need)
        if level is None:
            return [site_of(None, profiles, roles)]
        return [
            site_of(group.domain, {node: profiles[node] for node in group.nodes}, roles)
            for group in self.topology.groups(level)
        ]


def homes(sites: Iterable[Site], need: Vector, weight: int) -> frozenset[str]:
    """One node of each site that has room for all, by bounds."""
    return frozenset(next(iter(site.nodes)) for site in sites if site.has_room(need, weight))
