"""A proxy over a real router, without probes: tests say which endpoints are healthy."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from gateway.brains import Brains
from gateway.proxy.context import ProxyContext
from gateway.proxy.pool import Pools, PoolSettings
from gateway.proxy.server import ProxyServer
from gateway.record import RequestRecord
from gateway.settings import ProxySettings
from gateway.telemetry import Telemetry
from routing.breaker import BreakerSettings
from routing.fleet import Endpoint, Fleet, ServedModel
from routing.policies import make_policy
from routing.prefix.index import PrefixIndex
from routing.retries import RetrySettings
from routing.router import Router, RouterSettings

MODEL = "sim-8b"


@dataclass
class ProxyUnderTest:
    """A running proxy and its insides."""

    server: ProxyServer
    context: ProxyContext
    router: Router
    records: list[RequestRecord] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Where clients connect."""
        return self.server.port

    @property
    def in_flight(self) -> int:
        """Reservations in all ledgers."""
        return sum(state.ledger.requests for state in self.router.fleet)


@asynccontextmanager
async def running_proxy(
    urls: Sequence[str],
    *,
    policy: str = "round_robin",
    breaker: BreakerSettings | None = None,
    retries: RetrySettings | None = None,
    **settings: float,
) -> AsyncIterator[ProxyUnderTest]:
    """A proxy before the given endpoints, all healthy and serving `MODEL`."""
    fleet = Fleet(breaker)
    for url in urls:
        name = url.removeprefix("http://")
        fleet.upsert(Endpoint(name=name, url=url), 0.0)
        fleet.observe_models(name, [ServedModel(MODEL)], 0.0)
        fleet.observe_health(name, True, 0.0, "test")
    brain = RouterSettings() if retries is None else RouterSettings(retries=retries)
    router = Router(fleet, PrefixIndex(16 << 20), make_policy(policy), brain)
    records: list[RequestRecord] = []
    context = ProxyContext(
        brains=Brains({"default": router}),
        pools=Pools(PoolSettings(connect_timeout=1.0)),
        telemetry=Telemetry(),
        settings=msgspec.structs.replace(ProxySettings(), **settings),
        log_request=records.append,
    )
    server = ProxyServer(context, "127.0.0.1", 0)
    await server.start()
    try:
        yield ProxyUnderTest(server, context, router, records)
    finally:
        await server.stop()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until a condition holds; fail when it does not in time."""
    end = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < end, "condition did not come true"
        await asyncio.sleep(0.005)


async def send(port: int, data: bytes, *, close: bool = False) -> bytes:
    """Send raw bytes; the answer until the server closes, or one response is whole."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read() if close else read_response(reader), 10)
    finally:
        writer.close()


async def read_response(reader: asyncio.StreamReader) -> bytes:
    """One response with a length or in chunks, as raw bytes."""
    head = await reader.readuntil(b"\r\n\r\n")
    lowered = head.lower()
    if b"transfer-encoding: chunked" in lowered:
        body = b""
        while not body.endswith(b"0\r\n\r\n"):
            piece = await reader.read(65536)
            if not piece:
                break
            body += piece
        return head + body
    for line in lowered.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return head + await reader.readexactly(int(line.split(b":")[1]))
    return head + await reader.read()


def post(path: str, body: bytes, fields: bytes = b"") -> bytes:
    """A POST as a client writes it."""
    return b"POST %b HTTP/1.1\r\nhost: gateway\r\ncontent-length: %d\r\n%b\r\n%b" % (
        path.encode(),
        len(body),
        fields,
        body,
    )


def chat(prompt: str = "hello", *, streamed: bool = False) -> bytes:
    """A chat body."""
    return b'{"model":"%b","messages":[{"role":"user","content":"%b"}],"stream":%b}' % (
        MODEL.encode(),
        prompt.encode(),
        b"true" if streamed else b"false",
    )
