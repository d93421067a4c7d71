"""Our gRPC server on real sockets, with clients that misbehave and clients that encrypt."""

import asyncio
import ssl
import time
from pathlib import Path
from typing import cast

import grpc
import psutil

from gateway.h2 import frames as f
from gateway.h2.limits import Limits
from gateway.selfsigned import self_signed_context
from gateway.tls import ServerTls
from tests.support.certificates import Files
from tests.support.frames import REQUEST, Client, data, frame
from tests.support.gateways import until
from tests.support.rpc import BURST, ECHO, Echo, running_server

PROMPT = 5.0  # seconds in which whatever is to be seen is seen


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f.PREFACE + f.settings({f.INITIAL_WINDOW_SIZE: f.MAX_WINDOW}))
    writer.write(frame(f.WINDOW_UPDATE, 0, 0, (1 << 30).to_bytes(4)))
    return reader, writer


def opened(stream: int, path: str) -> bytes:
    fields = tuple((name, path if name == ":path" else value) for name, value in REQUEST)
    return frame(f.HEADERS, f.END_HEADERS, stream, Client().block(fields))


async def test_a_client_that_reads_nothing_is_held_and_then_cut() -> None:
    memory = psutil.Process().memory_info
    async with running_server(Limits(), stall_seconds=1.0) as server:
        _, writer = await connect(server.port)
        cast("asyncio.Transport", writer.transport).pause_reading()
        before = memory().rss
        for stream in range(1, 401, 2):  # each asks for a thousand messages of 10 KB
            writer.write(opened(stream, BURST))
            writer.write(data(stream, b"\0" + (10_000).to_bytes(4) + bytes(10_000)))
        began = time.monotonic()
        await until(lambda: server.connections == 0, 20.0)
        assert memory().rss - before < 100_000_000  # asked for were 2,000,000,000
        assert time.monotonic() - began >= 0.5
        assert Echo.open == 0
        writer.transport.abort()


async def test_who_says_nothing_is_cut() -> None:
    async with running_server(stall_seconds=0.5) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await asyncio.wait_for(reader.read(), PROMPT)  # our settings, then the end
        writer.transport.abort()
        await until(lambda: server.connections == 0)


async def test_a_flood_ends_its_own_connection_only() -> None:
    async with running_server() as server:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
        assert await channel.unary_unary(ECHO)(b"x") == b"x"
        reader, writer = await connect(server.port)
        writer.write(frame(f.PING, 0, 0, bytes(8)) * 5_000)
        said = await asyncio.wait_for(reader.read(), PROMPT)
        assert b"too many frames without work" in said
        assert await channel.unary_unary(ECHO)(b"y") == b"y"
        await channel.close()
        writer.transport.abort()


async def test_somebody_who_speaks_http1() -> None:
    async with running_server() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        said = await asyncio.wait_for(reader.read(), PROMPT)
        assert b"this is not HTTP/2" in said
        writer.transport.abort()


async def _echo_over_tls(server_context: ssl.SSLContext, credentials: bytes, name: str) -> None:
    async with running_server(tls=server_context) as server:
        channel = grpc.aio.secure_channel(
            f"127.0.0.1:{server.port}",
            grpc.ssl_channel_credentials(credentials),
            options=[("grpc.ssl_target_name_override", name)],
        )
        message = bytes(1_000_000)
        assert await channel.unary_unary(ECHO)(message) == message
        await channel.close()


async def test_tls_from_files(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.renew()
    tls = ServerTls(files.settings(), alpn=["h2"])
    await _echo_over_tls(tls.context, files.authority.cert_pem.bytes(), "localhost")


async def test_tls_with_a_certificate_of_our_own() -> None:
    context = self_signed_context(["h2"])
    async with running_server(tls=context) as server:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
        client.set_alpn_protocols(["h2"])
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=client)
        tls = writer.get_extra_info("ssl_object")
        assert tls.selected_alpn_protocol() == "h2"
        certificate = ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True))
        writer.transport.abort()
    await _echo_over_tls(context, certificate.encode(), "inferway")


async def test_unfinished_messages_share_a_room() -> None:
    async with running_server(room=100_000) as server:
        _, writer = await connect(server.port)
        for stream in (1, 3, 5):
            writer.write(opened(stream, ECHO))
            writer.write(data(stream, b"\0" + (1_000_000).to_bytes(4) + bytes(16_000)))
        room = server.services.room
        await until(lambda: room.used == 3 * 16_005)
        for _ in range(4):
            writer.write(data(1, bytes(16_000)))
        await until(lambda: room.used == 2 * 16_005)  # the one that asked for too much is over
        writer.transport.abort()
        await until(lambda: room.used == 0)
