"""KV caches that lie on an endpoint for somebody who will not come: stranded until a lease ends."""

from collections.abc import Hashable
from heapq import heappop, heappush


class Pinned:
    """What is stranded on one endpoint, in tokens. Every method is O(log n), mostly O(1)."""

    __slots__ = ("_ends", "_serial", "_tokens", "ever", "tokens")

    def __init__(self) -> None:
        self.tokens = 0
        """Stranded now, as of the last call of `expire`."""
        self.ever = 0
        """Tokens that were stranded, ever."""
        self._ends: list[tuple[float, int, Hashable]] = []
        self._tokens: dict[Hashable, int] = {}
        self._serial = 0

    def add(self, key: Hashable, tokens: int, until: float) -> None:
        """``tokens`` are pinned until then; a key counts once."""
        if key in self._tokens or tokens <= 0:
            return
        self._serial += 1
        self._tokens[key] = tokens
        self.tokens += tokens
        self.ever += tokens
        heappush(self._ends, (until, self._serial, key))

    def free(self, key: Hashable) -> None:
        """It was read or freed before its lease ended."""
        self.tokens -= self._tokens.pop(key, 0)

    def expire(self, now: float) -> int:
        """Forget leases that have ended; what is still pinned."""
        while self._ends and self._ends[0][0] <= now:
            self.free(heappop(self._ends)[2])
        return self.tokens
