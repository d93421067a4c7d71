"""One simulated server on a socket of its own."""

import socket
from types import TracebackType
from typing import Self

from aiohttp import web

from bench.fleet.handover.fabric import Fabric
from bench.fleet.routes.chat import ChatRoutes
from bench.fleet.routes.completions import CompletionRoutes
from bench.fleet.routes.http import http_errors
from bench.fleet.routes.messages import MessageRoutes
from bench.fleet.routes.operations import OperationRoutes
from bench.fleet.routes.pooling import PoolingRoutes
from bench.fleet.routes.responses import ResponseRoutes
from bench.fleet.routes.tokenization import TokenizationRoutes
from bench.fleet.service import Service
from bench.fleet.settings import ServerSettings

_HOST = "127.0.0.1"
_BACKLOG = 1024
_STOP_SECONDS = 0.2


def application(service: Service) -> web.Application:
    """All routes of one server."""
    app = web.Application(
        middlewares=[http_errors], client_max_size=service.settings.max_body_bytes
    )
    ChatRoutes(service).register(app.router)
    CompletionRoutes(service).register(app.router)
    ResponseRoutes(service).register(app.router)
    MessageRoutes(service).register(app.router)
    PoolingRoutes(service).register(app.router)
    TokenizationRoutes(service).register(app.router)
    OperationRoutes(service).register(app.router)
    return app


class SimulatedServer:
    """A model server at ``url``, from entering its context to leaving it.

    ``port`` 0 means any free one. A port can be taken again as soon as its server is gone, even
    one that was killed (SO_REUSEADDR). Servers of one ``fabric`` can hand KV to each other.
    """

    def __init__(
        self, settings: ServerSettings, port: int = 0, fabric: Fabric | None = None
    ) -> None:
        self.service = Service(settings, fabric)
        self.port = port
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{_HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        app = application(self.service)
        app.on_response_prepare.append(self._name)
        # A client that goes away must stop its request at once: its handler is cancelled.
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=_STOP_SECONDS
        )
        await runner.setup()
        listener = self._listen()
        try:
            await self.service.start(f"{_HOST}:{self.port}")
        except OSError:
            listener.close()
            await runner.cleanup()
            raise
        await web.SockSite(runner, listener, backlog=_BACKLOG).start()
        self._runner = runner
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()
        await self.service.stop()

    def _listen(self) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HOST, self.port))
        self.port = listener.getsockname()[1]
        return listener

    async def _name(self, _: web.Request, response: web.StreamResponse) -> None:
        name = self.service.settings.name
        if name is not None:
            response.headers["x-inference-pod"] = name
            response.headers["x-inference-port"] = str(self.port)
