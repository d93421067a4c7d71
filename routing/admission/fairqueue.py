"""The requests of one priority, in an order that gives each tenant its share of the work.

Start-time fair queueing: each tenant has a tag, the virtual time at which its next request may
start. The lowest tag goes next, and taking a request moves its tenant's tag on by the request's
cost over the tenant's weight. The virtual time is the tag that was taken last, so a tenant that
comes back after a while starts where the others are: idleness earns nothing. A tenant with a
thousand requests waiting delays another one by no more than one request of its own.

Sources: P. Goyal, H. M. Vin, H. Cheng, Start-time fair queueing (SIGCOMM 1996); for language
models, with tokens as cost, Y. Sheng et al., Fairness in serving large language models (OSDI 2024).
"""

from collections import OrderedDict
from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from typing import Final

from routing.admission.entry import Entry

_IDLE_KEPT: Final = 64  # tenants remembered without requests, beyond as many as have some
_STALE_KEPT: Final = 64  # places in the heap that hold no more, beyond as many as do
_NOWHERE: Final = 0  # the serial of a tenant that has no place in the heap


class _Tenant:
    __slots__ = ("backlog", "entries", "name", "serial", "tag", "weight")

    def __init__(self, name: str, weight: float, tag: float) -> None:
        self.name = name
        self.weight = weight
        self.tag = tag
        self.entries: OrderedDict[Entry, None] = OrderedDict()
        self.backlog = 0.0
        self.serial = _NOWHERE  # of its place in the heap; places with another one hold no more


class FairQueue:
    """Entries by tenant. ``weights``: shares of tenants that have another one than 1."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._tenants: dict[str, _Tenant] = {}
        self._heap: list[tuple[float, int, _Tenant]] = []
        self._serial = 0
        self._virtual = 0.0
        self._arrived: OrderedDict[Entry, None] = OrderedDict()
        self._waiting_tenants = 0

    def __len__(self) -> int:
        return len(self._arrived)

    @property
    def oldest(self) -> Entry | None:
        """Who has waited longest."""
        return next(iter(self._arrived), None)

    @property
    def head(self) -> Entry | None:
        """Whose turn it is. It stays until it is taken."""
        while self._heap:
            _, serial, tenant = self._heap[0]
            if tenant.serial == serial:
                return next(iter(tenant.entries))
            heappop(self._heap)
        return None

    def push(self, entry: Entry) -> None:
        """Stand at the end of the tenant's requests. O(log tenants)."""
        tenant = self._tenants.get(entry.tenant)
        if tenant is None:
            weight = self._weights.get(entry.tenant, 1.0)
            tenant = self._tenants[entry.tenant] = _Tenant(entry.tenant, weight, self._virtual)
        self._arrived[entry] = None
        tenant.entries[entry] = None
        tenant.backlog += entry.cost
        if len(tenant.entries) == 1:
            self._waiting_tenants += 1
            tenant.tag = max(tenant.tag, self._virtual)
            self._enqueue(tenant)

    def take(self, entry: Entry) -> None:
        """It is served: its tenant is charged for it. Any entry may be, not only the head."""
        in_turn = self.head is entry
        tenant = self._strike(entry)
        if in_turn:
            self._virtual = tenant.tag
        tenant.tag += entry.cost / tenant.weight
        self._settle(tenant, moved=True)

    def drop(self, entry: Entry) -> None:
        """It left unserved: nobody is charged."""
        self._settle(self._strike(entry), moved=False)

    def youngest_of(self, tenant: str) -> Entry | None:
        """Whom of a tenant's came last."""
        known = self._tenants.get(tenant)
        return None if known is None else next(reversed(known.entries), None)

    def youngest(self) -> Entry | None:
        """Who came last."""
        return next(reversed(self._arrived), None)

    def backlogs(self) -> dict[str, tuple[int, float]]:
        """Requests and work that wait, by tenant."""
        return {
            tenant.name: (len(tenant.entries), tenant.backlog)
            for tenant in self._tenants.values()
            if tenant.entries
        }

    # --- within --------------------------------------------------------------------------------

    def _strike(self, entry: Entry) -> _Tenant:
        del self._arrived[entry]
        tenant = self._tenants[entry.tenant]
        del tenant.entries[entry]
        tenant.backlog -= entry.cost
        if not tenant.entries:
            tenant.backlog = 0.0
            self._waiting_tenants -= 1
        return tenant

    def _settle(self, tenant: _Tenant, *, moved: bool) -> None:
        """Bring the heap, and who is remembered, up to a tenant's change."""
        if not self._arrived:  # nobody competes: the next rush starts from nothing
            self._tenants.clear()
            self._heap.clear()
            self._virtual = 0.0
            return
        if not tenant.entries:
            tenant.serial = _NOWHERE
            if tenant.tag <= self._virtual:
                del self._tenants[tenant.name]
        elif moved:
            self._enqueue(tenant)
        if len(self._heap) > 2 * self._waiting_tenants + _STALE_KEPT:
            self._heap = [place for place in self._heap if place[2].serial == place[1]]
            heapify(self._heap)
        if len(self._tenants) > 2 * self._waiting_tenants + _IDLE_KEPT:
            self._forget_idle()

    def _enqueue(self, tenant: _Tenant) -> None:
        self._serial += 1
        tenant.serial = self._serial
        heappush(self._heap, (tenant.tag, tenant.serial, tenant))

    def _forget_idle(self) -> None:
        """Those that have nothing waiting, and whose debt is the smallest."""
        idle = sorted(
            (tenant for tenant in self._tenants.values() if not tenant.entries),
            key=lambda tenant: tenant.tag,
        )
        for tenant in idle[: len(idle) - self._waiting_tenants]:
            del self._tenants[tenant.name]
