"""A request that is kept in the gateway for now, as whoever carries it sees it."""

from typing import Protocol

from gateway.apis.call import ApiError


class Held(Protocol):
    """Its place: in line for a busy pool, or waiting for one that has no endpoint yet."""

    @property
    def deadline(self) -> float:
        """Until when it may wait."""

    def leave(self) -> None:
        """Give the place up: the client went away, or ran out of patience. Idempotent."""

    def late(self) -> ApiError:
        """What the client is told when it ran out of patience."""
