"""One pass over one InferenceCapacity: which replicas there should be from now on. Pure.

::

              planned                        too many, condemned, outdated, preempted
    (nothing) ───────► PLACED ─────────────────────────────────► DRAINING
                        │  ▲                                        │  │
                        │  └───────── more are wanted again ────────┘  │
                        │ never ran, or its place is lost              │ idle, or grace over
                        ▼                                              ▼
                      (gone: its objects are deleted) ◄────────────────┘

A replica whose work has not ended is never deleted before its grace period is over: scaling down
costs no request. What never got a node holds no work and goes at once.

A new revision is rolled out replica by replica: a new one first where there is room, else an old
one makes room.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import inf

from msgspec import Struct
from msgspec.structs import replace

from endpoints.allocation.controller.members import Member, Standing, standing_of
from endpoints.allocation.controller.planning import Planning
from endpoints.allocation.controller.record import Phase, Record
from endpoints.allocation.controller.watchdog import Remedy, Verdict
from endpoints.allocation.emission.narrowing import Narrowing
from endpoints.allocation.holdings import Holding
from endpoints.allocation.ledger import Reservation, reservation_key
from endpoints.allocation.manifest import Capacity
from endpoints.allocation.plan import Eviction, Feasible, NoPlan, Plan
from endpoints.scaling.ceiling import NEEDED_ANNOTATION

DRAIN_SECONDS = 600.0
SETTLE_SECONDS = 2.0
PROMISE_SECONDS = 60.0
"""For how long devices are kept for whom others make room; renewed by each pass."""
_MOST_COUNTED = 64


class Situation(Struct, frozen=True):
    """All that a course depends on, besides the planner and the time.

    ``in_flight``: requests of replicas by name; None, or no entry: unknown. ``cheapest`` are names
    in the order in which they can be spared; those not named go last. ``preempted`` names
    replicas that make room for another pool, with the reason. ``holdings`` are all pools'.
    ``narrow`` says which claims of a plan have to be narrowed to their devices.
    Draining lasts at least ``settle_seconds``, until everybody knows, and at most
    ``drain_seconds``.
    """

    capacity: Capacity
    revision: str
    records: tuple[Record, ...] = ()
    members: Mapping[str, Sequence[Member]] = {}
    verdicts: Sequence[Verdict] = ()
    in_flight: Mapping[str, float | None] = {}
    cheapest: Sequence[str] = ()
    preempted: Mapping[str, str] = {}
    holdings: Sequence[Holding] = ()
    drain_seconds: float = DRAIN_SECONDS
    settle_seconds: float = SETTLE_SECONDS
    narrow: Callable[[Plan], Narrowing] = lambda _: {}


class Happening(Struct, frozen=True):
    """Something that people should hear of: an event's type, reason and message."""

    reason: str
    message: str
    warning: bool = False


class Outcome(Struct, frozen=True):
    """What should be. ``limit`` says why there are not more; "" when nothing keeps them away."""

    records: tuple[Record, ...]
    wanted: int
    feasible: Feasible
    limit: str = ""
    happenings: tuple[Happening, ...] = ()
    evictions: tuple[Eviction, ...] = ()

    @property
    def placed(self) -> tuple[Record, ...]:
        """The replicas that stay."""
        return tuple(record for record in self.records if not record.draining)


def needed_of(capacity: Capacity, annotations: Mapping[str, str]) -> int:
    """How many replicas its traffic needs, whatever there is room for; within the bounds."""
    said = annotations.get(NEEDED_ANNOTATION, "")
    wanted = wanted_of(capacity)
    if not said.isdecimal():
        return wanted
    most = capacity.spec.replicas.max
    return max(wanted, int(said) if most is None else min(int(said), most))


def wanted_of(capacity: Capacity) -> int:
    """How many replicas should be, within the bounds."""
    bounds = capacity.spec.replicas
    asked = bounds.min if bounds.wanted is None else bounds.wanted
    return max(bounds.min, asked if bounds.max is None else min(asked, bounds.max))


def course(situation: Situation, planner: Planning, now: float) -> Outcome:
    """What should be from now on. New plans are reserved, those given up released."""
    return _Course(situation, planner, now).run()


class _Course:
    """The pass, step by step."""

    def __init__(self, situation: Situation, planner: Planning, now: float) -> None:
        self._situation = situation
        self._capacity = situation.capacity
        self._planner = planner
        self._now = now
        self._records = {record.name: record for record in situation.records}
        self._happenings: list[Happening] = []
        self._evictions: list[Eviction] = []
        self._limit = ""
        self._promised = False

    def run(self) -> Outcome:
        wanted = wanted_of(self._capacity)
        promised = self._planner.ledger.release(self._promise)  # not in our own way
        self._end_drained()
        self._obey_verdicts()
        self._make_room_for_others()
        self._spare(wanted)
        self._restore(wanted)
        self._place(wanted)
        if promised is not None and not self._promised and len(self._staying()) < wanted:
            self._keep(promised)
        self._roll_out(wanted)
        records = tuple(self._records.values())
        return Outcome(
            records=records,
            wanted=wanted,
            feasible=self._feasible(),
            limit=self._limit,
            happenings=tuple(self._happenings),
            evictions=tuple(self._evictions),
        )

    # --- what goes -------------------------------------------------------------------------------

    def _end_drained(self) -> None:
        for record in self._draining():
            members = [one for one in self._members(record) if not one.finished]
            in_flight = self._situation.in_flight.get(record.name)
            waited = self._now - record.since
            if not members:
                self._drop(record, "Removed", f"{record.name} has no pods any more")
            elif in_flight == 0 and waited >= self._situation.settle_seconds:
                self._drop(
                    record, "Drained", f"{record.name} has no work left after {waited:.0f} s"
                )
            elif waited >= self._situation.drain_seconds:
                left = "unknown work" if in_flight is None else f"{in_flight:.0f} requests"
                message = f"{record.name} still had {left} after {waited:.0f} s of draining"
                self._drop(record, "DrainCut", message, warning=in_flight is not None)

    def _obey_verdicts(self) -> None:
        for verdict in self._situation.verdicts:
            record = self._records.get(verdict.replica)
            if record is None:
                continue
            reason = verdict.finding.cause.value
            if verdict.remedy is Remedy.REPLAN:
                self._drop(record, reason, verdict.message, warning=True)
            elif verdict.remedy is Remedy.DRAIN and not record.draining:
                self._drain(record, reason, verdict.message, warning=True)
            elif verdict.remedy is Remedy.WARN:
                self._happenings.append(Happening(reason, verdict.message, warning=True))

    def _make_room_for_others(self) -> None:
        for record in self._staying():
            reason = self._situation.preempted.get(record.name)
            if reason is not None:
                self._drain(record, "Preempted", f"{record.name} makes room: {reason}")

    def _spare(self, wanted: int) -> None:
        staying = self._staying()
        surge = 1 if self._rolling(staying) else 0
        surplus = len(staying) - wanted - surge
        for record in sorted(staying, key=self._worth)[: max(surplus, 0)]:
            if self._standing(record) in {Standing.MISSING, Standing.PENDING}:
                message = f"{record.name} is not wanted any more; it never ran"
                self._drop(record, "Cancelled", message)
            else:
                message = f"{record.name} is drained: {wanted} replicas are wanted"
                self._drain(record, "ScaledDown", message, restorable=True)

    def _worth(self, record: Record) -> tuple[int, bool, float, float]:
        """What is spared first has the least of this."""
        cheapest = list(self._situation.cheapest)
        rank = cheapest.index(record.name) if record.name in cheapest else inf
        standings = list(Standing)
        return (
            standings.index(self._standing(record)),
            record.revision == self._situation.revision,
            rank,
            -record.since,
        )

    # --- what comes ------------------------------------------------------------------------------

    def _restore(self, wanted: int) -> None:
        missing = wanted - len(self._staying())
        for record in reversed(self._draining()):
            if missing > 0 and record.restorable and self._current(record):
                self._records[record.name] = replace(
                    record, phase=Phase.PLACED, since=self._now, reason="", restorable=False
                )
                message = f"{record.name} is wanted again and serves on"
                self._happenings.append(Happening("Restored", message))
                missing -= 1

    def _place(self, wanted: int) -> None:
        while len(self._staying()) < wanted:
            if not self._add("Placed"):
                return

    def _add(self, reason: str) -> bool:
        """Plan and reserve one more replica; False, and the limit, when there is no room."""
        gang = self._capacity.gang
        plan = self._planner.plan(gang, self._now, self._situation.holdings)
        if isinstance(plan, NoPlan):
            self._limit = plan.reason
            return False
        over = self._over_budget(plan)
        if over:
            self._limit = over
            return False
        if plan.evictions:
            self._evictions += plan.evictions
            self._hold(plan, PROMISE_SECONDS)
            names = ", ".join(one.replica for one in plan.evictions)
            self._limit = f"waits until idle replicas make room: {names}"
            return False
        name = self._free_name()
        try:
            self._planner.ledger.reserve(self._key(name), plan, self._now)
        except ValueError as error:
            self._limit = str(error)
            return False
        self._records[name] = Record(
            name,
            self._situation.revision,
            plan,
            Phase.PLACED,
            self._now,
            narrowing=self._situation.narrow(plan),
        )
        nodes = list(dict.fromkeys(pod.node for pod in plan.pods))
        where = "" if plan.domain is None else f"{plan.domain}, "
        shown = ", ".join(nodes[:4]) + (f" and {len(nodes) - 4} more" if len(nodes) > 4 else "")
        self._happenings.append(Happening(reason, f"{name} goes to {where}{shown}"))
        return True

    def _hold(self, plan: Plan, seconds: float) -> None:
        """Promise devices to us: else whoever makes room might take each as it comes free."""
        with suppress(ValueError):  # somebody else's plan has one of them: there will be another
            self._planner.ledger.reserve(self._promise, plan, self._now, seconds)
            self._promised = True

    def _keep(self, promised: Reservation) -> None:
        """Who made room may be gone and its claims not yet: then nothing can be planned."""
        left = promised.expires - self._now
        if left > 0.0:
            self._hold(promised.plan, left)

    def _key(self, replica: str) -> str:
        return reservation_key(self._capacity.namespace, replica)

    @property
    def _promise(self) -> str:
        """What the ledger knows a plan by that waits for others to make room."""
        return self._key(f"{self._capacity.name}/promised")

    def _over_budget(self, plan: Plan) -> str:
        budget = self._capacity.spec.budget
        plans = [record.plan for record in self._records.values()] + [plan]
        devices = sum(len(one.devices()) for one in plans)
        if budget.devices is not None and devices > budget.devices:
            return f"the budget is {budget.devices} devices; one more replica makes it {devices}"
        cost = sum(one.cost for one in plans)
        if budget.cost_per_hour is not None and cost > budget.cost_per_hour:
            return f"the budget is {budget.cost_per_hour:g} an hour; one more makes it {cost:g}"
        return ""

    def _free_name(self) -> str:
        taken = self._records.keys() | self._situation.members.keys()
        index = 0
        while f"{self._capacity.name}-{index}" in taken:
            index += 1
        return f"{self._capacity.name}-{index}"

    # --- another revision ------------------------------------------------------------------------

    def _roll_out(self, wanted: int) -> None:
        staying = self._staying()
        outdated = [record for record in staying if not self._current(record)]
        if not outdated or self._rolling(staying) or self._draining() or len(staying) > wanted:
            return
        if self._add("Replacing"):
            return
        oldest = min(outdated, key=self._worth)
        message = f"{oldest.name} makes room for its new revision"
        self._drain(oldest, "Replacing", message)

    def _rolling(self, staying: Sequence[Record]) -> bool:
        """Whether a new revision's replica is on its way while older ones still serve."""
        return any(not self._current(record) for record in staying) and any(
            self._current(record) and self._standing(record) is not Standing.READY
            for record in staying
        )

    # --- words -----------------------------------------------------------------------------------

    def _feasible(self) -> Feasible:
        bounds = self._capacity.spec.replicas
        here = len(self._staying())
        most = _MOST_COUNTED if bounds.max is None else min(bounds.max - here, _MOST_COUNTED)
        if most <= 0:
            return Feasible(0, 0, f"replicas.max is {bounds.max}", capped=True)
        return self._planner.feasible(
            self._capacity.gang, self._now, self._situation.holdings, most
        )

    def _drop(self, record: Record, reason: str, message: str, *, warning: bool = False) -> None:
        del self._records[record.name]
        self._planner.ledger.release(self._key(record.name))
        self._happenings.append(Happening(reason, message, warning))

    def _drain(
        self,
        record: Record,
        reason: str,
        message: str,
        *,
        warning: bool = False,
        restorable: bool = False,
    ) -> None:
        self._records[record.name] = replace(
            record,
            phase=Phase.DRAINING,
            since=self._now,
            reason=message,
            restorable=restorable,
        )
        self._happenings.append(Happening(reason, message, warning))

    def _current(self, record: Record) -> bool:
        return record.revision == self._situation.revision

    def _standing(self, record: Record) -> Standing:
        return standing_of(self._members(record), record.plan.gang.pods)

    def _members(self, record: Record) -> Sequence[Member]:
        return self._situation.members.get(record.name, ())

    def _staying(self) -> list[Record]:
        return [record for record in self._records.values() if not record.draining]

    def _draining(self) -> list[Record]:
        return [record for record in self._records.values() if record.draining]
