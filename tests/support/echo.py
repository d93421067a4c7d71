"""Pods' servers as conformance tests have them: each says which one it is and what it was asked."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from tests.support.upstreams import Received, Upstream


@dataclass
class EchoPod:
    """One pod: a name, an address, and a server on each of its ports."""

    name: str
    ip: str
    servers: dict[int, Upstream] = field(default_factory=dict)

    def address(self, port: int) -> str:
        return f"{self.ip}:{port}"


class _EchoServer(Upstream):
    """An `Upstream` on an address of its own."""

    def __init__(self, pod: str, ip: str, port: int) -> None:
        super().__init__(self._echo, port=port)
        self.ip = ip
        self.pod = pod

    async def __aenter__(self) -> "_EchoServer":
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server = await asyncio.start_server(self._serve, self.ip, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _echo(self, _: Upstream, request: Received, writer: asyncio.StreamWriter) -> None:
        method, path, _version = request.head.split(b"\r\n")[0].decode().split(" ")
        fields = {name.decode(): value.decode() for name, value in request.fields.items()}
        body = json.dumps(
            {
                "pod": self.pod,
                "httpPort": self.port,
                "method": method,
                "path": path,
                "headers": fields,
                "body": request.body.decode("latin-1"),
            }
        ).encode()
        extra = ""
        if "x-echo-set-header" in fields:
            name, value = fields["x-echo-set-header"].split(":", 1)
            extra = f"{name}: {value}\r\n"
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n%b\r\n%b" % (len(body), extra.encode(), body)
        )
        await writer.drain()


@asynccontextmanager
async def echo_pods(
    names: Sequence[str], ips: Sequence[str], *, ports: int = 1
) -> AsyncIterator[tuple[list[EchoPod], list[int]]]:
    """Pods that listen on the same free ports, and those ports."""
    async with AsyncExitStack() as running:
        pods = [EchoPod(name, ip) for name, ip in zip(names, ips, strict=True)]
        found = [await _one_port(pods, running) for _ in range(ports)]
        yield pods, found


async def _one_port(pods: Sequence[EchoPod], running: AsyncExitStack) -> int:
    for _ in range(20):
        port = 0
        servers: list[_EchoServer] = []
        try:
            for pod in pods:
                server = await _EchoServer(pod.name, pod.ip, port).__aenter__()
                servers.append(server)
                port = server.port
        except OSError:  # somebody else has that port at one of the addresses
            for server in servers:
                await server.__aexit__(None, None, None)
            continue
        for pod, server in zip(pods, servers, strict=True):
            pod.servers[port] = server
            running.push_async_exit(server)
        return port
    raise AssertionError("no port is free at all addresses")


def said(answer: bytes) -> dict[str, object]:
    """What an echo server said, out of a whole response."""
    found: dict[str, object] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return found
