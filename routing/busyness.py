"""How much of their time endpoints spend on prompts, and will: what stalls whoever decodes there.

What an endpoint did in the last seconds says little of what it will do once somebody decodes
there: prompts are sent where they stall few. So what is expected of each is halfway between the
share of its own that was measured, and a part of what all of them together spend on prompts that
falls with the sequences that decode there:

    expected = (own + total x a / sum of all a) / 2,   a = 1 / (1 + sequences)
"""

from collections.abc import Iterable, Mapping
from math import exp
from typing import Final

from routing.endpoint import EndpointState

_MOST: Final = 0.8
_EARLY: Final = 2.0  # seconds that were idle before anything was measured: one prompt is no rate


class Busy:
    """The share of the last seconds that an endpoint has spent, or is to spend, on prompts."""

    __slots__ = ("at", "seconds")

    def __init__(self, now: float) -> None:
        self.seconds = 0.0
        self.at = now

    def add(self, work: float, now: float, memory: float) -> None:
        """It was given a prompt that takes ``work`` seconds."""
        age = now - self.at
        if age > 0.0:
            self.seconds *= exp(-age / memory)
            self.at = now
        self.seconds += work

    def share(self, now: float, memory: float) -> float:
        """Seconds a second, over ``memory``; not bounded."""
        age = now - self.at
        return (self.seconds if age <= 0.0 else self.seconds * exp(-age / memory)) / memory


class Busyness:
    """Of all endpoints of a router. ``memory``: the seconds that count, an exponential window."""

    __slots__ = ("_began", "_busy", "_memory")

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self._busy: dict[EndpointState, Busy] = {}
        self._began: float | None = None

    def booked(self, state: EndpointState, work: float, now: float) -> None:
        """The endpoint is to compute a prompt for ``work`` seconds."""
        if self._began is None:
            self._began = now
        busy = self._busy.get(state)
        if busy is None:
            busy = self._busy[state] = Busy(now)
        busy.add(work, now, self._memory)

    def forget(self, state: EndpointState) -> None:
        """The endpoint left."""
        self._busy.pop(state, None)

    def expect(self, endpoints: Iterable[EndpointState], now: float) -> "Expected":
        """What is to be expected of these, as they are now. O(endpoints)."""
        if self._began is None:
            return Expected({}, 0.0, 0.0)
        # A window that is not full yet shows too little.
        full = 1.0 - exp(-(now - self._began + _EARLY) / self._memory)
        shares: dict[EndpointState, float] = {}
        attraction = 0.0
        for state in endpoints:
            attraction += 1.0 / (1.0 + state.ledger.decoding + state.ledger.awaiting)
            busy = self._busy.get(state)
            if busy is not None:
                shares[state] = busy.share(now, self._memory) / full
        return Expected(shares, sum(shares.values()), attraction)


class Expected:
    """What some endpoints will spend on prompts, as one moment lets expect."""

    __slots__ = ("_attraction", "_shares", "_total")

    def __init__(
        self, shares: Mapping[EndpointState, float], total: float, attraction: float
    ) -> None:
        self._shares = shares
        self._total = total
        self._attraction = attraction

    def share(self, state: EndpointState, sequences: float) -> float:
        """0 to 0.8, were one sequence more to decode there than the ``sequences`` that do."""
        if self._total <= 0.0:
            return 0.0
        before, after = 1.0 / (1.0 + sequences), 1.0 / (2.0 + sequences)
        part = after / max(self._attraction - before + after, after)
        own = min(self._shares.get(state, 0.0), _MOST)
        return 0.5 * (own + min(self._total * part, _MOST))
