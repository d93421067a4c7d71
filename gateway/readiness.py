"""Whether clients should be sent here: what `/readyz` answers and load balancers follow."""

from enum import Enum


class ReadinessState(Enum):
    """STARTING -> READY -> DRAINING; a gateway that drains never gets ready again."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class Readiness:
    """The gateway's own view of itself, apart from how the fleet does."""

    def __init__(self) -> None:
        self._state = ReadinessState.STARTING
        self._reason = "the gateway is starting"

    @property
    def state(self) -> ReadinessState:
        """Where the gateway is in its life."""
        return self._state

    @property
    def reason(self) -> str:
        """Why it is not ready, in words for people; empty when it is."""
        return self._reason

    def starting(self, reason: str) -> None:
        """Say what is still waited for; ignored once started."""
        if self._state is ReadinessState.STARTING:
            self._reason = reason

    def ready(self) -> None:
        """Everything runs; ignored when already draining."""
        if self._state is not ReadinessState.DRAINING:
            self._state, self._reason = ReadinessState.READY, ""

    def draining(self, reason: str = "the gateway is shutting down") -> None:
        """Clients should go elsewhere from now on."""
        self._state, self._reason = ReadinessState.DRAINING, reason
