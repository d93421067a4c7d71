"""Wires everything together: the one place where objects meet."""

import asyncio
import logging
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from endpoints.events import FeedView
from endpoints.kubernetes.cache import Cache
from endpoints.kubernetes.connection import NotConfiguredError
from gateway.accesslog import AccessLog
from gateway.admin.application import AdminServer
from gateway.admission import Admissions
from gateway.allocator import keep_large_blocks_apart
from gateway.bodies import Bodies, Shared
from gateway.brains import Brains
from gateway.capacity import Capacity, CapacityError
from gateway.clusterpools import ClusterPools
from gateway.collector import collect_young_only
from gateway.config import ConfigError, Settings, restart_needed
from gateway.embedded import EmbeddedFleet, EmbeddedFleetError
from gateway.gatewayapi.service import GatewayApi
from gateway.logs import set_log_level
from gateway.operators import Parts, operators_app, short_names
from gateway.pickerconfig import PickerConfig
from gateway.pickerconfig import load as load_picker_config
from gateway.pool import STATIC, Pool
from gateway.readiness import Readiness
from gateway.record import RequestRecord
from gateway.settings import (
    ExtProcSettings,
    GatewayApiSettings,
    KubernetesSettings,
    ProxySettings,
)
from gateway.telemetry import Telemetry
from gateway.tls import TlsError, upstream_context
from gateway.tokenizing.local import TokenizerError
from gateway.tokenizing.service import TokenizingService
from gateway.trafficlog import TrafficLog
from routing import router as routing_router
from routing.policies import make_policy
from routing.request import Request
from routing.router import Router

_FIRST_ROUND_SECONDS = 5.0
_COMPILED = not (routing_router.__file__ or "").endswith(".py")
_clock = time.monotonic  # the event loop's own clock ticks in milliseconds: too coarse
_log = logging.getLogger("inferway")


class StartError(RuntimeError):
    """The gateway can't start; the message says why."""


class Gateway:
    """One gateway, from `start` to `stop`; `run` does both around a signal.

    ``changes`` are settings as they change while it runs: what can be applied is, what needs
    a restart is named in the log. ``embedded``: start simulated model servers as a child
    process and use those.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        changes: AsyncIterator[Settings | ConfigError] | None = None,
        embedded: EmbeddedFleet | None = None,
    ) -> None:
        picker: PickerConfig | None = None
        if settings.extproc is not None and settings.extproc.picker_config is not None:
            picker = load_picker_config(settings.extproc.picker_config)
            settings = _with_picker_config(settings, settings.extproc, picker)
        self._settings = settings
        self._changes = changes
        self._embedded = embedded
        self._running = AsyncExitStack()
        self._tasks: set[asyncio.Task[None]] = set()
        self._readiness = Readiness()
        self.bodies: Bodies | None = None
        """What carries requests, once started."""
        self.capacity: Capacity | None = None
        """The loops that scale pools; None: no pool is to be scaled."""
        if settings.scaling is not None:
            self.capacity = Capacity(
                settings.scaling,
                settings.routing.objective,
                _clock,
                None if settings.kubernetes is None else settings.kubernetes.cluster(),
            )
        self.brains = Brains()
        self.admissions: Admissions | None = None
        """The lines before busy pools; None: engines queue what they can't begin with."""
        if settings.admission is not None:
            self.admissions = Admissions(settings.admission, _clock)
            self._running.callback(self.admissions.close)
        self._telemetry = Telemetry(self.brains.knows)
        self._pools: dict[str, Pool] = {}
        self._picker = picker
        self.cluster: ClusterPools | None = None
        """What keeps the pools of a cluster, once started; None: the settings name none."""
        self.gateways: GatewayApi | None = None
        """The Gateways of a cluster, once started; None: we are none."""
        self._static = self._new_pool(STATIC)
        if settings.kubernetes is not None and not settings.endpoints and embedded is None:
            self.brains.remove(STATIC)  # all pools are the cluster's
            if self.admissions is not None:
                self.admissions.remove(self.router)

    @property
    def router(self) -> Router:
        """The brain of the endpoints that the configuration names."""
        return self._static.router

    @property
    def port(self) -> int:
        """The port for clients, once started; 0 when only Envoy is served."""
        return 0 if self.bodies is None or self.bodies.proxy is None else self.bodies.proxy.port

    @property
    def admin_port(self) -> int:
        """The port for operators, once started."""
        return self._admin.port

    @property
    def telemetry(self) -> Telemetry:
        """What is counted."""
        return self._telemetry

    @staticmethod
    def now() -> float:
        """The clock of its decisions, in seconds."""
        return _clock()

    def event_views(self) -> tuple[FeedView, ...]:
        """How the engines' cache events come in; empty when nobody follows them."""
        return tuple(view for pool in self._pools.values() for view in pool.event_views())

    # --- life --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start, serve until SIGTERM or SIGINT, let what is in flight finish, stop.

        A second signal ends the waiting for what is in flight.
        """
        loop = asyncio.get_running_loop()
        signals: asyncio.Queue[None] = asyncio.Queue()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, signals.put_nowait, None)
        try:
            await self.start()
            await signals.get()
            ends = [asyncio.ensure_future(self.drain()), asyncio.ensure_future(signals.get())]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
        finally:
            await self.stop()
            for name in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(name)

    async def start(self) -> None:
        """Listen, find the endpoints, and be ready. StartError when that can't be."""
        keep_large_blocks_apart()
        settings = await self._with_embedded(self._settings)
        self.bodies = await self._start_servers(settings)
        pool = self._static
        self._running.push_async_callback(pool.stop)
        await pool.start(_trust(settings.proxy))
        pool.apply(settings.fleet_endpoints())
        self._spawn(pool.keep_sweeping())
        await self._start_scaling(pool)
        if not await pool.wait_first_round(_FIRST_ROUND_SECONDS):
            _log.warning("some endpoints have not answered yet; serving with those that have")
        if settings.kubernetes is not None:
            await self._start_cluster(settings, settings.kubernetes)
        if settings.gateway_api is not None and self.cluster is not None:
            self.gateways = await self._start_gateways(settings.gateway_api, self.cluster)
        if self._changes is not None:
            self._spawn(self._follow(self._changes))
        collect_young_only()
        if self.cluster is None or await self.cluster.wait_synced(_FIRST_ROUND_SECONDS):
            self._readiness.ready()
        else:
            _log.warning("the cluster's pools are not known yet; not ready until they are")
            self._readiness.starting("the cluster's pools are not known yet")
            self._spawn(self._ready_when_synced(self.cluster))
        _log.info(
            "serving %s, operators on http://%s:%d",
            self.bodies.served(),
            settings.admin.host,
            self.admin_port,
            extra={
                "policy": pool.router.policy.name,
                "endpoints": sum(len(router.fleet) for _, router in self.brains),
                "compiled": _COMPILED,
            },
        )

    async def _start_cluster(self, settings: Settings, kubernetes: KubernetesSettings) -> None:
        cluster = self.cluster = ClusterPools(
            kubernetes,
            self.brains,
            new_pool=self._cluster_pool,
            drop_pool=self._drop_pool,
            spawn=self._spawn,
            changed=self._pools_changed,
            tls=_trust(settings.proxy),
        )
        self._running.push_async_callback(cluster.stop)
        try:
            await cluster.start()
        except NotConfiguredError as error:
            raise StartError(f"kubernetes: {error}") from error

    async def _start_gateways(
        self, settings: GatewayApiSettings, cluster: ClusterPools
    ) -> GatewayApi:
        assert self.bodies is not None
        assert cluster.connection is not None
        gateways = GatewayApi(
            settings,
            cluster.settings.discovery(),
            cluster.connection,
            self.brains,
            self.bodies.proxy_context,
        )
        self._running.push_async_callback(gateways.stop)
        await gateways.start(_FIRST_ROUND_SECONDS)
        return gateways

    async def _ready_when_synced(self, cluster: ClusterPools) -> None:
        while not await cluster.wait_synced(_FIRST_ROUND_SECONDS):
            pass
        self._readiness.ready()

    async def _start_scaling(self, pool: Pool) -> None:
        if self.capacity is None:
            return
        self._running.push_async_callback(self.capacity.stop)
        try:
            await self.capacity.start()
        except CapacityError as error:
            raise StartError(f"scaling: {error}") from error
        await self.capacity.attach(pool)
        for name in self.capacity.unattached:
            if self._settings.kubernetes is not None:
                break  # they may still come
            _log.warning("scaling.pools.%s: there is no pool of that name yet", name)

    async def _start_servers(self, settings: Settings) -> Bodies:
        bodies = Bodies(
            settings,
            Shared(
                brains=self.brains,
                telemetry=self._telemetry,
                readiness=self._readiness,
                log_request=self._access_log().write if settings.log.access else _log_nothing,
                log_traffic=self._traffic_log(),
                tokenizing=self._tokenizing(settings),
                now=_clock,
                waiting=None if self.capacity is None else self.capacity.rooms,
                admissions=self.admissions,
            ),
            self.router,
        )
        parts = Parts(
            brains=self.brains,
            telemetry=self._telemetry,
            readiness=self._readiness,
            now=_clock,
            picked=self._picked,
            watched=self._watched,
            certificate_end=lambda: (
                None if bodies.certificate is None else bodies.certificate.not_after
            ),
            books=bodies.books,
            capacity=self.capacity,
            admissions=self.admissions,
        )
        self._admin = AdminServer(operators_app(parts), settings.admin.host, settings.admin.port)
        self._running.push_async_callback(self._admin.stop)
        self._running.push_async_callback(bodies.stop)
        try:
            await self._admin.start()
            await bodies.start()
        except TlsError as error:
            raise StartError(str(error)) from error
        except OSError as error:
            raise StartError(f"can't listen: {error.strerror or error}") from error
        for certificate in bodies.certificates():
            self._spawn(certificate.keep_fresh())
        return bodies

    def _picked(self) -> Iterable[tuple[str, Router]]:
        """The pools that Envoy is served from."""
        extproc = self._settings.extproc
        if self._settings.kubernetes is None:
            return ((STATIC if extproc is None else extproc.pool, self.router),)
        return short_names(self.brains)

    def _watched(self) -> Iterator[Cache]:
        if self.cluster is not None and self.cluster.discovery is not None:
            yield from self.cluster.discovery.caches()
        if self.gateways is not None:
            yield from self.gateways.caches()

    def _access_log(self) -> AccessLog:
        log = AccessLog(self._settings.log.format)
        self._running.callback(log.close)
        return log

    def _tokenizing(self, settings: Settings) -> TokenizingService | None:
        if not settings.tokenizers:
            return None
        brains = self.brains
        try:
            service = TokenizingService(
                settings.tokenizers, settings.tokenizing_deadline, brains.url_of, brains.base_of
            )
        except TokenizerError as error:
            raise StartError(f"tokenizers: {error}") from error
        self._running.push_async_callback(service.close)
        return service

    def _traffic_log(self) -> Callable[[RequestRecord, Request], object] | None:
        path = self._settings.log.traffic
        if path is None:
            return None
        try:
            log = TrafficLog(Path(path), max_bytes=self._settings.log.traffic_bytes)
        except (OSError, ValueError) as error:
            raise StartError(f"log.traffic: {error}") from error
        self._running.callback(log.close)
        return log.write

    async def _with_embedded(self, settings: Settings) -> Settings:
        if self._embedded is None:
            return settings
        self._running.push_async_callback(self._embedded.stop)
        try:
            found = await self._embedded.start()
            return msgspec.structs.replace(settings, endpoints=found)
        except EmbeddedFleetError as error:
            raise StartError(f"the simulated model servers did not start: {error}") from error

    async def drain(self) -> None:
        """Say so to load balancers, stop accepting, let what is in flight finish."""
        self._readiness.draining()
        _log.info("draining", extra={"grace": self._settings.proxy.drain_seconds})
        drains = [] if self.bodies is None else [self.bodies.drain()]
        if self.gateways is not None:
            drains.append(self.gateways.drain(self._settings.proxy.drain_seconds))
        await asyncio.gather(*drains)

    async def stop(self) -> None:
        """Close everything; harmless when it never started."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._running.aclose()
        _log.info("stopped")

    # --- while it runs -----------------------------------------------------------------------

    def _new_pool(self, name: str) -> Pool:
        """A pool that requests are routed to from now on."""
        pool = Pool(
            name,
            self._settings,
            clock=_clock,
            changed=self._fleets_changed,
            requests=self._telemetry.requests_of,
            policy=None if self._picker is None else self._picker.make_policy(),
        )
        self._pools[name] = pool
        self.brains.add(name, pool.router)
        if self.admissions is not None:
            self.admissions.add(name, pool.router)
        self._brains_changed()
        return pool

    def _cluster_pool(self, name: str) -> Pool:
        """A pool of the cluster's, scaled if the settings say so."""
        pool = self._new_pool(name)
        if self.capacity is not None:
            self.capacity.came(pool)
        return pool

    def _drop_pool(self, name: str) -> None:
        """Route nothing more to it."""
        if self.capacity is not None:
            self.capacity.left(name)
        pool = self._pools.pop(name, None)
        self.brains.remove(name)
        if pool is not None and self.admissions is not None:
            self.admissions.remove(pool.router)
        self._brains_changed()

    def _brains_changed(self) -> None:
        if self.gateways is not None:
            self.gateways.pools_changed()

    def _pools_changed(self) -> None:
        """The cluster has other pools, or they say something else."""
        context = None if self.bodies is None else self.bodies.processor_context
        if context is not None and context.pools is not None and self.cluster is not None:
            context.pools.called(self.cluster.pickers())
            context.pools.changed()

    def _fleets_changed(self) -> None:
        names = {state.name for _, router in self.brains for state in router.fleet}
        self._telemetry.keep_endpoints(names)
        if self.bodies is not None:
            self.bodies.fleet_changed(names)

    async def _follow(self, changes: AsyncIterator[Settings | ConfigError]) -> None:
        async for said in changes:
            if isinstance(said, ConfigError):
                _log.error("the changed configuration is not used: %s", said)
            else:
                self._apply(said)

    def _apply(self, new: Settings) -> None:
        """Take over what a running gateway can; `config.LIVE_KEYS` says what that is."""
        waiting = restart_needed(self._settings, new)
        if waiting:
            _log.warning("a restart is needed for %s", ", ".join(waiting))
        if self._embedded is None:
            self._static.apply(new.fleet_endpoints())
        picks = new.extproc is not None and new.extproc.picker_config is not None
        if new.routing.policy != self.router.policy.name and not picks:
            for _, router in (*self.brains, (STATIC, self.router)):
                router.policy = make_policy(new.routing.policy)
            _log.info("policy is now %s", new.routing.policy)
        set_log_level(new.log.level)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a background task ended by a defect", exc_info=error)


def _trust(settings: ProxySettings) -> ssl.SSLContext:
    """Who vouches for ``https://`` endpoints, towards whoever connects to them."""
    try:
        return upstream_context(settings)
    except TlsError as error:
        raise StartError(str(error)) from error


def _log_nothing(_record: RequestRecord) -> None:
    """Requests are counted, not written."""


def _with_picker_config(
    settings: Settings, extproc: ExtProcSettings, picker: PickerConfig
) -> Settings:
    """The settings as an ``EndpointPickerConfig`` wants them; what differs there is logged.

    Its flow control counts where the settings have no ``admission`` themselves.
    """
    for note in picker.notes:
        _log.warning("%s: %s", extproc.picker_config, note)
    changed = msgspec.structs.replace(
        extproc,
        fallbacks=picker.fallbacks,
        test_selection=extproc.test_selection or picker.test_selection,
    )
    ranked = max(settings.routing.fallbacks, picker.fallbacks)
    routing = msgspec.structs.replace(settings.routing, fallbacks=ranked)
    admission = settings.admission or picker.admission
    return msgspec.structs.replace(settings, extproc=changed, routing=routing, admission=admission)
