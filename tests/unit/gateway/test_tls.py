"""TLS settings become contexts, or errors that name the file; the end of a certificate is told."""

import logging
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from gateway.settings import ProxySettings, TlsSettings
from gateway.tls import ServerTls, TlsError, upstream_context
from tests.support.certificates import Files, written

END = datetime(2040, 1, 1, tzinfo=UTC)
DAY = 86_400.0


@pytest.fixture
def files(tmp_path: Path) -> Files:
    pair = Files(tmp_path)
    pair.renew(END)
    return pair


def events(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_the_context_is_a_modern_one(files: Files) -> None:
    tls = ServerTls(files.settings())
    assert tls.context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert tls.context.verify_mode == ssl.CERT_NONE
    assert tls.context.options & ssl.OP_NO_COMPRESSION
    assert tls.context.options & ssl.OP_NO_RENEGOTIATION
    assert tls.not_after == END.timestamp()
    newest = ServerTls(files.settings(min_version="1.3"))
    assert newest.context.minimum_version == ssl.TLSVersion.TLSv1_3


def _no_certificate(files: Files) -> str:
    files.certificate.unlink()
    return r"tls\.crt: No such file"


def _no_key(files: Files) -> str:
    files.key.unlink()
    return r"tls\.key: No such file"


def _another_key(files: Files) -> str:
    files.renew(key_too=False)
    return r"tls\.crt with .*tls\.key: the key is not that of the certificate"


def _no_pem(files: Files) -> str:
    files.certificate.write_text("hello")
    return r"tls\.crt with .*: not usable PEM"


def _empty_key(files: Files) -> str:
    files.key.write_text("")
    return r"tls\.key: not usable PEM"


def _a_directory(files: Files) -> str:
    files.key.unlink()
    files.key.mkdir()
    return r"tls\.key: Is a directory"


def _passphrase(files: Files) -> str:
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return r"tls\.key: the key has a passphrase"


DAMAGES = [_no_certificate, _no_key, _another_key, _no_pem, _empty_key, _a_directory, _passphrase]


@pytest.mark.parametrize("damage", DAMAGES)
def test_files_that_cannot_be_used_are_named(files: Files, damage: Callable[[Files], str]) -> None:
    message = damage(files)
    with pytest.raises(TlsError, match=message):
        ServerTls(files.settings())


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_while_it_runs_is_told_once_and_mended_by_right_files(
    files: Files, damage: Callable[[Files], str], caplog: pytest.LogCaptureFixture
) -> None:
    tls = ServerTls(files.settings())
    damage(files)
    for _ in range(3):
        assert not tls.reload_if_changed()
        assert tls.not_after == END.timestamp()
    assert len(events(caplog, logging.ERROR)) == 1
    if files.key.is_dir():
        files.key.rmdir()
    files.renew(datetime(2041, 1, 1, tzinfo=UTC))
    with caplog.at_level(logging.INFO):
        assert tls.reload_if_changed()
    assert tls.not_after == datetime(2041, 1, 1, tzinfo=UTC).timestamp()
    assert events(caplog, logging.INFO) == ["TLS files reloaded"]
    damage(files)
    assert not tls.reload_if_changed()
    assert len(events(caplog, logging.ERROR)) == 2


def test_files_written_again_with_the_same_content_are_no_change(files: Files) -> None:
    tls = ServerTls(files.settings())
    files.certificate.write_bytes(files.certificate.read_bytes())
    assert not tls.reload_if_changed()


def test_missing_authorities_of_clients_are_named(files: Files, tmp_path: Path) -> None:
    with pytest.raises(TlsError, match=r"gone\.pem: No such file"):
        ServerTls(files.settings(client_ca=str(tmp_path / "gone.pem")))
    (tmp_path / "empty.pem").touch()
    with pytest.raises(TlsError, match=r"empty\.pem: not usable PEM"):
        ServerTls(files.settings(client_ca=str(tmp_path / "empty.pem")))


def test_files_that_never_rest_are_refused(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that another process replaces at every moment."""
    real = Path.read_bytes
    reads = iter(range(1000))

    def read(path: Path) -> bytes:
        return real(path) + b"\n%d" % next(reads)

    monkeypatch.setattr(Path, "read_bytes", read)
    with pytest.raises(TlsError, match="changed while they were read"):
        ServerTls(files.settings())


def test_the_end_of_a_certificate_is_told_once_a_day(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    now = END.timestamp() - 15 * DAY
    tls = ServerTls(files.settings(), clock=lambda: now)
    assert events(caplog, logging.WARNING) == []
    now += 1.5 * DAY
    for _ in range(3):
        tls.reload_if_changed()
    assert events(caplog, logging.WARNING) == ["the TLS certificate ends soon"]
    now += DAY
    tls.reload_if_changed()
    assert len(events(caplog, logging.WARNING)) == 2
    now = END.timestamp() + 1
    tls.reload_if_changed()
    assert events(caplog, logging.WARNING)[2:] == ["the TLS certificate has ended"]


# --- towards endpoints ---------------------------------------------------------------------


def test_endpoints_are_checked_unless_that_is_turned_off(tmp_path: Path) -> None:
    context = upstream_context(ProxySettings())
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    context = upstream_context(ProxySettings(upstream_verify=False))
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)
    authority = trustme.CA(organization_name="ours")
    own = upstream_context(ProxySettings(upstream_ca_file=written(authority, tmp_path / "ca.pem")))
    assert len(own.get_ca_certs()) == 1
    assert own.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_bad_file_of_authorities_is_named(tmp_path: Path) -> None:
    for name, content in (("gone", None), ("bad", "hello")):
        file = tmp_path / f"{name}.pem"
        if content is not None:
            file.write_text(content)
        with pytest.raises(TlsError, match=rf"{name}\.pem: "):
            upstream_context(ProxySettings(upstream_ca_file=str(file)))


def test_settings_stand_for_files_that_need_not_exist_yet() -> None:
    with pytest.raises(TlsError, match="nowhere"):
        ServerTls(TlsSettings(certificate="/nowhere/c", key="/nowhere/k"))
