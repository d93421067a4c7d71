"""A gRPC server of ours with methods that only tests want."""

import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.h2.limits import Limits
from gateway.rpc.call import Call, Method, Services, unary
from gateway.rpc.health import Health
from gateway.rpc.reflection import Reflection
from gateway.rpc.server import RpcServer
from gateway.rpc.status import Code, RpcError

ECHO = "/test.Echo/Echo"
STREAM = "/test.Echo/Stream"
FAIL = "/test.Echo/Fail"
BURST = "/test.Echo/Burst"


class Echo:
    """Sends each message back."""

    open = 0

    def __init__(self, call: Call) -> None:
        self._call = call
        Echo.open += 1

    def message(self, message: bytes) -> None:
        self._call.send(message)

    def end(self) -> None:
        self._call.finish()

    def over(self) -> None:
        Echo.open -= 1


def _fail(message: bytes) -> bytes:
    raise RpcError(Code.INVALID_ARGUMENT, f"näh: {message.decode()} 100%")


class Burst(Echo):
    """Sends each message back a thousand times."""

    def message(self, message: bytes) -> None:
        for _ in range(1_000):
            self._call.send(message)


def _same(message: bytes) -> bytes:
    return message


@asynccontextmanager
async def running_server(
    limits: Limits | None = None,
    *,
    longest: int = 4 << 20,
    room: int = 1 << 30,
    stall_seconds: float = 30.0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[RpcServer]:
    """A server with the methods above, health and reflection."""
    serving = {"": lambda: True, "readiness": lambda: False}
    methods: dict[str, Method] = {
        ECHO: unary(_same),
        STREAM: Echo,
        FAIL: unary(_fail),
        BURST: Burst,
    }
    methods.update(Health(serving).methods())
    services: Services
    methods.update(Reflection(lambda: services.names).methods())
    services = Services(methods, longest, room)
    server = RpcServer(services, limits or Limits(), time.monotonic, stall_seconds=stall_seconds)
    await server.start("127.0.0.1", 0, tls)
    try:
        yield server
    finally:
        await server.stop()
