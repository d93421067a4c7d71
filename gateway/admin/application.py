"""The operators' HTTP server: `/metrics`, `/healthz`, `/readyz` and the debug views."""

import re
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
)
from gateway.admin.views import decision_view, endpoint_view
from gateway.readiness import Readiness, ReadinessState
from gateway.telemetry import Telemetry
from routing.router import Router

_DEFAULT_LIMIT = 20
_LIMIT = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)
_STOP_SECONDS = 1.0  # pages take milliseconds: who is not served by then has gone


def make_app(
    router: Router,
    telemetry: Telemetry,
    readiness: Readiness,
    now: Callable[[], float],
    certificate_end: Callable[[], float | None] = lambda: None,
) -> web.Application:
    """The application.

    ``now`` is the clock that the router is told the time by; ``certificate_end`` tells when
    the certificate towards clients ends (Unix time), None without TLS.
    """
    pages = _Pages(router, telemetry, readiness, now, certificate_end)
    app = web.Application()
    app.router.add_get("/metrics", pages.metrics)
    app.router.add_get("/healthz", pages.healthz)
    app.router.add_get("/readyz", pages.readyz)
    app.router.add_get("/debug/endpoints", pages.endpoints)
    app.router.add_get("/debug/decisions", pages.decisions)
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
    ) -> None:
        self._router = router
        self._readiness = readiness
        self._now = now
        self._collectors: tuple[Collector, ...] = (
            RequestMetrics(telemetry),
            PrefixMetrics(router.prefix),
            RetryMetrics(router.retries),
            CertificateMetrics(certificate_end),
            EndpointMetrics(router.fleet, router.prefix, telemetry, now),
            ProcessCollector(registry=None),
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
        router, now = self._router, self._now()
        return _json([endpoint_view(state, router.prefix, now) for state in router.fleet])

    async def decisions(self, request: web.Request) -> web.Response:
        """The latest receipts, newest first, at most ``limit`` of them."""
        text = request.query.get("limit", str(_DEFAULT_LIMIT))
        if _LIMIT.fullmatch(text) is None:
            message = f"limit is {text[:40]!r}; give a whole number from 1 to 999999"
            return _json({"error": message}, status=400)
        now = self._now()
        latest = islice(reversed(self._router.recent), int(text))
        return _json([decision_view(decision, now) for decision in latest])


def _json(page: object, *, status: int = 200) -> web.Response:
    """A page that people read, too."""
    body = msgspec.json.format(msgspec.json.encode(page), indent=2) + b"\n"
    return web.Response(body=body, status=status, content_type="application/json")
