"""One request that waits to be admitted."""

from collections.abc import Collection
from typing import NamedTuple


class LaneKey(NamedTuple):
    """What decides which endpoints a request can go to."""

    model: str | None
    within: frozenset[str] | None
    """Names of the endpoints that it is limited to; None: all that serve the model."""

    @classmethod
    def of(cls, model: str | None, within: Collection[str] | None) -> "LaneKey":
        """The key of a request."""
        return cls(model, None if within is None else frozenset(within))


class Entry:
    """A request's place in line. ``cost`` is the work it brings, ``size`` the bytes it holds."""

    __slots__ = ("cost", "deadline", "lane", "priority", "since", "size", "tenant")

    def __init__(
        self,
        lane: LaneKey,
        priority: int,
        tenant: str,
        *,
        cost: float,
        size: int,
        since: float,
        deadline: float,
    ) -> None:
        self.lane = lane
        self.priority = priority
        self.tenant = tenant
        self.cost = cost
        self.size = size
        self.since = since
        self.deadline = deadline
