"""Many simulated servers in one process, on one event loop."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from msgspec import structs

from bench.fleet.events.publisher import EventAddress
from bench.fleet.handover.fabric import Fabric
from bench.fleet.server import SimulatedServer
from bench.fleet.settings import HandoverSettings, KvEventSettings, Role, ServerSettings


class EmbeddedFleet:
    """``count`` equal servers called sim-0, sim-1, ..., listening inside the context.

    With ``port`` they take it and the following ones, otherwise free ones; a port for events
    moves on by two a server. All of them answer
    a prompt alike, but jitter and faults are each one's own. ``roles`` (for servers with a
    handover) are theirs in order, repeated as often as needed.
    """

    def __init__(
        self, settings: ServerSettings, count: int, port: int = 0, roles: Sequence[Role] = ()
    ) -> None:
        self.fabric = Fabric()
        self.servers = [
            SimulatedServer(
                structs.replace(
                    settings,
                    name=f"sim-{index}",
                    kv_events=_moved(settings.kv_events, 2 * index),
                    handover=_in_role(settings.handover, index, roles),
                ),
                port + index if port else 0,
                self.fabric,
            )
            for index in range(count)
        ]
        self._stack = AsyncExitStack()

    @property
    def urls(self) -> tuple[str, ...]:
        """Where the servers listen, in order."""
        return tuple(server.url for server in self.servers)

    @property
    def event_addresses(self) -> tuple[EventAddress | None, ...]:
        """Where their events are, in order; None for those that publish none."""
        publishers = (server.service.publisher for server in self.servers)
        return tuple(None if one is None else one.address for one in publishers)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for server in self.servers:
                await stack.enter_async_context(server)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()


def _in_role(
    settings: HandoverSettings | None, index: int, roles: Sequence[Role]
) -> HandoverSettings | None:
    if settings is None or not roles:
        return settings
    return structs.replace(settings, role=roles[index % len(roles)])


def _moved(settings: KvEventSettings | None, by: int) -> KvEventSettings | None:
    if settings is None or not settings.port:
        return settings
    return structs.replace(settings, port=settings.port + by)
