"""The controller: follow the cluster, decide for each InferenceCapacity, carry it out.

A pass looks at everything anew (level-triggered): it can be repeated at any time, and an
interrupted one is simply done again. One runs soon after anything changed, and when the watchdog
or a drain wants to look.

Plans are written before the objects that they call for, and taken back before those go. So a pass
that ends anywhere, with the process or with its lease, leaves no half-written gang: whoever comes
next completes what has a plan and deletes what has none.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from endpoints.allocation.controller.conditions import status_of
from endpoints.allocation.controller.course import (
    DRAIN_SECONDS,
    SETTLE_SECONDS,
    Happening,
    Outcome,
    Situation,
    course,
)
from endpoints.allocation.controller.feed import DriverPods
from endpoints.allocation.controller.hands import Hands
from endpoints.allocation.controller.lookout import Lookout
from endpoints.allocation.controller.neighbours import advise, offered
from endpoints.allocation.controller.planning import Planning
from endpoints.allocation.controller.pool import ManagedPool
from endpoints.allocation.controller.resources import discover, kinds_of
from endpoints.allocation.controller.traffic import Traffic, UnknownTraffic
from endpoints.allocation.controller.view import View
from endpoints.allocation.controller.watchdog import Patience, Watchdog
from endpoints.allocation.emission.changes import Changes, changes, written
from endpoints.allocation.emission.gangs.setting import Setting
from endpoints.allocation.emission.identity import (
    NOT_SERVING,
    SERVING,
    EmissionError,
    Object,
)
from endpoints.allocation.emission.narrowing import narrowing, texts_in_play
from endpoints.allocation.emission.served import Gangs, NotServedError, Served, gangs_of
from endpoints.allocation.holdings import Holding
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.ledger import Ledger, reservation_key
from endpoints.allocation.shares import TENURE
from endpoints.kubernetes.cache import CacheSettings
from endpoints.kubernetes.connection import Connection
from endpoints.kubernetes.errors import KubernetesError
from endpoints.kubernetes.leading.reign import DeposedError

_log = logging.getLogger(__name__)
_SHARE_SECONDS = 10.0
"""Between two looks at whether others have to make room for who lacks something."""
ORPHAN_SECONDS = 2.0
"""For how long an object's owner must be missing; caches don't all see a change at once."""


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """``namespace`` None: all of them. Times in seconds.

    ``interval``: at least between two passes; ``idle_interval``: at most. ``drivers`` says where
    DRA drivers' pods are; nothing is known of the health of a driver that is not named.
    """

    namespace: str | None = None
    interval: float = 0.2
    idle_interval: float = 30.0
    drain_interval: float = 1.0
    drain_seconds: float = DRAIN_SECONDS
    settle_seconds: float = SETTLE_SECONDS
    patience: Patience = field(default_factory=Patience)
    drivers: Mapping[str, DriverPods] = field(default_factory=dict)
    tenure_seconds: float = TENURE
    dry_run: bool = False
    caches: CacheSettings | None = None


class CapacityController:
    """`start`, then it works until `stop`. ``planner`` makes the planner over an inventory.

    ``leads``: whether it may write; where several run, each reign has a controller of its own
    (`endpoints.kubernetes.leading`). ``identity`` is who statuses say leads.
    """

    def __init__(
        self,
        connection: Connection,
        planner: Callable[[Inventory, Ledger], Planning],
        settings: ControllerSettings | None = None,
        traffic: Traffic | None = None,
        clock: Callable[[], float] = time.time,
        *,
        leads: Callable[[], bool] = lambda: True,
        identity: str = "",
    ) -> None:
        self.settings = settings or ControllerSettings()
        self.inventory = Inventory()
        self.ledger = Ledger()
        self.pools: dict[str, ManagedPool] = {}
        """By uid."""
        self.passes = 0
        self._connection = connection
        self._planner = planner(self.inventory, self.ledger)
        self._traffic = traffic or UnknownTraffic()
        self._clock = clock
        self._leads = leads
        self._identity = identity
        self._served = Served(frozenset())
        self._preempted: dict[str, dict[str, str]] = {}
        self._orphaned: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Discover, follow, and begin. Raises KubernetesError, NotServedError."""
        self._served = await discover(self._connection)
        kinds = kinds_of(self._served)
        self._kinds = kinds
        self._hands = Hands(
            self._connection, kinds, dry_run=self.settings.dry_run, leads=self._leads
        )
        self._view = View(
            self._connection,
            kinds,
            self.inventory,
            self._wake.set,
            drivers=self.settings.drivers,
            namespace=self.settings.namespace,
            caches=self.settings.caches,
        )
        self._lookout = Lookout(self.inventory, self._view.feed)
        await self._view.start()
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def dead_drivers(self) -> frozenset[tuple[str, str]]:
        """(driver, node) where a driver that is watched does not run."""
        return self._view.feed.dead

    async def stop(self) -> None:
        """Follow no more; whatever runs in the cluster goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._view.stop()
            self._task = None

    # --- when ------------------------------------------------------------------------------------

    async def _run(self) -> None:
        await self._view.wait_answered(60.0)
        while True:
            self._wake.clear()
            try:
                pause = await self._pass()
            except (KubernetesError, DeposedError) as error:
                _log.warning("a pass was not finished: %s", error)
                pause = 1.0
            except Exception:
                _log.exception("a pass failed")
                pause = 5.0
            await asyncio.sleep(self.settings.interval)
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _pass(self) -> float:
        """One look at everything; how long nothing needs to be looked at again, in seconds."""
        if not (self._view.complete and self._leads()):
            return 1.0
        now = self._clock()
        self._meet_pools(now)
        self._avoid(now)
        holdings = await self._holdings()
        pause = self.settings.idle_interval
        for pool in sorted(self.pools.values(), key=_urgency):
            outcome = await self._manage(pool, holdings, now)
            if outcome is not None and any(one.draining for one in outcome.records):
                pause = min(pause, self.settings.drain_interval)
            if outcome is not None and pool.capacity is not None and pool.capacity.gang.shares:
                short = len(outcome.placed) < outcome.wanted  # a need of a moment is none yet
                pause = min(pause, _SHARE_SECONDS) if short else pause
            look = pool.watchdog.next_look(now)
            pause = pause if look is None else min(pause, look)
        pause = min(pause, await self._sweep(now))
        self.passes += 1
        return pause

    # --- what is there ---------------------------------------------------------------------------

    def _meet_pools(self, now: float) -> None:
        items = {item["metadata"]["uid"]: item for item in self._view.capacities.objects.values()}
        for uid in self.pools.keys() - items.keys():
            self._part_from(self.pools.pop(uid))
        for uid, item in items.items():
            if item["metadata"].get("deletionTimestamp"):
                continue
            pool = self.pools.get(uid)
            if pool is None:
                watchdog = Watchdog(self.settings.patience)
                self.pools[uid] = pool = ManagedPool.first_seen(item, watchdog)
            elif pool.item is not item:
                pool.take(item)
            pool.see(self._view.pods_of(pool))
            pool.look_at_need(now)

    async def _sweep(self, now: float) -> float:
        """Delete what was written for a capacity while it was being deleted; when to look again.

        Garbage collection gets most of it, but only what is there when the owner goes is sure.
        """
        orphans = {item["metadata"]["uid"]: item for item in self._view.orphans(self.pools)}
        self._orphaned = {uid: self._orphaned.get(uid, now) for uid in orphans}
        for uid, since in self._orphaned.items():
            if now - since >= ORPHAN_SECONDS:
                item = orphans[uid]
                await self._hands.delete(self._hands.resource(item), item)
        return ORPHAN_SECONDS if orphans else self.settings.idle_interval

    def _part_from(self, pool: ManagedPool) -> None:
        """It was deleted: its objects go with it, by their owner references."""
        for record in pool.records:
            self.ledger.release(reservation_key(pool.namespace, record.name))

    async def _holdings(self) -> list[Holding]:
        """All replicas, as preemption sees them; who is idle is asked only if anybody preempts."""
        asks = any(
            pool.capacity is not None and pool.capacity.gang.preempts
            for pool in self.pools.values()
        )
        found = []
        for pool in self.pools.values():
            if pool.capacity is None:
                continue
            for record in pool.records:
                claims = tuple(
                    f"{pool.namespace}/{claim}"
                    for one in pool.members.get(record.name, ())
                    for claim in one.claims
                )
                idle = asks and await self._traffic.in_flight(pool.pods_of(record.name)) == 0
                found.append(
                    Holding(
                        pool=pool.capacity.gang.pool,
                        replica=f"{pool.uid}/{record.name}",
                        priority=pool.capacity.gang.priority,
                        claims=claims,
                        idle=idle,
                        going=record.draining,
                        movable=not record.draining,
                        gang=record.plan.gang,
                    )
                )
        return found

    # --- one capacity ----------------------------------------------------------------------------

    async def _manage(
        self, pool: ManagedPool, holdings: list[Holding], now: float
    ) -> Outcome | None:
        capacity = pool.capacity
        if capacity is None:
            await self._refuse(pool, "InvalidSpec", pool.problem, now)
            return None
        try:
            gangs = gangs_of(self._served, capacity.spec.scheduler.type)
        except NotServedError as error:
            await self._refuse(pool, "SchedulerNotServed", str(error), now)
            return None
        self._keep_reserved(pool, now)
        suspicions, verdicts = self._lookout.look(pool, now)
        self._avoid(now)
        known = [one.capacity.gang for one in self.pools.values() if one.capacity is not None]
        in_play = texts_in_play(known, self.inventory)
        outcome = course(
            Situation(
                capacity=capacity,
                revision=pool.revision,
                records=pool.records,
                members=pool.members,
                verdicts=verdicts,
                in_flight=await self._in_flight(pool),
                preempted=self._preempted.pop(pool.uid, {}),
                holdings=offered(
                    pool, self.pools.values(), holdings, now, self.settings.tenure_seconds
                ),
                drain_seconds=self.settings.drain_seconds,
                settle_seconds=self.settings.settle_seconds,
                narrow=lambda plan: narrowing(plan, self.inventory, in_play),
            ),
            self._planner,
            now,
        )
        self._note_evictions(outcome, capacity.name)
        advised = advise(pool, outcome, holdings, self._planner, now)
        try:
            todo = self._changes(pool, outcome, gangs)
        except EmissionError as error:
            for record in set(outcome.records) - set(pool.records):
                self.ledger.release(reservation_key(pool.namespace, record.name))
            await self._refuse(pool, "InvalidTemplate", str(error), now)
            return None
        pool.records = outcome.records
        warnings = suspicions
        await self._write(pool, outcome, gangs, warnings, now)
        await self._mark(pool)
        refused = await self._hands.carry_out(todo)
        if refused:
            warnings = [*suspicions, *refused]
            await self._write(pool, outcome, gangs, warnings, now)
        told = [*outcome.happenings, *(Happening("Refused", one, True) for one in refused)]
        if advised:
            told.append(Happening("Fragmented", advised))
        if pool.unreadable:
            told.append(Happening("RecordLost", pool.unreadable, True))
            pool.unreadable = ""
        await self._hands.tell(pool.item, told)
        return outcome

    def _avoid(self, now: float) -> None:
        """Nothing is planned where pods stayed Pending, whose ever they were."""
        avoided = [pool.watchdog.avoided(now) for pool in self.pools.values()]
        self._view.feed.avoid(frozenset().union(*avoided))

    def _keep_reserved(self, pool: ManagedPool, now: float) -> None:
        """A plan is reserved until claims show all of it; after a restart, too."""
        assert pool.capacity is not None
        for record in pool.records:
            key = reservation_key(pool.namespace, record.name)
            if self._lookout.allocated(pool, record):
                self.ledger.release(key)
                continue
            try:
                self.ledger.reserve(key, record.plan, now)
            except ValueError as error:
                _log.warning("%s: %s", key, error)

    async def _in_flight(self, pool: ManagedPool) -> dict[str, float | None]:
        return {
            record.name: await self._traffic.in_flight(pool.pods_of(record.name))
            for record in pool.records
            if record.draining
        }

    def _note_evictions(self, outcome: Outcome, whom: str) -> None:
        for eviction in outcome.evictions:
            uid, _, replica = eviction.replica.partition("/")
            self._preempted.setdefault(uid, {})[replica] = (
                f"{whom} goes before it, or has less of what it needs"
            )
            self._wake.set()

    def _changes(self, pool: ManagedPool, outcome: Outcome, gangs: Gangs) -> Changes:
        """What has to be written for the replicas of this revision; older ones just stay."""
        assert pool.capacity is not None
        spec = pool.capacity.spec
        setting = Setting(
            owner=pool.owner(),
            scheduler=spec.scheduler,
            templates={role.name: role.template for role in spec.roles},
            version=gangs.version,
            claims_version=self._kinds.claims.version,
        )
        current = [
            record.replica
            for record in outcome.records
            if record.revision == pool.revision and not record.draining
        ]
        wanted = written(current, setting, gangs.api)
        kept = [record.name for record in outcome.records]
        found = changes(wanted, self._view.existing(pool), kept)
        finished = {
            one.name
            for members in pool.members.values()
            for one in members
            if one.finished and not one.leaving
        }
        ended = tuple(
            item
            for item in self._view.existing(pool)
            if item["kind"] == "Pod"
            and item["metadata"]["name"] in finished
            and item not in found.deleted
        )
        return Changes(found.applied, (*found.deleted, *ended))

    async def _mark(self, pool: ManagedPool) -> None:
        """Pods of draining replicas get no more requests; those of restored ones do again."""
        for record in pool.records:
            value = NOT_SERVING if record.draining else SERVING
            for pod in pool.pods_of(record.name):
                await self._hands.mark_serving(pod, value)

    # --- telling ---------------------------------------------------------------------------------

    async def _write(
        self,
        pool: ManagedPool,
        outcome: Outcome,
        gangs: Gangs,
        warnings: list[str],
        now: float,
    ) -> None:
        before = pool.status or pool.item.get("status") or {}
        status = status_of(
            outcome,
            pool.members,
            name=pool.name,
            scheduler=gangs.api.value,
            generation=pool.generation,
            before=before,
            warnings=warnings,
            leader=self._identity,
            advice=pool.advice,
            now=now,
        )
        await self._write_if_new(pool, status)

    async def _refuse(self, pool: ManagedPool, reason: str, message: str, now: float) -> None:
        status = pool.status_when_invalid(reason, message, now)
        if await self._write_if_new(pool, status):
            await self._hands.tell(pool.item, [Happening(reason, message, True)])

    async def _write_if_new(self, pool: ManagedPool, status: Object) -> bool:
        if status == pool.status:
            return False
        await self._hands.write_status(pool.item, status)
        pool.status = status
        return True


def _urgency(pool: ManagedPool) -> tuple[int, str, str]:
    """The more urgent first, then the older."""
    priority = 0 if pool.capacity is None else pool.capacity.gang.priority
    created = str(pool.item["metadata"].get("creationTimestamp", ""))
    return -priority, created, pool.name
