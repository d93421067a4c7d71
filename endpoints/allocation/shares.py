"""Who gives way among pools of equal priority: whoever is better served than who asks. Pure.

Devices that one pool lets go in its quiet hour another one takes, and keeps for its margin while
the first one starves: first come, first served. So an idle replica may be taken for a pool that
has gone without for a while, if what its own pool keeps is still a larger share of its need than
the other one has now::

    (placed of the giver - taken) / needed by it  >  placed of the taker / needed by it

The least served is then better served than before, and no second move undoes the first: this is
max-min fairness (as of the Dominant Resource Fairness paper, NSDI 2011) of satisfied need.
Needs tremble, so the taker counts with the least that it has needed for ``WINDOW`` seconds, the
giver with the most; and what was placed only lately is left alone.
"""

from collections import deque

from msgspec import Struct

WINDOW = 120.0
TENURE = 600.0
"""Seconds that a replica has been there before it may be taken so; a start takes minutes."""


class Stake(Struct, frozen=True):
    """Replicas of one pool: how many it needs, how many it has, how many it always keeps."""

    needed: int
    placed: int
    least: int = 0


def yields(giver: Stake, taker: Stake) -> int:
    """How many of the giver's replicas may be taken for one more of the taker's."""
    if taker.placed >= taker.needed:
        return 0
    # placed - taken must be more than this: the taker's share of the giver's need.
    kept = giver.needed * taker.placed // taker.needed + 1
    return max(giver.placed - max(kept, giver.least), 0)


class Needs:
    """What a pool has needed lately."""

    def __init__(self, window: float = WINDOW) -> None:
        self._window = window
        self._seen: deque[tuple[float, int]] = deque()
        self._since: float | None = None

    def note(self, needed: int, now: float) -> None:
        """It needs so many now. Of what came before, the last one before the window still holds."""
        if self._since is None:
            self._since = now
        if not self._seen or self._seen[-1][1] != needed:
            self._seen.append((now, needed))
        while len(self._seen) > 1 and self._seen[1][0] <= now - self._window:
            self._seen.popleft()

    def steady(self, now: float) -> int:
        """The least of the window; 0 until it was looked at for so long."""
        if self._since is None or now - self._since < self._window:
            return 0
        return min(needed for _, needed in self._seen)

    def most(self) -> int:
        """The most of the window."""
        return max((needed for _, needed in self._seen), default=0)
