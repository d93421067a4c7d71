"""`inferway serve` with TLS towards clients, as a file says it."""

import ssl
import urllib.request
from pathlib import Path

import trustme

from tests.support.processes import serving, simulated


def test_clients_connect_over_tls_with_the_files_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    config = tmp_path / "inferway.yaml"
    with simulated() as server:
        config.write_text(
            f"endpoints: [{{url: {server.url}}}]\n"
            f"listen: {{tls: {{certificate: {tmp_path}/cert.pem, key: {tmp_path}/key.pem}}}}\n"
        )
        with serving("--config", str(config)) as served:
            context = ssl.create_default_context()
            authority.configure_trust(context)
            assert served.url.startswith("https://")
            url = served.url + "/v1/models"
            with urllib.request.urlopen(url, context=context, timeout=5) as page:
                assert b"sim-8b" in page.read()
            assert "inferway_tls_not_after_seconds" in served.get("/metrics")
