"""TLS on real connections: who gets in, and what a changed certificate does to whom."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
import trustme

from gateway.app import Gateway
from gateway.proxy.client import ClientConnection
from gateway.proxy.pool import Pools, PoolSettings
from gateway.proxy.roster import Roster
from gateway.settings import (
    AdminSettings,
    EndpointSettings,
    ListenSettings,
    LogSettings,
    ProxySettings,
    Settings,
)
from gateway.tls import ServerTls, upstream_context
from tests.support.certificates import Files, written
from tests.support.gateways import chat, post, running_proxy, send, until
from tests.support.upstreams import Upstream, read_request, unary

pytestmark = pytest.mark.asyncio(loop_scope="function")


class Echo(asyncio.Protocol):
    """Says back what it hears."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Client:
    """A connection that can be asked whether it still works."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.object: ssl.SSLObject = writer.get_extra_info("ssl_object")

    @property
    def serial(self) -> str:
        """The serial number of the server's certificate."""
        certificate = self.object.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])

    async def works(self) -> bool:
        async with asyncio.timeout(5):
            self.writer.write(b"hello")
            return await self.reader.readexactly(5) == b"hello"


@asynccontextmanager
async def listening(
    tls: ServerTls, protocol: Callable[[], asyncio.Protocol] = Echo
) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls.context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def connected(
    port: int, context: ssl.SSLContext, name: str | None = "localhost"
) -> AsyncIterator[Client]:
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=name
        )
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    pair = Files(tmp_path)
    pair.renew()
    return pair


async def test_a_client_that_trusts_us_gets_modern_tls(files: Files) -> None:
    async with listening(ServerTls(files.settings())) as port:
        async with connected(port, files.trusted()) as client:
            assert await client.works()
            assert client.object.version() == "TLSv1.3"
            assert client.object.compression() is None
        context = files.trusted()
        context.set_alpn_protocols(["h2", "http/1.1"])
        async with connected(port, context) as client:
            assert client.object.selected_alpn_protocol() == "http/1.1"


async def test_old_versions_are_refused(files: Files) -> None:
    old = files.trusted()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with listening(ServerTls(files.settings())) as port:
        async with connected(port, old) as client:
            assert client.object.version() == "TLSv1.2"
    async with listening(ServerTls(files.settings(min_version="1.3"))) as port:
        assert not await served(port, old)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])  # with and without SNI
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_new_certificate_is_for_new_connections(
    files: Files, name: str, version: ssl.TLSVersion
) -> None:
    context = files.trusted()
    context.maximum_version = version
    tls = ServerTls(files.settings())
    async with listening(tls) as port, connected(port, context, name) as old:
        assert await old.works()
        files.renew()
        assert tls.reload_if_changed()
        async with connected(port, context, name) as new:
            assert await new.works()
            assert new.serial != old.serial
        assert await old.works()


async def test_a_pair_that_does_not_fit_leaves_the_old_one_in_force(files: Files) -> None:
    tls = ServerTls(files.settings())
    async with listening(tls) as port, connected(port, files.trusted()) as old:
        files.renew(key_too=False)
        assert not tls.reload_if_changed()
        async with connected(port, files.trusted()) as new:
            assert await new.works()
            assert new.serial == old.serial


async def test_files_are_watched(files: Files) -> None:
    tls = ServerTls(files.settings())
    end = datetime(2041, 1, 1, tzinfo=UTC)
    watching = asyncio.create_task(tls.keep_fresh(0.005))
    try:
        async with listening(tls) as port:
            async with connected(port, files.trusted()) as client:
                before = client.serial
            files.renew(end)
            async with asyncio.timeout(10):
                while tls.not_after != end.timestamp():
                    await asyncio.sleep(0.005)
            async with connected(port, files.trusted()) as client:
                assert client.serial != before
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def served(port: int, context: ssl.SSLContext) -> bool:
    """Whether a client gets in; TLS 1.3 tells it only when it reads that it does not."""
    try:
        async with connected(port, context) as client:
            return await client.works()
    except (OSError, asyncio.IncompleteReadError):
        return False


async def test_clients_need_a_certificate_where_that_is_set(files: Files, tmp_path: Path) -> None:
    theirs, others = trustme.CA(), trustme.CA()
    authority = tmp_path / "clients.pem"
    tls = ServerTls(files.settings(client_ca=written(theirs, authority)))
    known = files.trusted(theirs.issue_cert("client@example.com"))
    unknown = files.trusted(others.issue_cert("client@example.com"))
    async with listening(tls) as port:
        assert await served(port, known)
        assert not await served(port, unknown)
        assert not await served(port, files.trusted())
        written(others, authority)
        assert tls.reload_if_changed()
        assert await served(port, unknown)
        assert not await served(port, known)
        assert not await served(port, files.trusted())


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"\x16\x03\x01\x00\x00", b"\x00" * 100]
)
async def test_what_is_no_tls_is_closed_and_harms_nobody(files: Files, said: bytes) -> None:
    async with listening(ServerTls(files.settings())) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        writer.write_eof()
        async with asyncio.timeout(5):
            with suppress(OSError):
                assert b"HTTP" not in await reader.read()
        writer.close()
        async with connected(port, files.trusted()) as client:
            assert await client.works()


async def test_endpoints_are_known_by_their_authority(files: Files, tmp_path: Path) -> None:
    ours = ProxySettings(upstream_ca_file=written(files.authority, tmp_path / "ca.pem"))
    async with listening(ServerTls(files.settings())) as port:
        assert await served(port, upstream_context(ours))
        assert await served(port, upstream_context(ProxySettings(upstream_verify=False)))
        assert not await served(port, upstream_context(ProxySettings()))


# --- the proxy behind and before TLS ---------------------------------------------------------


async def answer_to(port: int, context: ssl.SSLContext, request: bytes) -> bytes:
    """What the proxy says to a request that asks it to close the connection afterwards."""
    async with asyncio.timeout(10), connected(port, context) as client:
        client.writer.write(request)
        return await client.reader.read()


async def test_a_client_speaks_to_the_proxy_through_tls(files: Files) -> None:
    """Also an answer of many times what fits into any buffer, read with pauses."""
    large = b'{"text":"%b"}' % (b"x" * 8_000_000)
    request = post("/v1/chat/completions", chat(), b"connection: close\r\n")
    async with Upstream(unary(large)) as upstream, running_proxy([upstream.url]) as proxy:

        def serving() -> asyncio.Protocol:
            return cast(asyncio.Protocol, ClientConnection(proxy.context, Roster()))

        async with listening(ServerTls(files.settings()), serving) as port:
            answer = await answer_to(port, files.trusted(), request)
        await until(lambda: proxy.in_flight == 0)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n" + large)
    assert upstream.received[0].fields[b"x-forwarded-proto"] == b"https"


async def test_an_endpoint_may_speak_tls(files: Files, tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await read_request(reader) is not None:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        writer.close()

    settings = ProxySettings(upstream_ca_file=written(files.authority, tmp_path / "ca.pem"))
    server = await asyncio.start_server(
        answer, "127.0.0.1", 0, ssl=ServerTls(files.settings()).context
    )
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    statuses = []
    try:
        for trust in (settings, ProxySettings(upstream_verify=False), ProxySettings()):
            async with running_proxy([url]) as proxy:
                proxy.context.pools = Pools(PoolSettings(tls=upstream_context(trust)))
                found = await send(proxy.port, post("/v1/chat/completions", chat()))
                statuses.append(int(found.split()[1]))
                proxy.context.pools.close()
    finally:
        server.close()
        await server.wait_closed()
    assert statuses == [200, 200, 502]


async def test_probes_know_endpoints_by_the_same_authority(files: Files, tmp_path: Path) -> None:
    """What requests may be sent to must be seen to be healthy."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await read_request(reader) is not None:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(
        answer, "127.0.0.1", 0, ssl=ServerTls(files.settings()).context
    )
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    authority = written(files.authority, tmp_path / "ca.pem")
    healthy = []
    try:
        for proxy in (ProxySettings(upstream_ca_file=authority), ProxySettings()):
            gateway = Gateway(
                Settings(
                    listen=ListenSettings(port=0),
                    admin=AdminSettings(port=0),
                    endpoints=(EndpointSettings(url=url, models=("m",)),),
                    proxy=proxy,
                    log=LogSettings(access=False),
                )
            )
            await gateway.start()
            healthy.append(len(gateway.router.fleet.serving(None)))
            await gateway.stop()
    finally:
        server.close()
        await server.wait_closed()
    assert healthy == [1, 0]
