"""TLS for listeners: which certificate a handshake gets, by the name that the client asks for.

Certificates come from Secrets and change while connections are open; each handshake is given
the context in force.
"""

import os
import ssl
from collections.abc import Sequence
from typing import Final, TypeAlias

from gateway.gatewayapi.listeners import Certificate
from gateway.routes.hosts import HostMap

ByHost: TypeAlias = Sequence[tuple[str | None, tuple[Certificate, ...]]]
"""Each listener's host name (None: any) with its certificates."""

_ALPN: Final = ("http/1.1",)


class ListenerTls:
    """`context` is what a server listens with, once and for all."""

    def __init__(self) -> None:
        self.context = _bare()
        # Asked in each handshake before a certificate is picked, with or without a name.
        self.context.sni_callback = self._choose
        self._given: ByHost = ()
        self._contexts: HostMap[ssl.SSLContext] = HostMap(())

    def become(self, certificates: ByHost) -> None:
        """Use these from the next handshake on. Raises ssl.SSLError for what can't be used."""
        if certificates != self._given:
            self._contexts = HostMap(
                (hostname, _context(several)) for hostname, several in certificates
            )
            self._given = certificates

    def _choose(
        self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext
    ) -> int | None:
        for context in self._contexts.of((name or "").lower()):
            connection.context = context
            return None
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME


def _bare() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client that renegotiates makes the server work: no HTTP client needs it.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(_ALPN))
    return context


def _context(certificates: Sequence[Certificate]) -> ssl.SSLContext:
    context = _bare()
    for one in certificates:  # of several kinds (RSA, ECDSA) OpenSSL takes what the client can
        _load(context, one)
    return context


def _load(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Load a pair that is in memory: OpenSSL wants a file, so it gets one that is on no disk."""
    handle = os.memfd_create("certificate")
    try:
        with os.fdopen(os.dup(handle), "wb") as file:
            file.write(certificate.chain + b"\n" + certificate.key)
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)
