"""What the controller asks of a planner."""

from collections.abc import Iterable
from typing import Protocol

from endpoints.allocation.holdings import Holding
from endpoints.allocation.ledger import Ledger
from endpoints.allocation.needs import Gang
from endpoints.allocation.plan import Feasible, NoPlan, Plan
from endpoints.allocation.planner import Advice


class Planning(Protocol):
    """`endpoints.allocation.planner.Planner` is one."""

    ledger: Ledger

    def plan(self, gang: Gang, now: float, holdings: Iterable[Holding] = ()) -> Plan | NoPlan:
        """Where one replica goes, or why nowhere."""

    def feasible(
        self, gang: Gang, now: float, holdings: Iterable[Holding] = (), most: int = 64
    ) -> Feasible:
        """How many more replicas there can be."""

    def advise(self, gang: Gang, now: float, holdings: Iterable[Holding]) -> Advice | None:
        """Which one replica to move, and where, to make room for one more."""
