"""The planner's surface: place a gang, say how many there could be, advise what to move.

Nothing here changes the cluster, and nothing reads a clock.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from endpoints.allocation.holdings import Holding
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.ledger import Ledger
from endpoints.allocation.needs import Gang
from endpoints.allocation.plan import Feasible, NoPlan, Plan


class PlannerSettings(Struct, frozen=True):
    """``cost_per_class``: what a device of a class costs an hour; a class without counts 1."""

    cost_per_class: Mapping[str, float] = {}


class Planner:
    """Places gangs on an inventory's free devices, beside what a ledger reserves."""

    def __init__(
        self, inventory: Inventory, ledger: Ledger, settings: PlannerSettings | None = None
    ) -> None:
        self.inventory = inventory
        self.ledger = ledger
        self.settings = settings or PlannerSettings()

    def plan(self, gang: Gang, now: float, holdings: Iterable[Holding] = ()) -> Plan | NoPlan:
        """Where one replica goes, or why nowhere. ``holdings`` are what may be preempted."""
        raise NotImplementedError

    def feasible(
        self, gang: Gang, now: float, holdings: Iterable[Holding] = (), most: int = 64
    ) -> Feasible:
        """How many more replicas there can be, counted up to ``most``."""
        raise NotImplementedError
