"""A target that somebody else scales by our numbers: what is seen of it is what the fleet shows."""

from collections.abc import Collection, Iterable, Sequence

from endpoints.scaling.actuators.actuator import ActuatorError, Member, Target
from endpoints.scaling.role import Role, role_of
from routing.endpoint import EndpointState, Health


class AdviceOnly:
    """The endpoints of one role, whoever makes them. Nothing is ever changed."""

    def __init__(self, name: str, fleet: Iterable[EndpointState], role: Role) -> None:
        self.name = name
        self._fleet = fleet
        self._role = role

    async def look(self) -> Target:
        """The endpoints that aren't leaving count as asked for."""
        members = tuple(
            Member(state.name, (state.name,), since=state.health_since)
            for state in self._fleet
            if role_of(state.endpoint) is self._role and state.health is not Health.DRAINING
        )
        return Target(len(members), "", members)

    def choosable(self, target: Target, count: int) -> Sequence[Member] | None:
        """Nobody is chosen here."""
        del target, count
        return None

    def removable(self, target: Target, drained: Collection[str]) -> Sequence[str]:
        """Nobody is ended here."""
        del target, drained
        return ()

    async def announce(self, target: Target, leaving: Sequence[str]) -> None:
        """Nobody is announced: it would be somebody else's choice."""

    async def scale(self, target: Target, replicas: int, removed: Sequence[str]) -> None:
        """Refused: a defect if it is ever asked for."""
        raise ActuatorError(f"{self.name} is scaled by somebody else")

    async def tell_need(self, needed: int) -> None:
        """Whoever scales it reads our numbers."""

    async def close(self) -> None:
        """Nothing is held."""
