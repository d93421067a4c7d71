"""How a pool's replicas come by devices: planned by the allocator, or hoped for."""

from collections.abc import Callable
from typing import Protocol

from bench.cluster.machines import Machines
from bench.cluster.market import Market
from bench.cluster.parts import Object
from endpoints.allocation.controller.record import revision_of
from endpoints.allocation.emission.changes import written
from endpoints.allocation.emission.claims import claim_spec
from endpoints.allocation.emission.gangs.setting import Setting
from endpoints.allocation.emission.identity import Owner, Replica
from endpoints.allocation.emission.narrowing import narrowing, texts_in_play
from endpoints.allocation.emission.served import GangApi
from endpoints.allocation.manifest import Capacity
from endpoints.allocation.plan import Plan
from endpoints.allocation.planner import Planner
from endpoints.scaling.ceiling import Ceiling


class Seats(Protocol):
    """Devices for replicas, by name."""

    def take(self, replica: str, scheduled: Callable[[], object]) -> bool:
        """Ask for a replica's devices; ``scheduled`` is called when it has all of them.

        False when there is no place: nothing was asked for, and nothing waits.
        """

    def leave(self, replica: str) -> None:
        """The replica is gone."""

    def ceiling(self, present: int) -> Ceiling | None:
        """The most replicas that there could be, with those ``present``; None: nobody knows."""


class PlannedSeats:
    """Each replica is planned whole, and its pods are written as the controller writes them."""

    def __init__(
        self,
        capacity: Capacity,
        planner: Planner,
        machines: Machines,
        most: int,
        market: Market,
    ) -> None:
        self._capacity = capacity
        self._planner = planner
        self._machines = machines
        self._most = most
        self._market = market
        self._setting = Setting(
            owner=Owner(capacity.name, capacity.namespace, capacity.name, capacity.gang.pool),
            scheduler=capacity.spec.scheduler,
            templates={role.name: role.template for role in capacity.spec.roles},
        )
        self.refused = 0
        """How often there was no place although one had been counted."""

    def take(self, replica: str, scheduled: Callable[[], object]) -> bool:
        """Plan, reserve, create; False when there is no place."""
        now, planner = self._machines.timeline.now, self._planner
        gang = self._capacity.gang
        plan = planner.plan(gang, now, self._market.holdings(gang, now))
        if isinstance(plan, Plan) and plan.evictions:
            self._market.give_up(plan.evictions)  # they are idle: their devices are free at once
            plan = planner.plan(gang, now)
        if not isinstance(plan, Plan):
            self.refused += 1
            return False
        planner.ledger.reserve(replica, plan, now)
        in_play = texts_in_play([self._capacity.gang], planner.inventory)
        made = Replica(
            replica,
            revision_of(self._capacity),
            plan,
            narrowing(plan, planner.inventory, in_play),
        )
        objects = written([made], self._setting, GangApi.PLAIN)
        templates = {
            item["metadata"]["name"]: item["spec"]["spec"]["devices"]
            for item in objects
            if item["kind"] != "Pod"
        }

        def whole() -> None:
            planner.ledger.release(replica)
            scheduled()

        self._machines.create(
            replica,
            [
                (
                    pod["metadata"]["name"],
                    pod["spec"],
                    [
                        templates[one["resourceClaimTemplateName"]]
                        for one in pod["spec"]["resourceClaims"]
                    ],
                )
                for pod in objects
                if pod["kind"] == "Pod"
            ],
            whole,
        )
        return True

    def leave(self, replica: str) -> None:
        """Its pods go, its reservation too if it still has one."""
        self._planner.ledger.release(replica)
        self._machines.delete(replica)

    def ceiling(self, present: int) -> Ceiling:
        """What the planner says."""
        gang, now = self._capacity.gang, self._machines.timeline.now
        more = self._planner.feasible(
            gang, now, self._market.holdings(gang, now), max(self._most - present, 0)
        )
        return Ceiling(present + more.now, present + more.after_preemption, more.reason)


class HopedForSeats:
    """What scaling a workload does: pods with claims, wherever the scheduler finds devices.

    Where a domain is required, the pods of a replica have affinity to each other by its label.
    """

    def __init__(self, capacity: Capacity, machines: Machines) -> None:
        self._machines = machines
        self._label = capacity.gang.reach.required
        self._pods: list[tuple[str, Object]] = []
        empty = Plan(capacity.gang, (), None, (), (), (), 0.0, (), (), 0)
        for role in capacity.gang.roles:
            devices = claim_spec(empty, role, "v1")["devices"]
            self._pods += [(f"{role.name}-{index}", devices) for index in range(role.pods)]

    def take(self, replica: str, scheduled: Callable[[], object]) -> bool:
        """Create the pods; some or all may stay Pending."""
        self._machines.create(
            replica,
            [(f"{replica}-{name}", {}, [devices]) for name, devices in self._pods],
            scheduled,
            self._label,
        )
        return True

    def leave(self, replica: str) -> None:
        """Its pods go."""
        self._machines.delete(replica)

    def ceiling(self, present: int) -> None:
        """Nobody looks at devices."""
        return
