"""The operators' HTTP server: `/metrics`, `/healthz`, `/readyz` and the debug views."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import islice
from types import MappingProxyType

import msgspec
from aiohttp import web
from prometheus_client import ProcessCollector
from prometheus_client.registry import Collector

from gateway.admin.endpointmetrics import EndpointMetrics
from gateway.admin.exposition import CONTENT_TYPE, render
from gateway.admin.metrics import (
    CertificateMetrics,
    PrefixMetrics,
    RequestMetrics,
    RetryMetrics,
)
from gateway.admin.predictions import PredictionMetrics
from gateway.admin.receipts import ReceiptPage, receipt_page
from gateway.admin.selection import SelectionError, read_selection
from gateway.admin.splitmetrics import SplitMetrics
from gateway.admin.views import endpoint_view
from gateway.brains import Brains
from gateway.readiness import Readiness, ReadinessState
from gateway.telemetry import Telemetry
from routing.receipts import Receipt, Receipts

_PAGES_AT_ONCE = 50  # receipts put into words, a millisecond or two, before others go on
_STOP_SECONDS = 1.0  # pages take milliseconds: who is not served by then has gone


def make_app(
    brains: Brains,
    telemetry: Telemetry,
    readiness: Readiness,
    now: Callable[[], float],
    certificate_end: Callable[[], float | None] = lambda: None,
    *,
    more: Iterable[Collector] = (),
    holding: Callable[[], bool] = lambda: False,
    debug: Mapping[str, Callable[[], object]] = MappingProxyType({}),
) -> web.Application:
    """The application.

    ``now`` is the clock that the routers are told the time by; ``certificate_end`` tells when
    the certificate towards clients ends (Unix time), None without TLS. ``more``: metrics of
    whatever else runs. ``holding``: whether requests may wait for pools without endpoints: then
    a gateway without any is ready, or nothing would ever wake them. ``debug``: further pages
    below ``/debug/``, by name.
    """
    pages = _Pages(brains, telemetry, readiness, now, certificate_end, more, holding)
    app = web.Application()
    app.router.add_get("/metrics", pages.metrics)
    app.router.add_get("/healthz", pages.healthz)
    app.router.add_get("/readyz", pages.readyz)
    app.router.add_get("/debug/endpoints", pages.endpoints)
    for name, page in debug.items():
        app.router.add_get(f"/debug/{name}", _shown(page))
    app.router.add_get("/debug/decisions", pages.decisions)
    app.router.add_get("/debug/decisions/{request_id:.+}", pages.decision)
    return app


def _shown(page: Callable[[], object]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def show(_request: web.Request) -> web.Response:
        return _json(page())

    return show


class AdminServer:
    """The application on a port of its own."""

    def __init__(self, app: web.Application, host: str, port: int) -> None:
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=_STOP_SECONDS
        )
        self._host = host
        self._port = port

    @property
    def port(self) -> int:
        """The port in use, which the system chose when 0 was asked for."""
        return self._port

    async def start(self) -> None:
        """Listen. Raises OSError when the address can't be had."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close everything; harmless when it never started."""
        await self._runner.cleanup()


class _Pages:
    """The handlers and what they read from."""

    def __init__(
        self,
        brains: Brains,
        telemetry: Telemetry,
        readiness: Readiness,
        now: Callable[[], float],
        certificate_end: Callable[[], float | None],
        more: Iterable[Collector],
        holding: Callable[[], bool],
    ) -> None:
        self._brains = brains
        self._holding = holding
        self._readiness = readiness
        self._now = now
        self._collectors: tuple[Collector, ...] = (
            RequestMetrics(telemetry),
            PrefixMetrics(brains),
            RetryMetrics(brains),
            SplitMetrics(brains, now),
            CertificateMetrics(certificate_end),
            EndpointMetrics(brains, telemetry, now),
            PredictionMetrics(brains),
            ProcessCollector(registry=None),
            *more,
        )

    async def metrics(self, _request: web.Request) -> web.Response:
        """Everything that is counted, as Prometheus reads it."""
        page = await render(self._collectors)
        return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE})

    async def healthz(self, _request: web.Request) -> web.Response:
        """The process lives and its event loop turns; nothing else."""
        return web.Response(text="ok\n")

    async def readyz(self, _request: web.Request) -> web.Response:
        """200 when clients should be sent here, else 503 and why not."""
        fleets = [router.fleet for _, router in self._brains]
        healthy = sum(len(fleet.serving(None)) for fleet in fleets)
        known = sum(map(len, fleets))
        reasons = []
        if self._readiness.state is not ReadinessState.READY:
            reasons.append(self._readiness.reason)
        if not healthy and not self._holding():
            reasons.append(f"none of the {known} endpoints is healthy")
        page = {
            "ready": not reasons,
            "state": self._readiness.state.value,
            "reasons": reasons,
            "healthy_endpoints": healthy,
            "endpoints": known,
        }
        return _json(page, status=503 if reasons else 200)

    async def endpoints(self, _request: web.Request) -> web.Response:
        """Everything known about every endpoint, in the order in which they joined."""
        now = self._now()
        return _json(
            [
                endpoint_view(pool, state, router, now)
                for pool, router in self._brains
                for state in router.fleet
            ]
        )

    async def decisions(self, request: web.Request) -> web.Response:
        """The receipts that the query selects, newest first."""
        try:
            selection = read_selection(request.query)
        except SelectionError as error:
            return _json({"error": str(error)}, status=400)
        now = self._now()
        fitting = (one for one in self._latest() if selection.fits(*one, now))
        pages: list[ReceiptPage] = []
        for receipt, kept in islice(fitting, selection.limit):
            pages.append(receipt_page(receipt, kept, now))
            if len(pages) % _PAGES_AT_ONCE == 0:
                await asyncio.sleep(0)
        return _json(pages)

    async def decision(self, request: web.Request) -> web.Response:
        """The receipt of one request; of several with its id, the latest."""
        request_id, now = request.match_info["request_id"], self._now()
        for receipt, kept in self._latest():
            if receipt.decision.request.id == request_id:
                return _json(receipt_page(receipt, kept, now))
        message = f"no receipt of a request {request_id!r}: {self._how_long_kept(request_id, now)}"
        return _json({"error": message}, status=404)

    def _latest(self) -> list[tuple[Receipt, Receipts]]:
        """All receipts there are, newest first, each with those of its pool."""
        found = [
            (receipt, router.receipts)
            for _, router in self._brains
            if router.receipts is not None
            for receipt in router.receipts.latest()
        ]
        if len(self._brains) > 1:
            found.sort(key=lambda one: one[0].decision.at, reverse=True)
        return found

    def _how_long_kept(self, request_id: str, now: float) -> str:
        """What to expect of the receipts of ended requests."""
        receipts = next((one for _, router in self._brains if (one := router.receipts)), None)
        if receipts is None:
            return "receipts are not kept"
        sample = receipts.sample
        share = "" if sample.share >= 1.0 else f"{sample.share:.3g} of all, chosen by id: "
        kept = (
            f"kept are {share}the latest {receipts.capacity:,} that ended, "
            "and as many that failed, were retried or surprised"
        )
        if not sample.has(request_id):
            kept += "; this id is not among the chosen"
        latest = self._latest()
        if latest:
            kept += f"; the oldest is {now - latest[-1][0].decision.at:,.0f} s old"
        return kept


def _json(page: object, *, status: int = 200) -> web.Response:
    """A page that people read, too."""
    body = msgspec.json.format(msgspec.json.encode(page), indent=2) + b"\n"
    return web.Response(body=body, status=status, content_type="application/json")
