"""Simulated servers on sockets of their own, as a scale target: removing one really ends it."""

import itertools
from collections.abc import Callable, Collection, Sequence

from bench.fleet.server import SimulatedServer
from bench.fleet.settings import ServerSettings
from endpoints.discovery.static import endpoint_from_url
from endpoints.scaling.actuators.actuator import Member, MovedError, Target
from routing.endpoint import Endpoint


class ServerTarget:
    """The servers that run now. ``changed`` is called with their endpoints when that changes."""

    name = "simulated servers"

    def __init__(
        self,
        settings: ServerSettings,
        clock: Callable[[], float],
        changed: Callable[[Sequence[Endpoint]], object],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._changed = changed
        self._servers: dict[str, tuple[SimulatedServer, Member, Endpoint]] = {}
        self._numbers = itertools.count(1)
        self._version = 0
        self._announced: frozenset[str] = frozenset()
        self.removed = 0
        """Servers that were ended, ever."""

    async def look(self) -> Target:
        """What runs is what is asked for."""
        members = tuple(member for _, member, _ in self._servers.values())
        return Target(len(members), str(self._version), members)

    def choosable(self, target: Target, count: int) -> Sequence[Member] | None:
        """Anybody can be ended."""
        del target, count
        return None

    def removable(self, target: Target, drained: Collection[str]) -> Sequence[str]:
        """Whoever is drained."""
        return [member.name for member in target.members if member.name in drained]

    async def announce(self, target: Target, leaving: Sequence[str]) -> None:
        """Nobody else asks."""
        del target
        self._announced = frozenset(leaving)

    async def scale(self, target: Target, replicas: int, removed: Sequence[str]) -> None:
        """End those that are removed, start what is missing."""
        if target.version != str(self._version):
            raise MovedError("the servers changed meanwhile")
        self._version += 1
        ended = [self._servers.pop(name)[0] for name in removed]
        self._tell()
        for server in ended:
            await server.__aexit__(None, None, None)
            self.removed += 1
        while len(self._servers) < replicas:
            name = f"server-{next(self._numbers)}"
            server = await SimulatedServer(self._settings).__aenter__()
            member = Member(name, (name,), since=self._clock())
            self._servers[name] = server, member, endpoint_from_url(server.url, name=name)
        self._tell()

    async def tell_need(self, needed: int) -> None:
        """Nothing is short here."""

    async def close(self) -> None:
        """End all."""
        while self._servers:
            _, (server, _, _) = self._servers.popitem()
            await server.__aexit__(None, None, None)

    def _tell(self) -> None:
        self._changed([endpoint for _, _, endpoint in self._servers.values()])
