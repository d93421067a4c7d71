"""Virtual time: what happens when, in order."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import TypeVarTuple

Ts = TypeVarTuple("Ts")


class Timeline:
    """Calls functions at their times; those of one moment in the order in which they were set."""

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds since the beginning."""
        self._serial = 0
        self._events: list[tuple[float, int, Callable[..., object], tuple[object, ...]]] = []

    def at(self, time: float, call: Callable[[*Ts], object], *arguments: *Ts) -> None:
        """Have ``call(*arguments)`` called at ``time``, or now if that is over."""
        self._serial += 1
        heappush(self._events, (max(time, self.now), self._serial, call, arguments))

    def step(self, until: float) -> bool:
        """Go on to the next event and call it; False when there is none up to ``until``."""
        if not self._events or self._events[0][0] > until:
            return False
        self.now, _, call, arguments = heappop(self._events)
        call(*arguments)
        return True
