"""Simulated servers, a relay before each, the gateway before those, and clients before it."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Self

from bench.chaos.clients import Clients
from bench.chaos.gateway import GatewayProcess
from bench.chaos.relay import HOST, Relay
from bench.chaos.servers import ChildServer

if TYPE_CHECKING:
    from bench.chaos.certificates import Authority

_SERVER = ("--servers", "1", "--mode", "echo", "--time-scale", "0.2")
FIRST_BYTE_SECONDS = 2.0
IDLE_SECONDS = 2.0


@dataclass(frozen=True)
class Needs:
    """What a fault needs beyond the ordinary: cache events, TLS at an endpoint or the gateway."""

    events: bool = False
    endpoint_tls: bool = False
    gateway_tls: bool = False


NOTHING = Needs()


class Scene:
    """All of it, from entering its context to leaving it. The first server is the victim."""

    def __init__(self, servers: int, clients: int, seed: str, needs: Needs) -> None:
        self.servers = [
            ChildServer((*_SERVER, *(("--kv-events",) if needs.events else ())))
            for _ in range(servers)
        ]
        self.relays: list[Relay] = []
        self.needs = needs
        self._seed = seed
        self._clients = clients
        self._stack = AsyncExitStack()
        self._authority: Authority | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self.directory = Path(stack.enter_context(TemporaryDirectory(prefix="inferway-chaos-")))
            if self.needs.endpoint_tls or self.needs.gateway_tls:
                self._authority = _authority(self.directory)
            for number, server in enumerate(self.servers):
                stack.push_async_callback(server.kill)
                await server.start()
                tls = self.authority.endpoint_context() if self._has_tls(number) else None
                relay = Relay(server.port, f"{self._seed} {number}", tls)
                self.relays.append(await stack.enter_async_context(relay))
            self.gateway = GatewayProcess(self.directory)
            self.configure(self.settings())
            stack.push_async_callback(self.gateway.stop)
            await self.gateway.start()
            trust = self.authority.trust() if self.needs.gateway_tls else None
            self.clients = Clients(self.gateway.url, self._clients, self._seed, trust)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    @property
    def authority(self) -> "Authority":
        """Who signs certificates, in a scene that has some."""
        assert self._authority is not None
        return self._authority

    @property
    def victim(self) -> ChildServer:
        """The server that suffers."""
        return self.servers[0]

    @property
    def victims_relay(self) -> Relay:
        """The relay before it."""
        return self.relays[0]

    @property
    def victims_name(self) -> str:
        """What the gateway calls it."""
        return f"{HOST}:{self.victims_relay.port}"

    def urls(self) -> list[str]:
        """The endpoints, as the gateway reaches them."""
        return [
            f"http{'s' * self._has_tls(number)}://{HOST}:{relay.port}"
            for number, relay in enumerate(self.relays)
        ]

    def settings(self, urls: list[str] | None = None) -> dict[str, object]:
        """The gateway's settings before these endpoints; all of them by default.

        Time-outs are short, so that a hang is noticed within seconds.
        """
        labels = {
            url: dict(server.labels) for url, server in zip(self.urls(), self.servers, strict=True)
        }
        settings: dict[str, object] = {
            "endpoints": [
                {"url": url, "labels": labels.get(url, {})}
                for url in (self.urls() if urls is None else urls)
            ],
            "log": {"access": False},
            "probes": {"interval": 0.25, "timeout": 1.0, "models_interval": 2.0},
            "proxy": {
                "connect_timeout": 0.5,
                "first_byte_timeout": FIRST_BYTE_SECONDS,
                "idle_timeout": IDLE_SECONDS,
            },
        }
        if self.needs.events:
            settings["kv_events"] = {}
            settings["tokenizers"] = {"sim-8b": "engine"}
        if self.needs.endpoint_tls:
            settings["proxy"] = {
                **settings["proxy"],  # type: ignore[dict-item]
                "upstream_ca_file": str(self.authority.file),
            }
        if self.needs.gateway_tls:
            certificate, key = self.authority.gateway_files()
            settings["listen"] = {"tls": {"certificate": str(certificate), "key": str(key)}}
        return settings

    def configure(self, settings: dict[str, object]) -> None:
        """Write the gateway's configuration, which it reads again while it runs."""
        self.gateway.configure(settings)

    def _has_tls(self, number: int) -> bool:
        return self.needs.endpoint_tls and number == 0


def _authority(directory: Path) -> "Authority":
    """Who signs certificates; RuntimeError without the optional package for that."""
    try:
        from bench.chaos.certificates import Authority  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise RuntimeError("certificates need trustme: pip install --editable '.[chaos]'") from None
    return Authority(directory)
