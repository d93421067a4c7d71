"""How a cluster is found, and what is said when it can't be."""

import ssl
from pathlib import Path

import pytest
import trustme
import yaml

from bench.apiserver.server import ApiServer
from endpoints.kubernetes.cache import Cache
from endpoints.kubernetes.connection import (
    ClusterSettings,
    NotConfiguredError,
    open_connection,
    own_namespace,
)
from endpoints.kubernetes.errors import UnauthorizedError, UnreachableError
from endpoints.kubernetes.listwatch import Phase
from endpoints.kubernetes.objects import Objects
from endpoints.kubernetes.resources import PODS
from tests.support.clusters import QUICK, Cluster, eventually


def kubeconfig(server: ApiServer, file: Path, **tokens: str) -> str:
    """A kubeconfig file with a context a token; the first one is current."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "users": [{"name": name, "user": {"token": token}} for name, token in tokens.items()],
        "contexts": [{"name": name, "context": {"cluster": "c", "user": name}} for name in tokens],
        "current-context": next(iter(tokens)),
    }
    file.write_text(yaml.safe_dump(config))
    return str(file)


async def test_a_kubeconfig_names_the_server_and_who_we_are(
    cluster: Cluster, tmp_path: Path
) -> None:
    server = cluster.stand_in_only("makes tokens up")
    server.access.tokens["right"] = "us"
    file = kubeconfig(server, tmp_path / "config", good="right", bad="wrong")
    connection = await open_connection(ClusterSettings(kubeconfig=file))
    assert connection.host == server.url
    assert await Objects(connection).list(PODS, cluster.namespace) == []
    await connection.close()
    connection = await open_connection(ClusterSettings(kubeconfig=file, context="bad"))
    with pytest.raises(UnauthorizedError):
        await Objects(connection).list(PODS, cluster.namespace)
    await connection.close()


async def test_a_token_that_is_replaced_is_used_from_then_on(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = cluster.stand_in_only("makes tokens up")
    server.access.tokens["new"] = "us"
    token = tmp_path / "token"
    token.write_text("old")
    settings = ClusterSettings(url=server.url, token_file=str(token))
    connection = await open_connection(settings)
    cache = Cache(connection, PODS, settings=QUICK)
    await cache.start()
    await eventually(lambda: "does not accept our credentials" in caplog.text)
    assert cache.condition.phase is Phase.SYNCING
    token.write_text("new\n")
    assert await cache.wait_synced(5.0)
    await cache.stop()
    await connection.close()


async def test_the_server_is_known_by_its_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    trusted, strange = tmp_path / "ca.pem", tmp_path / "other.pem"
    authority.cert_pem.write_to_path(str(trusted))
    trustme.CA().cert_pem.write_to_path(str(strange))
    server = ApiServer()
    await server.start(tls)
    for file, known in ((trusted, True), (strange, False)):
        connection = await open_connection(ClusterSettings(url=server.url, ca_file=str(file)))
        if known:
            assert await Objects(connection).list(PODS) == []
            cache = Cache(connection, PODS, settings=QUICK)
            await cache.start()
            assert await cache.wait_synced(5.0)
            await eventually(lambda: server.watches == 1)
            await cache.stop()
        else:
            with pytest.raises(UnreachableError, match="certificate"):
                await Objects(connection).list(PODS)
        await connection.close()
    await server.stop()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (ClusterSettings(kubeconfig="/nowhere/config"), "/nowhere/config: there is no such file"),
        (ClusterSettings(url="http://x", token_file="/nowhere/token"), "/nowhere/token"),
        (ClusterSettings(url="https://x", ca_file="/nowhere/ca"), "http"),
    ],
)
async def test_what_is_missing_is_named(settings: ClusterSettings, said: str) -> None:
    with pytest.raises(NotConfiguredError, match=said):
        await open_connection(settings)


async def test_outside_of_a_cluster_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(NotConfiguredError, match="this cluster: Service host/port is not set"):
        await open_connection(ClusterSettings())
    assert own_namespace("fallback") == "fallback"


async def test_a_broken_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("contexts: []")
    with pytest.raises(NotConfiguredError, match=str(file)):
        await open_connection(ClusterSettings(kubeconfig=str(file)))
    file.write_text("{{{")
    with pytest.raises(NotConfiguredError, match=str(file)):
        await open_connection(ClusterSettings(kubeconfig=str(file)))
