"""Which requests are kept as a sample: by their id alone, and so many that those kept last.

Whoever samples by id keeps the same requests, on every gateway on their way and after every
restart; a smaller share is a part of a larger one. The share follows the traffic: what is kept of
ten seconds says more than all of one, and memory that is written anew with every request is memory
that no cache of the processor holds.
"""

from math import inf
from typing import Final

import xxhash

_HASHES: Final = 1 << 32
_STEEPEST: Final = 1 / 16  # of the share is left by one turn, or a burst would be felt for minutes


class LastingSample:
    """A sample of which ``capacity`` are kept, the latest, for ``reach`` seconds or longer.

    ``most``: the largest share taken, 0 to 1. As soon as one is pushed out within less than
    ``reach`` the share falls by as much as that was too soon; it doubles when they last longer. A
    reach of 0 takes ``most``, always.
    """

    def __init__(self, most: float, capacity: int, reach: float) -> None:
        if not 0.0 <= most <= 1.0:
            raise ValueError(f"sample is {most}: give a share from 0 to 1")
        if not reach >= 0.0:
            raise ValueError(f"reach is {reach}: give seconds, at least 0")
        self._most = self._threshold = round(most * _HASHES)
        self._capacity = capacity
        self._reach = reach
        self._began = -inf  # of a turn: until its first one is pushed out, or the reach is over
        self._taken = 0

    @property
    def share(self) -> float:
        """Of all requests that is taken at present."""
        return self._threshold / _HASHES

    def has(self, request_id: str) -> bool:
        """Whether a request of this id is taken at present."""
        if self._threshold >= _HASHES:
            return True
        return xxhash.xxh32_intdigest(request_id.encode()) < self._threshold

    def take(self, request_id: str, at: float) -> bool:
        """Whether this request, of the time ``at``, is one to keep."""
        if self._reach and at - self._began > self._reach:
            self._begin(at, 2.0)
        if not self.has(request_id):
            return False
        self._taken += 1
        if self._reach and self._taken > self._capacity:
            self._begin(at, max((at - self._began) / self._reach, _STEEPEST))
        return True

    def _begin(self, at: float, factor: float) -> None:
        """A turn begins, with so many times the share."""
        self._threshold = min(max(round(self._threshold * factor), 1), self._most)
        self._began, self._taken = at, 0
