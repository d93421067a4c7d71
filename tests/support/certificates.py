"""Certificates made on the spot, and the files that they are served from."""

import ssl
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import trustme

from gateway.settings import TlsSettings


@dataclass
class Files:
    """A certificate and its key in a directory, signed by an authority of its own."""

    directory: Path
    authority: trustme.CA = field(default_factory=trustme.CA)

    @property
    def certificate(self) -> Path:
        return self.directory / "tls.crt"

    @property
    def key(self) -> Path:
        return self.directory / "tls.key"

    def settings(self, **others: Any) -> TlsSettings:
        return TlsSettings(certificate=str(self.certificate), key=str(self.key), **others)

    def renew(self, not_after: datetime | None = None, *, key_too: bool = True) -> trustme.LeafCert:
        """Write a new pair for 127.0.0.1 and localhost, or only its certificate."""
        leaf = self.authority.issue_cert("127.0.0.1", "localhost", not_after=not_after)
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        if key_too:
            self.key.write_bytes(leaf.private_key_pem.bytes())
        self.certificate.write_bytes(chain)
        return leaf

    def trusted(self, leaf: trustme.LeafCert | None = None) -> ssl.SSLContext:
        """The context of a client that trusts the authority, with a certificate of its own."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if leaf is not None:
            leaf.configure_cert(context)
        return context


def written(authority: trustme.CA, file: Path) -> str:
    """The authority's certificate in a file."""
    authority.cert_pem.write_to_path(file)
    return str(file)
