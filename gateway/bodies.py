"""The bodies around the brain that carry requests: the proxy, the external processor, or both."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from gateway.admission import Admissions
from gateway.brains import Brains
from gateway.extproc.addresses import AddressBook
from gateway.extproc.context import ProcessorContext
from gateway.extproc.pools import PickerPools
from gateway.extproc.server import ExtProcServer
from gateway.pickerbooks import PickerBooks
from gateway.proxy.context import ProxyContext
from gateway.proxy.cors import Cors
from gateway.proxy.pool import Pools, PoolSettings
from gateway.proxy.server import ProxyServer
from gateway.readiness import Readiness
from gateway.record import RequestRecord
from gateway.selfsigned import self_signed_context
from gateway.settings import ExtProcSettings, Settings
from gateway.telemetry import Telemetry
from gateway.tls import ServerTls, upstream_context
from gateway.tokenizing.service import TokenizingService
from gateway.waiting import WaitingRooms
from routing.request import Request
from routing.router import Router

_ALPN_H2 = ("h2",)


@dataclass(frozen=True, slots=True)
class Shared:
    """What every body is given: the brains, the books, the logs, the time."""

    brains: Brains
    telemetry: Telemetry
    readiness: Readiness
    log_request: Callable[[RequestRecord], None]
    log_traffic: Callable[[RequestRecord, Request], object] | None
    tokenizing: TokenizingService | None
    now: Callable[[], float]
    waiting: WaitingRooms | None = None
    admissions: Admissions | None = None
    created: int = field(default_factory=lambda: int(time.time()))


class Bodies:
    """Those that the settings ask for, from `start` to `stop`.

    ``picked``: the router whose endpoints the external processor picks from.
    """

    def __init__(self, settings: Settings, shared: Shared, picked: Router) -> None:
        self._settings = settings
        self._shared = shared
        self._running = AsyncExitStack()
        self.proxy: ProxyServer | None = None
        """Serves clients, once started; None: nobody does."""
        self.processor: ExtProcServer | None = None
        """Serves Envoy, once started; None: nobody does."""
        self.processor_context: ProcessorContext | None = None
        """What the external processor answers from."""
        self.certificate: ServerTls | None = None
        """What clients are shown; None without TLS."""
        self._processor_certificate: ServerTls | None = None
        if settings.extproc is not None:
            self.processor_context = ProcessorContext(
                router=picked,
                book=AddressBook(picked.fleet),
                telemetry=shared.telemetry,
                books=PickerBooks(settings.extproc.pool),
                settings=settings.extproc,
                log_request=shared.log_request,
                log_traffic=shared.log_traffic,
                tokenizing=shared.tokenizing,
                pools=None if settings.kubernetes is None else PickerPools(shared.brains),
                admissions=shared.admissions,
                objectives=settings.routing.objectives,
                internal_fields=settings.proxy.internal_fields,
                max_json_depth=settings.proxy.max_json_depth,
                created=shared.created,
                now=shared.now,
            )

    @property
    def books(self) -> PickerBooks | None:
        """What the external processor counts."""
        return None if self.processor_context is None else self.processor_context.books

    def certificates(self) -> Iterator[ServerTls]:
        """Those that somebody must keep fresh."""
        for certificate in (self.certificate, self._processor_certificate):
            if certificate is not None:
                yield certificate

    async def start(self) -> None:
        """Listen. Raises TlsError for certificates, OSError for addresses that can't be had."""
        extproc = self._settings.extproc
        if extproc is not None and self.processor_context is not None:
            await self._start_processor(extproc, self.processor_context)
        if extproc is None or not extproc.alone:
            await self._start_proxy(self._settings)

    async def _start_processor(self, settings: ExtProcSettings, context: ProcessorContext) -> None:
        tls = None
        if settings.tls is not None:
            self._processor_certificate = ServerTls(settings.tls, alpn=_ALPN_H2)
            tls = self._processor_certificate.context
        elif settings.self_signed:
            tls = self_signed_context(_ALPN_H2)
        self.processor = ExtProcServer(context, self._shared.readiness)
        self._running.push_async_callback(self.processor.stop)
        await self.processor.start(tls)

    def proxy_context(self) -> ProxyContext:
        """What the connections of one port share, each port with connections of its own behind."""
        shared, settings, proxy = self._shared, self._settings, self._settings.proxy
        pools = Pools(
            PoolSettings(
                connect_timeout=proxy.connect_timeout,
                idle_timeout=proxy.upstream_idle_timeout,
                max_idle=proxy.max_idle_upstream,
                tls=upstream_context(proxy),
            )
        )
        return ProxyContext(
            brains=shared.brains,
            pools=pools,
            telemetry=shared.telemetry,
            settings=proxy,
            log_request=shared.log_request,
            now=shared.now,
            log_traffic=shared.log_traffic,
            tokenizing=shared.tokenizing,
            objectives=settings.routing.objectives,
            created=shared.created,
            cors=Cors(settings.cors),
            waiting=shared.waiting,
            admissions=shared.admissions,
        )

    async def _start_proxy(self, settings: Settings) -> None:
        if settings.listen.tls is not None:
            self.certificate = ServerTls(settings.listen.tls)
        self.proxy = ProxyServer(
            self.proxy_context(),
            settings.listen.host,
            settings.listen.port,
            tls=None if self.certificate is None else self.certificate.context,
        )
        self._running.push_async_callback(self.proxy.stop)
        await self.proxy.start()

    def fleet_changed(self, names: set[str]) -> None:
        """The fleet has these endpoints now."""
        if self.processor_context is not None:
            self.processor_context.book.changed()
            if self.processor_context.pools is not None:
                self.processor_context.pools.changed()
            self.processor_context.books.keep_endpoints(names)

    def served(self) -> str:
        """Whom we serve and where, in words."""
        served, settings = [], self._settings
        if self.proxy is not None:
            scheme = "http" if self.certificate is None else "https"
            served.append(f"clients on {scheme}://{settings.listen.host}:{self.proxy.port}")
        if self.processor is not None and settings.extproc is not None:
            served.append(f"Envoy on {settings.extproc.host}:{self.processor.port}")
        return ", ".join(served)

    async def drain(self) -> None:
        """Stop accepting, let what is in flight finish, each for its own grace period."""
        settings = self._settings
        drains = []
        if self.proxy is not None:
            drains.append(self.proxy.drain(settings.proxy.drain_seconds))
        if self.processor is not None and settings.extproc is not None:
            drains.append(self.processor.drain(settings.extproc.drain_seconds))
        await asyncio.gather(*drains)

    async def stop(self) -> None:
        """Close everything now."""
        await self._running.aclose()
