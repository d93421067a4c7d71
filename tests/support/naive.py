"""A planner that tries nodes one after the other, pod by pod: slow, simple, and enough."""

from collections.abc import Iterable

from endpoints.allocation.holdings import Holding
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.ledger import Ledger
from endpoints.allocation.needs import Gang
from endpoints.allocation.plan import Domain, Feasible, Grant, NoPlan, Plan, PodPlan
from endpoints.allocation.selectors import compile_selector
from endpoints.allocation.taints import untolerated


class NaivePlanner:
    """Whole devices of one option each, and a required domain by node label."""

    def __init__(self, inventory: Inventory, ledger: Ledger) -> None:
        self.inventory = inventory
        self.ledger = ledger

    def plan(self, gang: Gang, now: float, holdings: Iterable[Holding] = ()) -> Plan | NoPlan:
        label = gang.reach.required
        domains: dict[str, list[str]] = {}
        for node in self.inventory.nodes.values():
            if node.ready and not node.taints:
                value = "" if label is None else node.labels.get(label)
                if value is not None:
                    domains.setdefault(value, []).append(node.name)
        for value, names in sorted(domains.items()):
            pods = self._pods(gang, sorted(names), now)
            if pods is not None:
                domain = None if label is None else Domain(label, value, label)
                return Plan(gang, pods, domain, (), (), (), float(len(pods)), (), (), 1)
        return NoPlan(gang, f"no {label or 'cluster'} has enough free devices", ())

    def feasible(
        self, gang: Gang, now: float, holdings: Iterable[Holding] = (), most: int = 64
    ) -> Feasible:
        here = self.plan(gang, now) if most else None
        return Feasible(int(isinstance(here, Plan)), int(isinstance(here, Plan)), "as planned")

    def _pods(self, gang: Gang, nodes: list[str], now: float) -> tuple[PodPlan, ...] | None:
        taken = {device for held in self.ledger.active(now) for device in held.plan.devices()}
        made = []
        for role in gang.roles:
            for index in range(role.pods):
                for node in nodes:
                    grants = []
                    for request in role.requests:
                        option = request.options[0]
                        class_ = self.inventory.classes.get(option.device_class)
                        wanted = (*(class_.selectors if class_ else ()), *option.selectors)
                        free = [
                            device.id
                            for device in self.inventory.devices_of(node)
                            if device.id not in taken
                            and not self.inventory.uses_of(device.id)
                            and untolerated(self.inventory.taints_of(device), option.tolerations)
                            is None
                            and all(
                                compile_selector(one).outcome(device.view()).kind == "match"
                                for one in wanted
                            )
                        ][: option.count]
                        if len(free) == option.count:
                            grants.append(Grant(request.name, "", option.device_class, tuple(free)))
                    if len(grants) == len(role.requests):
                        taken |= {device for grant in grants for device in grant.devices}
                        made.append(PodPlan(role.name, index, node, tuple(grants), ()))
                        break
                else:
                    return None
        return tuple(made)
