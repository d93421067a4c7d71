"""Refusals in words: what was missing where, and what stood in the way."""

from collections import Counter
from collections.abc import Iterable

from msgspec.structs import replace

from endpoints.allocation.inventory import Inventory
from endpoints.allocation.plan import Refusal
from endpoints.allocation.profiles import Profile
from endpoints.allocation.search import Search
from endpoints.allocation.sites import Site


def refusals(search: Search, inventory: Inventory, closely: bool) -> tuple[Refusal, ...]:
    """One for each refused domain, nearest to fitting first, and one for nodes without domain.

    ``closely``: with what is in use, tainted or too small there, and which nodes take no pods.
    """
    found = search.refusals
    if closely:
        sites = {site.domain: site for site in search.sites}
        found = [_closely(search, inventory, one, sites[one.domain]) for one in found]
    found = sorted(found, key=_distance)
    level = search.gang.reach.required
    if level is not None:
        place = search.topology.place(level)
        outside = len(inventory.nodes) - len(place)
        if outside:
            label = search.topology.scheme.level(level).label
            reason = f"{outside} node{'s' * (outside != 1)} without the label {label}"
            found.append(Refusal(None, "no-label", reason))
    return tuple(found)


def summary(search: Search, refused: tuple[Refusal, ...]) -> str:
    """Why there is no plan, in a sentence."""
    domains = [one for one in refused if one.code != "no-label"]
    level = search.gang.reach.required
    if not any(site.nodes for site in search.sites) and not refused:
        return "there are no nodes"
    if not domains:
        return f"no node is in a domain of {level}"
    best = domains[0]
    if best.domain is None:
        return best.reason
    return f"none of {len(domains)} domains of {level} can hold it; nearest is {best.domain}: " + (
        best.reason
    )


def _distance(refusal: Refusal) -> tuple[float, str]:
    """How far it was from fitting: the share of pods that were missing, and the name."""
    missing = 0.0
    if refusal.possible is not None and refusal.wanted:
        missing = 1 - refusal.possible / refusal.wanted
    return missing, refusal.domain.value if refusal.domain else ""


def _closely(search: Search, inventory: Inventory, refusal: Refusal, site: Site) -> Refusal:
    notes = [*_devices(search, refusal, site), *_nodes(search, inventory, refusal, site)]
    return replace(refusal, reason="; ".join([refusal.reason, *notes]))


def _devices(search: Search, refusal: Refusal, site: Site) -> Iterable[str]:
    """For each request of the role that fell short, what of the devices there is not free."""
    for place, wish in enumerate(search.ask.wishes):
        role = search.gang.roles[wish.role].name
        if refusal.role not in (None, role):
            continue
        tallies = [one.tallies[place] for one in site.nodes.values()]
        matching, used, tainted, small = (
            sum(tally[index] for tally in tallies) for index in range(4)
        )
        wanted = "all" if wish.every else f"{wish.devices}"
        said = [f"{wish.request} ({wanted} a pod): {matching} devices match"]
        free = matching - used - tainted - small
        said += [f"{used} in use or reserved"] * (used > 0)
        said += [f"{tainted} tainted"] * (tainted > 0)
        said += [f"{small} with too little capacity"] * (small > 0)
        if free and free != matching:
            holders = _holders(site.nodes.values(), place)
            said.append(f"{free} free on {holders} node{'s' * (holders != 1)}")
        yield ", ".join(said)


def _holders(profiles: Iterable[Profile], place: int) -> int:
    return sum(1 for one in profiles if one.tallies[place].free > 0)


def _nodes(search: Search, inventory: Inventory, refusal: Refusal, site: Site) -> Iterable[str]:
    """Nodes that take no pods of the role, by reason, and nodes with a problem."""
    roles = [
        place for place, role in enumerate(search.gang.roles) if refusal.role in (None, role.name)
    ]
    reasons: Counter[str] = Counter()
    for name, profile in site.nodes.items():
        node = inventory.nodes[name]
        objection = next((said for one in roles if (said := search.ask.objection(node, one))), "")
        problem = profile.problem or next(inventory.problems_of(node), "")
        reasons[objection or problem or ("search gave up" if profile.gave_up else "")] += 1
    del reasons[""]
    for reason, count in reasons.most_common(3):
        yield f"{count} node{'s' * (count != 1)}: {reason}"
    others = len(reasons) - 3
    if others > 0:
        yield f"{others} more kinds of trouble with nodes"
