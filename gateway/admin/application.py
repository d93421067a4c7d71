"""The operators' HTTP server: `/metrics`, `/healthz`, `/readyz` and the debug views."""

import asyncio
from collections.abc import Callable
from itertools import islice

import msgspec
from aiohttp import web
from prometheus_client import ProcessCollector
from prometheus_client.registry import Collector

from gateway.admin.exposition import CONTENT_TYPE, render
from gateway.admin.metrics import (
    CertificateMetrics,
    EndpointMetrics,
    PrefixMetrics,
    RequestMetrics,
    RetryMetrics,
    SplitMetrics,
)
from gateway.admin.pickermetrics import PickerMetrics
from gateway.admin.predictions import PredictionMetrics
from gateway.admin.receipts import ReceiptPage, receipt_page
from gateway.admin.selection import SelectionError, read_selection
from gateway.admin.views import endpoint_view
from gateway.pickerbooks import PickerBooks
from gateway.readiness import Readiness, ReadinessState
from gateway.telemetry import Telemetry
from routing.receipts import Receipt, Receipts
from routing.router import Router

_PAGES_AT_ONCE = 50  # receipts put into words, a millisecond or two, before others go on
_STOP_SECONDS = 1.0  # pages take milliseconds: who is not served by then has gone


def make_app(
    router: Router,
    telemetry: Telemetry,
    readiness: Readiness,
    now: Callable[[], float],
    certificate_end: Callable[[], float | None] = lambda: None,
    *,
    receipts: Receipts | None = None,
    picker: PickerBooks | None = None,
) -> web.Application:
    """The application.

    ``now`` is the clock that the router is told the time by; ``certificate_end`` tells when
    the certificate towards clients ends (Unix time), None without TLS. ``receipts``: the
    router's; without any, the latest decisions are shown as far as the router keeps them.
    ``picker``: what the external processor counts; None without one.
    """
    pages = _Pages(router, telemetry, readiness, now, certificate_end, receipts)
    if picker is not None:
        pages.add(PickerMetrics(picker, telemetry, router.fleet, router.prefix))
    app = web.Application()
    app.router.add_get("/metrics", pages.metrics)
    app.router.add_get("/healthz", pages.healthz)
    app.router.add_get("/readyz", pages.readyz)
    app.router.add_get("/debug/endpoints", pages.endpoints)
    app.router.add_get("/debug/decisions", pages.decisions)
    app.router.add_get("/debug/decisions/{request_id:.+}", pages.decision)
    return app


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
        router: Router,
        telemetry: Telemetry,
        readiness: Readiness,
        now: Callable[[], float],
        certificate_end: Callable[[], float | None],
        receipts: Receipts | None,
    ) -> None:
        self._router = router
        self._kept = receipts
        self._receipts = Receipts(1) if receipts is None else receipts
        self._readiness = readiness
        self._now = now
        self._collectors: tuple[Collector, ...] = (
            RequestMetrics(telemetry),
            PrefixMetrics(router.prefix),
            RetryMetrics(router.retries),
            SplitMetrics(router, now),
            CertificateMetrics(certificate_end),
            EndpointMetrics(router.fleet, router.prefix, telemetry, now),
            PredictionMetrics(self._receipts, router.fleet),
            ProcessCollector(registry=None),
        )

    def add(self, collector: Collector) -> None:
        """Show these metrics, too."""
        self._collectors = (*self._collectors, collector)

    async def metrics(self, _request: web.Request) -> web.Response:
        """Everything that is counted, as Prometheus reads it."""
        page = await render(self._collectors)
        return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE})

    async def healthz(self, _request: web.Request) -> web.Response:
        """The process lives and its event loop turns; nothing else."""
        return web.Response(text="ok\n")

    async def readyz(self, _request: web.Request) -> web.Response:
        """200 when clients should be sent here, else 503 and why not."""
        fleet = self._router.fleet
        healthy = len(fleet.serving(None))
        reasons = []
        if self._readiness.state is not ReadinessState.READY:
            reasons.append(self._readiness.reason)
        if not healthy:
            reasons.append(f"none of the {len(fleet)} endpoints is healthy")
        page = {
            "ready": not reasons,
            "state": self._readiness.state.value,
            "reasons": reasons,
            "healthy_endpoints": healthy,
            "endpoints": len(fleet),
        }
        return _json(page, status=503 if reasons else 200)

    async def endpoints(self, _request: web.Request) -> web.Response:
        """Everything known about every endpoint, in the order in which they joined."""
        router, now, errors = self._router, self._now(), self._receipts.by_endpoint
        return _json(
            [
                endpoint_view(state, router.prefix, now, errors.get(state.name))
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
        fitting = (
            receipt for receipt in self._latest() if selection.fits(receipt, self._receipts, now)
        )
        pages: list[ReceiptPage] = []
        for receipt in islice(fitting, selection.limit):
            pages.append(receipt_page(receipt, self._receipts, now))
            if len(pages) % _PAGES_AT_ONCE == 0:
                await asyncio.sleep(0)
        return _json(pages)

    async def decision(self, request: web.Request) -> web.Response:
        """The receipt of one request; of several with its id, the latest."""
        request_id, now = request.match_info["request_id"], self._now()
        for receipt in self._latest():
            if receipt.decision.request.id == request_id:
                return _json(receipt_page(receipt, self._receipts, now))
        message = f"no receipt of a request {request_id!r}: {self._how_long_kept(request_id, now)}"
        return _json({"error": message}, status=404)

    def _latest(self) -> list[Receipt]:
        """All receipts there are, newest first."""
        if self._kept is not None:
            return self._kept.latest()
        return [
            Receipt(decision, [], over=decision.outcome is not None)
            for decision in reversed(self._router.recent)
        ]

    def _how_long_kept(self, request_id: str, now: float) -> str:
        """What to expect of the receipts of ended requests."""
        receipts = self._receipts
        share = "" if receipts.sample >= 1.0 else f"{receipts.sample:.3g} of all, chosen by id: "
        kept = (
            f"kept are {share}the latest {receipts.capacity:,} that ended, "
            "and as many that failed, were retried or surprised"
        )
        if not receipts.samples(request_id):
            kept += "; this id is not among the chosen"
        latest = self._latest()
        if latest:
            kept += f"; the oldest is {now - latest[-1].decision.at:,.0f} s old"
        return kept


def _json(page: object, *, status: int = 200) -> web.Response:
    """A page that people read, too."""
    body = msgspec.json.format(msgspec.json.encode(page), indent=2) + b"\n"
    return web.Response(body=body, status=status, content_type="application/json")
