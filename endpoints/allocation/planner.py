"""The planner's surface: place a gang, say how many there could be, advise what to move.

Nothing here changes the cluster, and nothing reads a clock. A plan is made on the inventory as it
is, beside what the ledger reserves at ``now``.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from msgspec import Struct
from msgspec.structs import replace

from endpoints.allocation import explaining, sequential
from endpoints.allocation.ask import Ask, CannotAskError, Choice, choices
from endpoints.allocation.bases import Bases
from endpoints.allocation.filling import per_node
from endpoints.allocation.holdings import Holding
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.ledger import Ledger
from endpoints.allocation.levels import Scheme, detect
from endpoints.allocation.materialise import pods_of
from endpoints.allocation.needs import Gang
from endpoints.allocation.overlays import overlay_of, with_pods
from endpoints.allocation.parts import Parts
from endpoints.allocation.plan import Eviction, Feasible, NoPlan, Plan, PodPlan, Refusal
from endpoints.allocation.profiles import Profiles
from endpoints.allocation.search import Placement, Search
from endpoints.allocation.sites import Sites
from endpoints.allocation.standins import with_stand_ins
from endpoints.allocation.stock import Overlay
from endpoints.allocation.topology import Topology

_MOST_ASKS = 64
_MOST_PRUNED = 32


class PlannerSettings(Struct, frozen=True):
    """``cost_per_class``: what a device of a class costs an hour; a class without counts 1.

    ``cheapest``: of alternatives that can be had, the cheapest is taken, not the first.
    """

    cost_per_class: Mapping[str, float] = {}
    cheapest: bool = False


class Planner:
    """Places gangs on an inventory's free devices, beside what a ledger reserves.

    ``scheme`` names the levels of the topology; None: whichever preset the nodes' labels show.
    """

    def __init__(
        self,
        inventory: Inventory,
        ledger: Ledger | None = None,
        settings: PlannerSettings | None = None,
        scheme: Scheme | None = None,
    ) -> None:
        self.inventory = inventory
        self.ledger = ledger if ledger is not None else Ledger()
        self.settings = settings or PlannerSettings()
        self._scheme = scheme
        self._topology: Topology | None = None
        self._detected = -1
        self._asks: dict[tuple[object, ...], Sites] = {}
        self._bases = Bases(inventory)
        self._parts = Parts(inventory)

    @property
    def topology(self) -> Topology:
        """The levels in use, and which nodes are in which domain."""
        if self._topology is None or (
            self._scheme is None and self._detected != self.inventory.labels_stamp
        ):
            scheme = self._scheme or detect(self.inventory.nodes.values())
            self._detected = self.inventory.labels_stamp
            if self._topology is None or self._topology.scheme != scheme:
                self._topology = Topology(scheme, self.inventory)
        return self._topology

    def plan(
        self, gang: Gang, now: float, holdings: Iterable[Holding] = (), *, explain: bool = False
    ) -> Plan | NoPlan:
        """Where one replica goes, or why nowhere.

        ``holdings`` are what runs: what may be preempted, and what to spread from. With
        ``explain`` refusals tell what is in use, which takes a look at every device. A gang that
        has only just become impossible is answered with NoPlan, never with an error.
        """
        held = tuple(holdings)
        reserved = with_stand_ins(self.inventory, self.ledger.active(now))
        found = self._plan(gang, overlay_of(reserved), now, explain)
        if isinstance(found, Plan) or not gang.preempts:
            return found
        victims = evictable(gang, held)
        if not victims:
            return found
        return self._preempting(gang, reserved, victims, now, found)

    def feasible(
        self, gang: Gang, now: float, holdings: Iterable[Holding] = (), most: int = 64
    ) -> Feasible:
        """How many more replicas there can be, counted up to ``most``.

        They are planned one after the other, each beside those before, so all of them can be had.
        """
        held = tuple(holdings)
        reserved = with_stand_ins(self.inventory, self.ledger.active(now))
        count, stop = self._count(gang, reserved, (), now, most)
        after = count
        victims = evictable(gang, held) if gang.preempts and count < most else ()
        lower = [one for one in victims if one.going or one.priority < gang.priority]
        if lower:
            after = max(count, self._count(gang, reserved, lower, now, most)[0])
        if stop is not None and not after and victims:
            # Equals give way for one replica at a time, as each one changes the shares.
            after = int(isinstance(self._preempting(gang, reserved, victims, now, stop), Plan))
        if stop is None:
            return Feasible(count, after, f"counted up to {most}", capped=True)
        return Feasible(count, after, stop.reason, after >= most, stop.refusals)

    def advise(self, gang: Gang, now: float, holdings: Iterable[Holding]) -> "Advice | None":
        """Which one replica to move, and where, to make room for a gang that has no plan.

        Only movable holdings that say their gang are looked at, smallest first. None: moving one
        replica does not help.
        """
        reserved = with_stand_ins(self.inventory, self.ledger.active(now))
        movable = [one for one in holdings if one.movable and one.gang is not None]
        for holding in sorted(movable, key=lambda one: (len(one.claims), one.pool, one.replica)):
            room = overlay_of(reserved, (holding,))
            found = self._plan(gang, room, now, False)
            if isinstance(found, NoPlan) or holding.gang is None:
                continue
            moving = replace(holding.gang, preempts=False)
            moved = self._plan(moving, with_pods(room, found.pods), now, False)
            if isinstance(moved, Plan):
                return Advice(holding, moved, found)
        return None

    # One plan

    def _plan(
        self,
        gang: Gang,
        overlay: Overlay,
        now: float,
        explain: bool,
    ) -> Plan | NoPlan:
        first: NoPlan | None = None
        best: Plan | None = None
        try:
            self._check_levels(gang)
            for choice in choices(gang):
                found = self._choose(gang, choice, overlay, now, explain)
                if isinstance(found, NoPlan):
                    first = first or found
                elif not self.settings.cheapest:
                    return found
                elif best is None or found.cost < best.cost:
                    best = found
        except CannotAskError as error:
            refusal = Refusal(None, error.code, str(error))
            return NoPlan(gang, str(error), (refusal,))
        if best is not None:
            return best
        assert first is not None
        return first

    def _choose(
        self, gang: Gang, choice: Choice, overlay: Overlay, now: float, explain: bool
    ) -> Plan | NoPlan:
        sites = self._sites(gang, choice)
        profiles = sites.profiles
        search = Search(sites, gang, overlay, self._neighbours(gang, now))
        pods: tuple[PodPlan, ...] | None = None
        fragile: tuple[str, ...] = ()
        placement: Placement | None = None
        if profiles.uses_shared():
            placement, pods = sequential.place(search, self.inventory, overlay)
            # Any pod of any node may be given what another node's pod was to have.
            fragile = tuple(sorted({pod.node for pod in pods or ()}))
        else:
            placements = search.placements()
            if placements:
                placement = placements[0]
                taken = per_node(placement.seating, len(gang.roles))
                pods, fragile = pods_of(self.inventory, profiles, self.topology, taken, overlay)
        refusals = explaining.refusals(search, self.inventory, explain or placement is None)
        if placement is None or pods is None:
            return NoPlan(gang, explaining.summary(search, refusals), refusals)
        return Plan(
            gang=gang,
            pods=pods,
            domain=placement.site.domain,
            role_domains=placement.corners,
            options=profiles.ask.options(),
            score=placement.score,
            cost=self._cost(pods),
            evictions=(),
            refusals=refusals,
            candidates=search.possible,
            fragile=fragile,
        )

    def _check_levels(self, gang: Gang) -> None:
        reaches = [gang.reach, *(role.reach for role in gang.roles)]
        named = chain(*((one.required, one.preferred) for one in reaches), (gang.near, gang.spread))
        for level in named:
            if level is not None:
                try:
                    self.topology.scheme.level(level)
                except ValueError as error:
                    raise CannotAskError("no-level", str(error)) from None

    def _sites(self, gang: Gang, choice: Choice) -> Sites:
        """What is known for a gang's needs, kept for the next time; the least used is dropped."""
        topology = self.topology
        key = (gang.roles, choice, self.inventory.classes_stamp, topology.scheme.name)
        found = self._asks.pop(key, None)
        if found is None:
            ask = Ask(gang, choice, self.inventory.classes)
            found = Sites(Profiles(self.inventory, self._bases, self._parts, ask), topology)
            while len(self._asks) >= _MOST_ASKS:
                self._asks.pop(next(iter(self._asks)))
        self._asks[key] = found
        if found.profiles.size() > 8 * len(self.inventory.nodes) + 1_000:
            found.profiles.forget_gone()
        return found

    def _neighbours(self, gang: Gang, now: float) -> dict[str, int]:
        """Replicas of the gang's pool by domain of the spread level."""
        if gang.spread is None:
            return {}
        places: dict[str, set[str]] = {}
        for claim in self.inventory.claims.values():
            if claim.pool == gang.pool:
                for use in claim.uses:
                    node = self.inventory.node_of(use.device)
                    domain = node and self.topology.domain_of(node, gang.spread)
                    if domain:
                        places.setdefault(str(domain), set()).add(claim.replica or claim.key)
        for held in self.ledger.active(now):
            if held.plan.gang.pool == gang.pool:
                for pod in held.plan.pods:
                    domain = self.topology.domain_of(pod.node, gang.spread)
                    if domain:
                        places.setdefault(str(domain), set()).add(held.key)
        return {domain: len(replicas) for domain, replicas in places.items()}

    def _cost(self, pods: Iterable[PodPlan]) -> float:
        return sum(
            self.settings.cost_per_class.get(grant.device_class, 1.0) * len(grant.devices)
            for pod in pods
            for grant in pod.grants
            if not grant.admin_access
        )

    # Many plans

    def _count(
        self,
        gang: Gang,
        reserved: Sequence[PodPlan],
        without: Sequence[Holding],
        now: float,
        most: int,
    ) -> tuple[int, NoPlan | None]:
        overlay = overlay_of(reserved, without)
        for count in range(most):
            found = self._plan(gang, overlay, now, False)
            if isinstance(found, NoPlan):
                return count, found
            overlay = with_pods(overlay, found.pods)
        return most, None

    def _preempting(
        self,
        gang: Gang,
        reserved: Sequence[PodPlan],
        victims: Sequence[Holding],
        now: float,
        refused: NoPlan,
    ) -> Plan | NoPlan:
        """A plan with victims no more important than must be, and as few of them as sparing one
        after the other gets to.
        """
        found: Plan | NoPlan = refused
        for most in sorted({one.priority for one in victims}):
            some = [one for one in victims if one.priority <= most]
            found = self._plan(gang, overlay_of(reserved, some), now, False)
            if isinstance(found, Plan):
                victims = some
                break
        if isinstance(found, NoPlan):
            return refused
        needed = list(self._in_the_way(found, victims))
        # Those that matter most are spared first.
        for holding in sorted(needed[:_MOST_PRUNED], key=lambda one: (one.going, -one.priority)):
            fewer = [one for one in needed if one is not holding]
            again = self._plan(gang, overlay_of(reserved, fewer), now, False)
            if isinstance(again, Plan):
                needed = list(self._in_the_way(again, fewer))
                found = again
        if not _allowed(gang, needed):
            return refused
        evictions = tuple(Eviction(one.pool, one.replica) for one in needed)
        return replace(found, evictions=evictions, refusals=refused.refusals)

    def _in_the_way(self, plan: Plan, victims: Sequence[Holding]) -> Iterable[Holding]:
        """The victims without whose going the plan's pods would not have their devices.

        Shared counters couple devices, so everything in the plan's pools counts.
        """
        pools = {(one.driver, one.pool) for one in plan.devices()}
        for holding in victims:
            uses = (
                use
                for claim in holding.claims
                if claim in self.inventory.claims
                for use in self.inventory.claims[claim].uses
            )
            if any((use.device.driver, use.device.pool) in pools for use in uses):
                yield holding


class Advice(Struct, frozen=True):
    """Move ``holding`` to ``moved``, and ``plan`` fits where it was."""

    holding: Holding
    moved: Plan
    plan: Plan


def evictable(gang: Gang, holdings: Iterable[Holding]) -> tuple[Holding, ...]:
    """The replicas that may go for it, least important first.

    Idle ones of other pools of lower priority, and of the same one where their pool yields any;
    and whoever is going anyway.
    """
    found = [
        one
        for one in holdings
        if one.going
        or (
            one.idle
            and one.pool != gang.pool
            and (one.priority < gang.priority or (_equal(gang, one) and one.yields > 0))
        )
    ]
    return tuple(sorted(found, key=lambda one: (one.priority, one.pool, one.replica)))


def _equal(gang: Gang, holding: Holding) -> bool:
    return gang.shares and holding.priority == gang.priority and not holding.going


def _allowed(gang: Gang, needed: Iterable[Holding]) -> bool:
    """Whether no pool of the same priority loses more than it yields."""
    taken = Counter(one.pool for one in needed if _equal(gang, one))
    return all(taken[one.pool] <= one.yields for one in needed if _equal(gang, one))
