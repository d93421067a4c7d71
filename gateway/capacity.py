"""The capacity loops of the pools that are to be scaled: made from settings, started, stopped."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace

from endpoints.allocation.controller.limits import Aims, CapacityLimit
from endpoints.allocation.controller.resources import CAPACITIES
from endpoints.kubernetes.connection import (
    ClusterSettings,
    Connection,
    NotConfiguredError,
    open_connection,
)
from endpoints.kubernetes.connection import own_namespace as namespace_here
from endpoints.kubernetes.errors import KubernetesError
from endpoints.kubernetes.leading.leader import Leader
from endpoints.kubernetes.objects import Objects
from endpoints.scaling.actuators.actuator import Actuator, ActuatorError
from endpoints.scaling.actuators.advice import AdviceOnly
from endpoints.scaling.actuators.kubernetes import KubernetesActuator, TargetRef, by_pod
from endpoints.scaling.actuators.processes import ProcessActuator, ProcessTemplate
from endpoints.scaling.collector import Collector
from endpoints.scaling.controller import Controller
from endpoints.scaling.policies import make_scaling_policy
from endpoints.scaling.role import ROLE_LABEL, Role
from endpoints.scaling.settings import Bounds, Objective, Pace, ScalingSettings
from endpoints.scaling.sharing import Share, TrafficNotes, share_of
from endpoints.scaling.starts import Starts
from gateway.pool import Pool
from gateway.scalers.externalmetrics import ExternalMetricsServer
from gateway.scalers.keda import KedaServer
from gateway.scalers.numbers import Numbers
from gateway.scalers.service import ScalersError, start_external_metrics, start_keda
from gateway.settings import (
    Objective as ObjectiveSettings,
)
from gateway.settings import (
    PaceSettings,
    ScaledPoolSettings,
    ScaledRoleSettings,
    ScaleTargetSettings,
    ScalingSection,
)
from gateway.waiting import WaitingRoom, WaitingRooms

_log = logging.getLogger(__name__)


class CapacityError(RuntimeError):
    """A pool can't be scaled as it is set up; the message says why."""


class Capacity:
    """Every scaled pool's loop and waiting room.

    ``objective`` is what pools without one of their own go by. ``rooms`` is there at once, so
    that bodies can be given it; loops begin as pools are attached. ``cluster``: how to reach it,
    unless the settings say it themselves.
    """

    def __init__(
        self,
        settings: ScalingSection,
        objective: ObjectiveSettings,
        clock: Callable[[], float],
        cluster: ClusterSettings | None = None,
    ) -> None:
        self.rooms = WaitingRooms()
        self.controllers: dict[str, Controller] = {}
        """By pool."""
        self.keda: KedaServer | None = None
        """Answers KEDA, once started; None: nobody does."""
        self.external_metrics: ExternalMetricsServer | None = None
        """Answers HPAs, once started; None: nobody does."""
        self._settings = settings
        self._objective = objective
        self._clock = clock
        self._cluster = cluster
        self._running = AsyncExitStack()
        self._connection: Connection | None = None
        self._leader: Leader | None = None
        self._notes = TrafficNotes(self._shares)
        most = settings.most_starting
        self._starts = None if most is None else Starts(most)
        self._locals: dict[str, list[ProcessActuator]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: dict[str, asyncio.Task[None]] = {}

    @property
    def unattached(self) -> list[str]:
        """Pools that are to be scaled and have not come yet."""
        return [name for name in self._settings.pools if name not in self.controllers]

    async def start(self) -> None:
        """Reach the cluster, and serve who asks for numbers. CapacityError says why not."""
        settings = self._settings
        try:
            await self._connect()
            numbers = Numbers(self.controllers, self.rooms, self._clock)
            if settings.keda is not None:
                self.keda = await start_keda(
                    settings.keda, numbers, self._running, self._spawn, self._clock
                )
            if settings.external_metrics is not None:
                self.external_metrics = await start_external_metrics(
                    settings.external_metrics,
                    numbers,
                    self._connection,
                    self._running,
                    self._spawn,
                )
        except (KubernetesError, ScalersError) as error:
            raise CapacityError(str(error)) from error

    async def _connect(self) -> None:
        settings = self._settings
        roles = [role for pool in settings.pools.values() for role in pool.roles.values()]
        scales = any(role.target is not None for role in roles)
        asked = settings.external_metrics is not None and not settings.external_metrics.anonymous
        if not scales and not asked:
            return
        try:
            if settings.kubeconfig is not None or self._cluster is None:
                self._cluster = ClusterSettings(kubeconfig=settings.kubeconfig)
            self._connection = await open_connection(self._cluster)
        except NotConfiguredError:
            if scales:
                raise
            return  # who may ask is then said by the settings
        self._running.push_async_callback(self._connection.close)
        if scales:
            self._leader = Leader(
                self._connection,
                settings.namespace or namespace_here(),
                settings.lease,
                clock=self._clock,
                changed=self._wake,
                notes=self._notes,
            )
            await self._leader.start()
            self._running.push_async_callback(self._leader.stop)

    async def attach(self, pool: Pool) -> None:
        """Begin with a pool, if it is to be scaled."""
        wanted = self._settings.pools.get(pool.name)
        if wanted is None or pool.name in self.controllers:
            return
        router = pool.router
        room = WaitingRoom(
            pool.name,
            router.fleet,
            now=self._clock,
            models=wanted.models,
            most=wanted.waiting.max_requests,
            most_bytes=wanted.waiting.max_bytes,
            patience=wanted.waiting.patience,
        )
        actuators: dict[Role, Actuator] = {}
        clustered = False
        for name, role in wanted.roles.items():
            clustered = clustered or role.target is not None
            actuators[Role(name)] = await self._actuator(pool, name, role)
        limit = self._ceiling(wanted)
        scaling = scaling_settings(wanted, self._objective)
        if limit is not None and wanted.objective is None:
            scaling = aimed(scaling, await limit.aims())
        collector = Collector(pool.name, scaling)
        collector.attach(router)
        controller = Controller(
            pool.name,
            scaling,
            actuators,
            collector,
            router=router,
            keeper=pool.keeper,
            clock=self._clock,
            holding=room,
            leads=self._leads if clustered else _always,
            others=(lambda: self._others(pool.name)) if clustered else tuple,
            decider=make_scaling_policy(wanted.policy).decide,
            grace=wanted.grace,
            dry_run=advises_only(wanted),
            ceiling=limit,
            starts=self._starts,
        )
        self.rooms.add(room)
        self.controllers[pool.name] = controller
        self._loops[pool.name] = self._spawn(controller.run())

    async def detach(self, name: str) -> None:
        """A pool left: its loop ends, and its targets stay as they are."""
        controller = self.controllers.pop(name, None)
        if controller is None:
            return
        loop = self._loops.pop(name)
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        self.rooms.remove(name)
        if self._starts is not None:
            self._starts.left(name)
        await controller.close()

    def came(self, pool: Pool) -> None:
        """`attach`, as soon as possible: for whoever can't wait for it."""
        self._spawn(self.attach(pool))

    def left(self, name: str) -> None:
        """`detach`, as soon as possible."""
        self._spawn(self.detach(name))

    async def stop(self) -> None:
        """End every loop; what runs goes on, but for the processes that we started."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for name in list(self.controllers):
            await self.detach(name)
        await self._running.aclose()

    # --- within --------------------------------------------------------------------------------

    async def _actuator(self, pool: Pool, name: str, role: ScaledRoleSettings) -> Actuator:
        if role.command is not None:
            template = ProcessTemplate(
                role.command, f"{pool.name}-{name}", labels=((ROLE_LABEL, name),)
            )
            local = ProcessActuator(
                template, clock=self._clock, changed=lambda: self._processes_changed(pool)
            )
            self._locals.setdefault(pool.name, []).append(local)
            return local
        if role.target is None:
            return AdviceOnly(f"{pool.name} ({name})", pool.router.fleet, Role(name))
        assert self._connection is not None
        actuator = KubernetesActuator(
            self._connection,
            self._ref(role.target),
            clock=self._clock,
            endpoints=lambda: by_pod(pool.router.fleet),
        )
        await actuator.start()
        self._spawn(self._try(actuator))
        return actuator

    def _ceiling(self, pool: ScaledPoolSettings) -> CapacityLimit | None:
        """What bounds the pool's size, where its devices are planned; None: nothing."""
        for name, role in pool.roles.items():
            target = role.target
            if target is not None and target.kind == CAPACITIES.kind:
                assert self._connection is not None
                ref = self._ref(target)
                objects = Objects(self._connection)
                return CapacityLimit(objects, ref.namespace, ref.name, Role(name))
        return None

    @staticmethod
    async def _try(actuator: KubernetesActuator) -> None:
        """Say at the start, not at the first need, that a target may not be scaled."""
        try:
            await actuator.check()
        except ActuatorError as error:
            _log.error("scaling: a dry run says that it will not work: %s", error)

    def _ref(self, target: ScaleTargetSettings) -> TargetRef:
        namespace = target.namespace or self._settings.namespace or namespace_here()
        return TargetRef(namespace, target.name, target.kind, target.api_version)

    def _processes_changed(self, pool: Pool) -> None:
        pool.started(
            endpoint for one in self._locals.get(pool.name, ()) for endpoint in one.endpoints()
        )

    def _leads(self) -> bool:
        return self._leader is not None and self._leader.leads()

    def _shares(self) -> dict[str, Share]:
        """What this gateway sees, for the one that leads."""
        return {
            name: share_of(controller.own)
            for name, controller in self.controllers.items()
            if controller.own is not None
        }

    def _others(self, pool: str) -> tuple[Share, ...]:
        return self._notes.of(pool, self._clock())

    def _wake(self) -> None:
        for controller in self.controllers.values():
            controller.wake()

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("scaling: a background task ended by a defect", exc_info=error)


def advises_only(pool: ScaledPoolSettings) -> bool:
    """Whether somebody else acts: then what they do is no edit that had to stand."""
    acts = [role for role in pool.roles.values() if role.target or role.command]
    return pool.dry_run or not acts


def scaling_settings(pool: ScaledPoolSettings, objective: ObjectiveSettings) -> ScalingSettings:
    """The same for the pure core; ValueError names what can't be."""
    aims = objective if pool.objective is None else pool.objective
    return ScalingSettings(
        roles={
            Role(name): Bounds(role.min, role.max, role.cost) for name, role in pool.roles.items()
        },
        objective=Objective(aims.ttft, aims.itl, pool.percentile),
        budget=pool.budget,
        interval=pool.interval,
        startup=pool.startup,
        utilisation=pool.utilisation,
        up=_pace(pool.up),
        down=_pace(pool.down),
        idle=pool.idle,
        edit_hold=0.0 if advises_only(pool) else pool.edit_hold,
    )


def aimed(settings: ScalingSettings, aims: Aims) -> ScalingSettings:
    """With what an InferenceCapacity's own objective says, where it says anything."""
    goal = settings.objective
    return replace(
        settings,
        objective=Objective(
            goal.ttft if aims.ttft is None else aims.ttft,
            goal.itl if aims.itl is None else aims.itl,
            goal.percentile if aims.attainment is None else aims.attainment,
        ),
    )


def _pace(pace: PaceSettings) -> Pace:
    return Pace(pace.percent, pace.replicas, pace.period, pace.window, pace.reversal)


def _always() -> bool:
    return True
