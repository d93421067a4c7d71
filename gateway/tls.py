"""TLS: towards clients with certificates that are replaced while we run, and towards endpoints.

A changed certificate is taken over by building a whole new context and letting every new
handshake use that one. So a pair of files that don't fit each other never touches the one in
force, and connections that are open stay as they are.
"""

import asyncio
import hashlib
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.certificates import not_after
from gateway.settings import ProxySettings, TlsSettings

WARN_SECONDS = 14 * 86_400.0
"""A certificate that ends sooner than this is a warning, once a day."""

_DAY = 86_400.0
_ATTEMPTS = 3  # at files that change while they are read
_ALPN = ("http/1.1",)
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_log = logging.getLogger("inferway.tls")


class TlsError(Exception):
    """Certificates or keys that can't be used; the message names the file and what is wrong."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A context and what it was made of."""

    context: ssl.SSLContext
    digests: tuple[bytes, ...]
    not_after: float


class ServerTls:
    """TLS towards clients: `context` is what a server listens with, once and for all.

    Raises `TlsError` when the files can't be used. ``clock`` gives Unix time in seconds,
    ``alpn`` names the protocols that are spoken inside.
    """

    def __init__(
        self,
        settings: TlsSettings,
        clock: Callable[[], float] = time.time,
        *,
        alpn: Sequence[str] = _ALPN,
    ) -> None:
        self._settings = settings
        self._alpn = alpn
        self._clock = clock
        self._complaint = ""
        self._warned = float("-inf")
        self._loaded = _load(settings, alpn)
        self._context = self._loaded.context
        # OpenSSL asks this in each handshake, with or without a server name, before it picks
        # certificate and trust: the one way to change both without touching other connections.
        self._context.sni_callback = self._choose
        self._warn_of_the_end()

    @property
    def context(self) -> ssl.SSLContext:
        """The context to listen with; its handshakes follow later changes of the files."""
        return self._context

    @property
    def not_after(self) -> float:
        """When the certificate in force ends, as Unix time in seconds."""
        return self._loaded.not_after

    def reload_if_changed(self) -> bool:
        """Take over files whose content changed; True when that happened.

        Files that can't be used are an error in the log, once, and the old ones stay in force.
        """
        self._warn_of_the_end()
        try:
            if _digests(self._settings) == self._loaded.digests:
                self._complaint = ""
                return False
            self._loaded = _load(self._settings, self._alpn)
        except TlsError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.error("the changed TLS files are not used: %s", error)
            return False
        self._complaint = ""
        self._warned = float("-inf")
        _log.info("TLS files reloaded", extra={"valid_until": _date(self.not_after)})
        self._warn_of_the_end()
        return True

    async def keep_fresh(self, interval: float = 1.0) -> None:
        """Look at the files every ``interval`` seconds, until cancelled."""
        while True:
            await asyncio.sleep(interval)
            await asyncio.to_thread(self.reload_if_changed)

    def _choose(
        self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _: ssl.SSLContext
    ) -> None:
        connection.context = self._loaded.context

    def _warn_of_the_end(self) -> None:
        now = self._clock()
        left = self.not_after - now
        if left < WARN_SECONDS and now - self._warned >= _DAY:
            self._warned = now
            what = "has ended" if left <= 0 else "ends soon"
            _log.warning("the TLS certificate %s", what, extra={"ends": _date(self.not_after)})


def upstream_context(settings: ProxySettings) -> ssl.SSLContext:
    """The context for ``https://`` endpoints. Raises `TlsError` for a bad ``upstream_ca_file``."""
    authorities = settings.upstream_ca_file
    try:
        context = ssl.create_default_context(cafile=authorities)
    except OSError as error:
        raise TlsError(f"{authorities}: {_reason(error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(_ALPN))
    if not settings.upstream_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


# --- files -> context ----------------------------------------------------------------------


def _load(settings: TlsSettings, alpn: Sequence[str]) -> _Loaded:
    """Build a context from the files as they are at one moment."""
    for _ in range(_ATTEMPTS):
        digests = _digests(settings)
        loaded = _Loaded(_context(settings, alpn), digests, _end_of(settings.certificate))
        if _digests(settings) == digests:
            return loaded
    raise TlsError(f"{settings.certificate} or {settings.key} changed while they were read")


def _context(settings: TlsSettings, alpn: Sequence[str]) -> ssl.SSLContext:
    def no_passphrase() -> str:
        """Instead of OpenSSL's question on the terminal, at which a server would hang."""
        raise TlsError(f"{settings.key}: the key has a passphrase; give one without")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.min_version]
    # A client that renegotiates makes the server work: no HTTP client needs it.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(alpn))
    try:
        context.load_cert_chain(settings.certificate, settings.key, no_passphrase)
    except OSError as error:
        raise TlsError(f"{settings.certificate} with {settings.key}: {_reason(error)}") from error
    if settings.client_ca is not None:
        try:
            context.load_verify_locations(settings.client_ca)
        except OSError as error:
            raise TlsError(f"{settings.client_ca}: {_reason(error)}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _digests(settings: TlsSettings) -> tuple[bytes, ...]:
    """What the files hold, told without keeping the key in memory once more."""
    files = (settings.certificate, settings.key, settings.client_ca)
    return tuple(hashlib.sha256(_read(file)).digest() for file in files if file is not None)


def _end_of(certificate: str) -> float:
    try:
        return not_after(_read(certificate))
    except ValueError as error:
        raise TlsError(f"{certificate}: {error}") from error


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise TlsError(f"{file}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "the key is not that of the certificate"
        return f"not usable PEM ({error.reason or error})"
    return error.strerror or str(error)


def _date(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat()
