"""The external processor as a whole: listening, TLS, health, reflection, the graceful end."""

import ssl
from typing import Final

from gateway.extproc.context import ProcessorContext
from gateway.extproc.processor import SERVICE, Processor
from gateway.h2.limits import Limits
from gateway.readiness import Readiness, ReadinessState
from gateway.rpc.call import Method, Services
from gateway.rpc.health import Health
from gateway.rpc.reflection import Reflection
from gateway.rpc.server import RpcServer

_READY_NAMES: Final = ("", "readiness", SERVICE, "inference-extension")
"""Names of the health protocol that say whether requests should come; the last one is what
manifests of the inference extension's conformance suite probe."""


class ExtProcServer:
    """Answers Envoy."""

    def __init__(self, context: ProcessorContext, readiness: Readiness) -> None:
        self._context = context
        settings = context.settings

        def ready() -> bool:
            return readiness.state is ReadinessState.READY

        health = Health({"liveness": lambda: True, **dict.fromkeys(_READY_NAMES, ready)})
        methods: dict[str, Method] = {**Processor(context).methods(), **health.methods()}
        methods.update(Reflection(lambda: services.names).methods())
        services = Services(methods, settings.max_message_bytes, settings.max_held_bytes)
        self._rpc = RpcServer(
            services,
            Limits(max_streams=settings.max_streams, max_header_list=settings.max_header_bytes),
            context.now,
            max_connections=settings.max_connections,
            stall_seconds=settings.stall_timeout,
        )

    @property
    def port(self) -> int:
        """The port in use, which the system chose when 0 was asked for."""
        return self._rpc.port

    @property
    def connections(self) -> int:
        """Open connections of Envoys."""
        return self._rpc.connections

    @property
    def streams(self) -> int:
        """Open streams: requests under way, and calls of other methods."""
        return self._rpc.streams

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen. Raises OSError when the address can't be had."""
        await self._rpc.start(self._context.settings.host, self._context.settings.port, tls)

    async def drain(self, grace: float) -> None:
        """Take no new connection, let what is open finish for ``grace`` seconds."""
        await self._rpc.drain(grace)

    async def stop(self) -> None:
        """Close everything now."""
        await self._rpc.stop()
