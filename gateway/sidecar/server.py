"""The sidecar's process: one proxy a data-parallel rank, each before an engine of its own."""

import asyncio
import random
import signal
import ssl
import time
from collections.abc import Callable

import msgspec

from gateway.accesslog import AccessLog
from gateway.brains import Brains
from gateway.proxy.context import ProxyContext
from gateway.proxy.pairing import Pairing, PairingSettings
from gateway.proxy.pool import Pools, PoolSettings
from gateway.proxy.server import ProxyServer
from gateway.record import RequestRecord
from gateway.selfsigned import self_signed_context
from gateway.settings import ProxySettings, TlsSettings
from gateway.sidecar.options import SidecarOptions
from gateway.telemetry import Telemetry
from gateway.tls import ServerTls, upstream_context
from routing.breaker import BreakerSettings
from routing.fleet import Endpoint, Fleet
from routing.policies import make_policy
from routing.prefix.index import PrefixIndex
from routing.router import Router, RouterSettings

_HOST = "127.0.0.1"
_ALPN = ("http/1.1",)
_INDEX_BYTES = 1 << 20  # nothing is ever looked up
_KEEPALIVE_SECONDS = 300.0
_UPSTREAM_IDLE_SECONDS = 90.0
_HEADER_SECONDS = 30.0
_HEADER_BYTES = 1 << 20
_FOREVER = 86_400.0
GRACE_SECONDS = 60.0
# It has one engine: leaving it alone would leave nobody.
_NEVER_OPEN = BreakerSettings(failures_in_a_row=1_000_000_000, window_requests=1_000_000_000)


def proxy_settings(options: SidecarOptions) -> ProxySettings:
    """Limits as llm-d's sidecar has them: none for how long anything may take."""
    return msgspec.structs.replace(
        ProxySettings(),
        header_timeout=_HEADER_SECONDS,
        keepalive_timeout=_KEEPALIVE_SECONDS,
        upstream_idle_timeout=_UPSTREAM_IDLE_SECONDS,
        max_header_bytes=_HEADER_BYTES,
        max_idle_upstream=options.max_idle,
        first_byte_timeout=_FOREVER,
        idle_timeout=_FOREVER,
        request_timeout=_FOREVER,
        prefill_grace=options.prefill_timeout,
        prefill_patience=1.0,
        prefill_retries=options.prefill_retries,
        forwarded="append",
        upstream_verify=not options.unverified_stages,
    )


class Sidecar:
    """All ranks' proxies, from `start` to `stop`."""

    def __init__(
        self,
        options: SidecarOptions,
        *,
        log_request: Callable[[RequestRecord], None] = lambda _: None,
    ) -> None:
        self._options = options
        self._log_request = log_request
        self.proxies: list[ProxyServer] = []
        self.contexts: list[ProxyContext] = []

    async def start(self) -> None:
        """Listen. Raises OSError for a port that is taken, TlsError for certificates."""
        tls = self._tls()
        for rank in range(self._options.ranks):
            context = self._context(rank)
            port = self._options.port + rank if self._options.port else 0
            proxy = ProxyServer(context, self._options.host, port, tls=tls)
            await proxy.start()
            self.proxies.append(proxy)
            self.contexts.append(context)

    async def drain(self, grace: float = GRACE_SECONDS) -> None:
        """Let what is in flight finish."""
        await asyncio.gather(*(proxy.drain(grace) for proxy in self.proxies))

    async def stop(self) -> None:
        """Close everything now."""
        for proxy in self.proxies:
            await proxy.stop()

    def _tls(self) -> ssl.SSLContext | None:
        options = self._options
        if not options.secure:
            return None
        if options.certificates is None:
            return self_signed_context(_ALPN)
        folder = options.certificates
        files = TlsSettings(certificate=f"{folder}/tls.crt", key=f"{folder}/tls.key")
        return ServerTls(files).context

    def _context(self, rank: int) -> ProxyContext:
        options, settings = self._options, proxy_settings(self._options)
        router = Router(
            Fleet(_NEVER_OPEN),
            PrefixIndex(_INDEX_BYTES),
            make_policy("least_request"),
            RouterSettings(fallbacks=0, receipts=1),
        )
        scheme = "https" if "decoder" in options.tls_stages else "http"
        port = options.engine_port + rank
        engine = Endpoint("engine", f"{scheme}://{_HOST}:{port}", labels=options.labels)
        decode = router.upsert_endpoint(engine, time.monotonic())
        router.fleet.observe_health(engine.name, True, time.monotonic(), "beside the sidecar")
        dice = random.Random()
        context = ProxyContext(
            brains=Brains({"engine": router}),
            pools=Pools(
                PoolSettings(
                    connect_timeout=settings.connect_timeout,
                    idle_timeout=settings.upstream_idle_timeout,
                    max_idle=settings.max_idle_upstream,
                    tls=upstream_context(settings) if options.tls_stages else None,
                )
            ),
            telemetry=Telemetry(),
            settings=settings,
            log_request=self._log_request,
            dice=dice,
        )
        context.pairing = Pairing(
            router,
            decode,
            PairingSettings(
                scheme="https" if "prefiller" in options.tls_stages else "http",
                labels=options.labels,
                sampling=options.sampling,
                allowed=options.allowed,
            ),
            dice,
        )
        return context


async def run(options: SidecarOptions, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then let what is in flight finish."""
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[None] = asyncio.Queue()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, signals.put_nowait, None)
    log = AccessLog("json") if options.access_log else None
    sidecar = Sidecar(options) if log is None else Sidecar(options, log_request=log.write)
    try:
        await sidecar.start()
        scheme = "https" if options.secure else "http"
        for rank, proxy in enumerate(sidecar.proxies):
            engine = options.engine_port + rank
            ready(f"{scheme}://{options.host}:{proxy.port} before the engine on port {engine}")
        await signals.get()
        ends = [asyncio.ensure_future(sidecar.drain()), asyncio.ensure_future(signals.get())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
    finally:
        await sidecar.stop()
        if log is not None:
            log.close()
