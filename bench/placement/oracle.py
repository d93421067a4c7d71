"""An exhaustive search for a scenario's gang, and the rules that every plan has to keep.

Both read the scenario, not the planner's view of it, and share no code with the planner.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import combinations, product
from random import Random
from typing import NamedTuple

from bench.placement.objects import GPU
from bench.placement.scenario import Machine, Part, Scenario, Thing, Wanted
from endpoints.allocation.plan import Plan
from endpoints.allocation.quantity import NANO

_Ways = tuple[Wanted, ...]
_STEP = 10


class _Taken(NamedTuple):
    """What pods have: devices that are given once, and (device, Gi) of devices that are shared."""

    whole: frozenset[Thing]
    shares: frozenset[tuple[Thing, int]]

    def of(self, thing: Thing) -> int:
        """Gi of a shared device."""
        return dict(self.shares).get(thing, 0)

    def with_share(self, thing: Thing, amount: int) -> "_Taken":
        """With more of it taken."""
        shares = {**dict(self.shares), thing: self.of(thing) + amount}
        return _Taken(self.whole, frozenset(shares.items()))


def consumed(wanted: Wanted) -> int:
    """Gi of a shared device that a request takes, in whole steps."""
    return -(-(wanted.takes or 1) // _STEP) * _STEP


def possible(scenario: Scenario) -> bool:
    """Whether the gang can be placed at all, by trying everything."""
    choices = product(*(product(*part.requests) for part in scenario.parts))
    return any(_choice_possible(scenario, tuple(choice)) for choice in choices)


def _choice_possible(scenario: Scenario, choice: tuple[_Ways, ...]) -> bool:
    for _, machines in _domains(scenario.machines, scenario.required):
        corners = [list(_domains(machines, part.required)) for part in scenario.parts]
        for corner in product(*corners):
            allowed = tuple(frozenset(one.name for one in where) for _, where in corner)
            if _place(scenario, choice, machines, allowed):
                return True
    return False


def _domains(
    machines: Iterable[Machine], level: str | None
) -> Iterator[tuple[str, tuple[Machine, ...]]]:
    if level is None:
        yield "", tuple(machines)
        return
    found: dict[str, list[Machine]] = {}
    for one in machines:
        key = domain_of(one, level)
        if key is not None:
            found.setdefault(key, []).append(one)
    for name, members in found.items():
        yield name, tuple(members)


def domain_of(machine: Machine, level: str) -> str | None:
    """A machine's domain, as a path, since two leaves of different spines may have one name."""
    if level == "host":
        return machine.name
    if level == "spine":
        return machine.spine
    return None if machine.leaf is None else f"{machine.spine}/{machine.leaf}"


def _place(
    scenario: Scenario,
    choice: tuple[_Ways, ...],
    machines: tuple[Machine, ...],
    allowed: tuple[frozenset[str], ...],
) -> bool:
    pods = tuple(at for at, part in enumerate(scenario.parts) for _ in range(part.pods))

    @cache
    def rest(at: int, taken: _Taken) -> bool:
        if at == len(pods):
            return True
        part, ways = scenario.parts[pods[at]], choice[pods[at]]
        for machine in machines:
            if machine.name not in allowed[pods[at]] or not _takes(machine, part):
                continue
            for after in _claims(scenario, machine, part, ways, taken):
                if rest(at + 1, after):
                    return True
        return False

    return rest(0, _Taken(frozenset(), frozenset()))


def _takes(machine: Machine, part: Part) -> bool:
    return machine.ready and (part.tolerates or not machine.tainted)


def seen(scenario: Scenario, machine: Machine) -> tuple[Thing, ...]:
    """The devices that a node sees."""
    far = (thing for leaf, thing in scenario.reachable if leaf == machine.leaf)
    return (*machine.things, *far)


def matches(thing: Thing, wanted: Wanted) -> bool:
    """Whether selectors and capacity let a device be chosen."""
    model = wanted.model in (None, thing.model)
    return thing.driver == wanted.driver and model and thing.memory >= wanted.memory


def _claims(
    scenario: Scenario, machine: Machine, part: Part, ways: _Ways, taken: _Taken
) -> Iterator[_Taken]:
    """Everything that pods could have after one more there, each way once."""
    things = seen(scenario, machine)
    given: set[_Taken] = set()

    def requests(
        at: int, held: _Taken, mine: frozenset[Thing], looked: frozenset[Thing]
    ) -> Iterator[_Taken]:
        if at == len(ways):
            if not part.one_root or len({one.root for one in mine | looked}) <= 1:
                yield held
            return
        wanted = ways[at]
        fitting = [one for one in things if matches(one, wanted) and enough(one, wanted)]
        free = [
            one
            for one in fitting
            if (wanted.tolerates or not one.tainted) and _free(one, wanted, held, looked)
        ]
        if wanted.count is None:
            groups: Iterable[tuple[Thing, ...]] = [tuple(free)] if free == fitting != [] else []
        else:
            groups = combinations(free, wanted.count)
        for group in groups:
            if wanted.admin:
                yield from requests(at + 1, held, mine, looked | frozenset(group))
                continue
            once = frozenset(one for one in group if one.shared is None)
            after = _Taken(held.whole | once, held.shares)
            for one in group:
                if one.shared is not None:
                    after = after.with_share(one, consumed(wanted))
            if _counters_hold(machine, after.whole):
                yield from requests(at + 1, after, mine | frozenset(group), looked)

    for found in requests(0, taken, frozenset(), frozenset()):
        if found not in given:
            given.add(found)
            yield found


def enough(thing: Thing, wanted: Wanted) -> bool:
    """Whether a device could meet the capacity that is wanted, were it free."""
    if thing.shared is not None:
        return consumed(wanted) <= thing.memory
    return thing.memory >= (wanted.takes or 0)


def _free(thing: Thing, wanted: Wanted, held: _Taken, looked: frozenset[Thing]) -> bool:
    if wanted.admin:
        return thing not in looked
    if thing.shared is not None:
        return thing.shared + held.of(thing) + consumed(wanted) <= thing.memory
    return not thing.used and thing not in held.whole


def _counters_hold(machine: Machine, taken: Iterable[Thing]) -> bool:
    held = {*taken, *(one for one in machine.things if one.used)}
    for name, total in machine.counters:
        amounts = (
            one.counter[1]
            for one in held
            if one.counter is not None and one.counter[0] == name and one.pool == machine.name
        )
        if sum(amounts) > total:
            return False
    return True


def broken_rules(scenario: Scenario, plan: Plan) -> list[str]:
    """Every rule that a plan breaks, in words; empty when it is sound."""
    return [*_pod_rules(scenario, plan), *_gang_rules(scenario, plan)]


def _pod_rules(scenario: Scenario, plan: Plan) -> Iterator[str]:
    machines = {one.name: one for one in scenario.machines}
    options = dict(plan.options)
    for pod in plan.pods:
        part = next(one for one in scenario.parts if one.name == pod.role)
        machine = machines[pod.node]
        if not _takes(machine, part):
            yield f"{pod.role} {pod.index} is on {pod.node}, which does not take it"
        things = {(one.driver, one.pool, one.name): one for one in seen(scenario, machine)}
        roots = set()
        for grant, (at, ways) in zip(pod.grants, enumerate(part.requests), strict=True):
            name = options.get((pod.role, grant.request), "")
            if name != grant.option:
                yield f"{pod.role} {pod.index} has another alternative than the plan says"
            wanted = ways[int(name[1:]) if name else 0]
            fitting = [
                one for one in things.values() if matches(one, wanted) and enough(one, wanted)
            ]
            count = len(fitting) if wanted.count is None else wanted.count
            if grant.request != f"r{at}" or len(grant.devices) != count:
                yield f"{pod.role} {pod.index} got {len(grant.devices)} of {count} devices"
            for device in grant.devices:
                thing = things.get((device.driver, device.pool, device.device))
                if thing is None:
                    yield f"{device} is not seen by {pod.node}"
                    continue
                roots.add(thing.root)
                if not matches(thing, wanted) or not enough(thing, wanted):
                    yield f"{device} does not match"
                if thing.used and not wanted.admin:
                    yield f"{device} is in use"
                if thing.tainted and not wanted.tolerates:
                    yield f"{device} is tainted"
        if part.one_root and len(roots) > 1:
            yield f"{pod.role} {pod.index} has devices of {len(roots)} roots"


def _share_rules(scenario: Scenario, plan: Plan) -> Iterator[str]:
    """What is taken of shared devices is what requests round to, and no more than there is."""
    things = {(GPU, one.pool, one.name): one for at in scenario.machines for one in at.things}
    taken: dict[tuple[str, str, str], int] = {}
    for pod in plan.pods:
        part = next(one for one in scenario.parts if one.name == pod.role)
        for grant, ways in zip(pod.grants, part.requests, strict=True):
            wanted = ways[int(grant.option[1:]) if grant.option else 0]
            for device, amounts in grant.uses():
                key = (device.driver, device.pool, device.device)
                shared = key in things and things[key].shared is not None
                if shared != (amounts is not None):
                    yield f"{device} is shared, or is not, unlike the plan says"
                elif amounts is not None:
                    gi = sum(amount for _, amount in amounts) // (NANO << 30)
                    taken[key] = taken.get(key, 0) + gi
                    if gi != consumed(wanted):
                        yield f"{gi} Gi of {device} are not what was asked for"
    for key, amount in taken.items():
        if amount + (things[key].shared or 0) > things[key].memory:
            yield f"more than all of {key} is taken"


def _gang_rules(scenario: Scenario, plan: Plan) -> Iterator[str]:
    machines = {one.name: one for one in scenario.machines}
    devices = [tuple(one) for one in plan.exclusive_devices()]
    if len(set(devices)) < len(devices):
        yield "a device is there twice"
    yield from _share_rules(scenario, plan)
    for part in scenario.parts:
        pods = plan.pods_of(part.name)
        if len(pods) != part.pods:
            yield f"{part.name} has {len(pods)} of {part.pods} pods"
        if part.required is not None:
            found = {domain_of(machines[pod.node], part.required) for pod in pods}
            if len(found) > 1 or None in found:
                yield f"{part.name} is in {found}, not in one {part.required}"
    if scenario.required is not None:
        found = {domain_of(machines[pod.node], scenario.required) for pod in plan.pods}
        if len(found) > 1 or None in found:
            yield f"the gang is in {found}, not in one {scenario.required}"
    for machine in scenario.machines:
        there = [one for one in machine.things if (one.driver, one.pool, one.name) in set(devices)]
        if not _counters_hold(machine, there):
            yield f"a counter of {machine.name} is exceeded"


def spoiled(scenario: Scenario, plan: Plan, random: Random) -> list[str]:
    """The nodes on which the planned pods do not all find devices when a scheduler chooses them.

    It places pod after pod, in any order, each on its planned node, and gives it the first devices
    that fit, without taking back what an earlier pod has.
    """
    machines = {one.name: one for one in scenario.machines}
    parts = {part.name: part for part in scenario.parts}
    options = dict(plan.options)
    pods = list(plan.pods)
    random.shuffle(pods)
    taken = _Taken(frozenset(), frozenset())
    found = []
    for pod in pods:
        part, machine = parts[pod.role], machines[pod.node]
        ways = tuple(
            one[int(name[1:]) if (name := options.get((pod.role, f"r{at}"), "")) else 0]
            for at, one in enumerate(part.requests)
        )
        after = next(_claims(scenario, machine, part, ways, taken), None)
        if after is None:
            found.append(pod.node)
        else:
            taken = after
    return found
