"""Starts what HPA and KEDA ask, as the settings want it."""

import ssl
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import msgspec

from endpoints.kubernetes.connection import Connection
from endpoints.kubernetes.errors import KubernetesError
from gateway.scalers.externalmetrics import ExternalMetricsServer, make_app
from gateway.scalers.frontproxy import AccessReviews, FrontProxy, front_proxy_authority
from gateway.scalers.keda import KedaServer
from gateway.scalers.numbers import Numbers
from gateway.selfsigned import self_signed_context
from gateway.settings import ExternalMetricsSettings, KedaSettings, TlsSettings
from gateway.tls import ServerTls, TlsError

Clock: TypeAlias = Callable[[], float]
Spawn: TypeAlias = Callable[[Coroutine[object, object, None]], object]
"""Runs work in the background until the end."""
_HTTP = ("http/1.1",)
_H2 = ("h2",)


class ScalersError(RuntimeError):
    """They can't be served so; the message names the setting."""


async def start_keda(
    settings: KedaSettings, numbers: Numbers, running: AsyncExitStack, spawn: Spawn, now: Clock
) -> KedaServer:
    """Serve KEDA. ScalersError when that can't be."""
    server = KedaServer(numbers, now)
    running.push_async_callback(server.stop)
    tls = None if settings.tls is None else _context(settings.tls, "keda", _H2, spawn)
    try:
        await server.start(settings.host, settings.port, tls)
    except OSError as error:
        raise ScalersError(f"keda: can't listen: {error.strerror or error}") from error
    return server


async def start_external_metrics(
    settings: ExternalMetricsSettings,
    numbers: Numbers,
    connection: Connection | None,
    running: AsyncExitStack,
    spawn: Spawn,
) -> ExternalMetricsServer:
    """Serve the aggregated API. ScalersError when that can't be.

    Who may ask is what the cluster says: the front-proxy CA that it publishes, and its access
    reviews. Without a cluster, ``tls.client_ca`` says it, or ``anonymous`` that anybody may.
    """
    names: tuple[str, ...] = ()
    tls = settings.tls
    authority = None if tls is None else tls.client_ca
    if authority is None and connection is not None and not settings.anonymous:
        found = await _published(connection)
        if found is not None:
            directory = running.enter_context(TemporaryDirectory(prefix="inferway-proxy-ca-"))
            file = Path(directory) / "ca.pem"
            file.write_text(found[0])
            authority, names = str(file), found[1]
    if authority is None and not settings.anonymous:
        raise ScalersError(
            "external_metrics: nothing says whose client certificate the API server's is: run in "
            "the cluster, give tls.client_ca (the front-proxy CA), or set anonymous: true"
        )
    if tls is None:
        context = self_signed_context(_HTTP)
        if authority is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(authority)
    else:
        trusting = msgspec.structs.replace(tls, client_ca=authority)
        context = _context(trusting, "external_metrics", _HTTP, spawn)
    proxy = FrontProxy(
        names,
        None if connection is None else AccessReviews(connection),
        anonymous=settings.anonymous,
    )
    server = ExternalMetricsServer(make_app(numbers, proxy), settings.host, settings.port, context)
    running.push_async_callback(server.stop)
    try:
        await server.start()
    except OSError as error:
        raise ScalersError(f"external_metrics: can't listen: {error.strerror or error}") from error
    return server


async def _published(connection: Connection) -> tuple[str, tuple[str, ...]] | None:
    try:
        return await front_proxy_authority(connection)
    except KubernetesError as error:
        raise ScalersError(
            "external_metrics: the front-proxy CA can't be read; bind the role "
            f"extension-apiserver-authentication-reader in kube-system: {error}"
        ) from error


def _context(
    settings: TlsSettings, where: str, alpn: tuple[str, ...], spawn: Spawn
) -> ssl.SSLContext:
    try:
        certificate = ServerTls(settings, alpn=alpn)
    except TlsError as error:
        raise ScalersError(f"{where}.tls: {error}") from error
    spawn(certificate.keep_fresh())
    return certificate.context
