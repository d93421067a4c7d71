"""Placing pods one by one, where devices are wanted that several nodes see.

What one node's pods take of such devices is missing on others, so nodes can't be judged apart.
Pods are placed role by role, largest first, with backtracking within a bound of tries.
"""

from collections.abc import Iterator, Mapping

from endpoints.allocation.inventory import Inventory
from endpoints.allocation.materialise import granted
from endpoints.allocation.nodes import Node
from endpoints.allocation.overlays import overlay_of
from endpoints.allocation.packing import Packer, Vector
from endpoints.allocation.plan import PodPlan, Refusal
from endpoints.allocation.search import Placement, Search
from endpoints.allocation.sites import Site
from endpoints.allocation.stock import Overlay, shelve

MOST_TRIES = 4_000
"""Pods that are tried on nodes, over all sites of one plan."""
_COMPARED = 4


def place(
    search: Search, inventory: Inventory, overlay: Overlay
) -> tuple[Placement | None, tuple[PodPlan, ...] | None]:
    """The best of the first sites that hold the gang; refusals are added to the search's."""
    best: tuple[Placement, tuple[PodPlan, ...]] | None = None
    tries = MOST_TRIES
    for site in search.ranked():
        if search.possible >= _COMPARED:
            break
        sequence = _Sequence(search, inventory, overlay, site, tries)
        made = sequence.run()
        tries = sequence.tries
        if made is None:
            reason = "the pods do not fit, with devices that nodes share"
            if tries <= 0:
                reason = f"nothing was found in {MOST_TRIES} tries, with devices that nodes share"
            search.refusals.append(Refusal(site.domain, "not-together", reason))
            continue
        search.possible += 1
        if best is None or made[0].rank < best[0].rank:
            best = made
    return best if best is not None else (None, None)


class _Sequence:
    """One site's search."""

    def __init__(
        self, search: Search, inventory: Inventory, overlay: Overlay, site: Site, tries: int
    ) -> None:
        self.search = search
        self.ask = search.ask
        self.inventory = inventory
        self.overlay = overlay
        self.site = site
        self.tries = tries

    def run(self) -> tuple[Placement, tuple[PodPlan, ...]] | None:
        """A placement with its pods, or None."""
        for corners in self.search.corners(self.site):
            allowed = {role: nodes for role, _, nodes in corners}
            order = sorted(
                range(len(self.ask.need)), key=lambda role: (-self.ask.sizes[role], role)
            )
            roles = [role for role in order for _ in range(self.ask.need[role])]
            found = self._from(roles, 0, {}, "", allowed)
            if found is None:
                continue
            seating = tuple((node, vector) for node, (vector, _) in sorted(found.items()))
            pods = [
                (role, pod)
                for _, (_, pods_there) in sorted(found.items())
                for role, pod in pods_there
            ]
            named = tuple((self.ask.gang.roles[role].name, domain) for role, domain, _ in corners)
            score = self.search.score(self.site, seating)
            return Placement(self.site, seating, named, score), _numbered(self.search, pods)
        return None

    def _from(
        self,
        roles: list[int],
        at: int,
        placed: Mapping[str, tuple[Vector, tuple[tuple[int, PodPlan], ...]]],
        least: str,
        allowed: Mapping[int, frozenset[str]],
    ) -> dict[str, tuple[Vector, tuple[tuple[int, PodPlan], ...]]] | None:
        """All pods from ``at`` on. Equal pods go to nodes in order, so none is tried twice."""
        if at == len(roles):
            return dict(placed)
        role = roles[at]
        start = least if at and roles[at - 1] == role else ""
        for node in self._nodes(role, start, allowed):
            if self.tries <= 0:
                return None
            self.tries -= 1
            vector = list(placed[node.name][0]) if node.name in placed else [0] * len(self.ask.need)
            vector[role] += 1
            pods = self._on(node, tuple(vector), placed)
            if pods is None:
                continue
            after = {**placed, node.name: (tuple(vector), pods)}
            found = self._from(roles, at + 1, after, node.name, allowed)
            if found is not None:
                return found
        return None

    def _nodes(
        self, role: int, start: str, allowed: Mapping[int, frozenset[str]]
    ) -> Iterator[Node]:
        for name in sorted(self.site.nodes):
            profile = self.site.nodes[name]
            if name < start or not any(vector[role] for vector in profile.offers):
                continue
            if role not in allowed or name in allowed[role]:
                yield self.inventory.nodes[name]

    def _on(
        self,
        node: Node,
        vector: Vector,
        placed: Mapping[str, tuple[Vector, tuple[tuple[int, PodPlan], ...]]],
    ) -> tuple[tuple[int, PodPlan], ...] | None:
        """The node's pods beside what is placed on others; their devices are chosen anew."""
        others = [pod for name, (_, pods) in placed.items() if name != node.name for _, pod in pods]
        extra = overlay_of(others)
        shares = dict(self.overlay.shares)
        for device, consumed in extra.shares.items():
            shares[device] = (*shares.get(device, ()), *consumed)
        merged = Overlay(self.overlay.taken | extra.taken, shares, self.overlay.without)
        shelf = shelve(self.inventory, self.ask, node, merged)
        packed = Packer(self.ask, shelf.stock).pack(vector)
        if packed is None or any(
            count and not shelf.stock.roles >> role & 1 for role, count in enumerate(vector)
        ):
            return None
        return tuple(
            (role, PodPlan(self.ask.gang.roles[role].name, 0, node.name, grants, ()))
            for role, grants in granted(self.ask, shelf, packed)
        )


def _numbered(search: Search, pods: list[tuple[int, PodPlan]]) -> tuple[PodPlan, ...]:
    made, counts = [], [0] * len(search.ask.need)
    for role, pod in sorted(pods, key=lambda one: one[0]):
        domains = search.topology.domains_of(pod.node)
        made.append(PodPlan(pod.role, counts[role], pod.node, pod.grants, domains))
        counts[role] += 1
    return tuple(made)
