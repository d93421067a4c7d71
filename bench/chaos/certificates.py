"""Certificates of a scene: an authority, the victim's and the gateway's, valid or expired."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from bench.chaos.relay import HOST


class Authority:
    """Signs for this machine, and writes its own certificate to a file."""

    def __init__(self, directory: Path) -> None:
        self._authority = trustme.CA()
        self._directory = directory
        self.file = directory / "authority.pem"
        self._authority.cert_pem.write_to_path(str(self.file))
        self._endpoint: ssl.SSLContext | None = None

    def trust(self) -> ssl.SSLContext:
        """The context of a client that believes it."""
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        return context

    def endpoint_context(self) -> ssl.SSLContext:
        """The victim's, whose certificate `renew_endpoint` replaces."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._issue(None).configure_cert(context)
        self._endpoint = context
        return context

    def renew_endpoint(self, valid_seconds: float) -> None:
        """From now on the victim presents one that ends then; a negative time has passed."""
        assert self._endpoint is not None
        self._issue(valid_seconds).configure_cert(self._endpoint)

    def gateway_files(self) -> tuple[Path, Path]:
        """Where the gateway's certificate and key are; written if they are not there yet."""
        certificate, key = self._directory / "tls.crt", self._directory / "tls.key"
        if not certificate.exists():
            self.renew_gateway(None)
        return certificate, key

    def renew_gateway(self, valid_seconds: float | None) -> None:
        """Write another pair for the gateway."""
        leaf = self._issue(valid_seconds)
        (self._directory / "tls.key").write_bytes(leaf.private_key_pem.bytes())
        chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
        (self._directory / "tls.crt").write_bytes(chain)

    def _issue(self, valid_seconds: float | None) -> trustme.LeafCert:
        if valid_seconds is None:
            return self._authority.issue_cert(HOST)
        end = datetime.now(UTC) + timedelta(seconds=valid_seconds)
        return self._authority.issue_cert(HOST, not_after=end)
