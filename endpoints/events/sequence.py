"""The numbers of a publisher's messages: what a message with number *s* means.

A publisher counts its messages from 0 (some from 1), and begins anew when its process does. It
drops what a slow subscriber can't take, and tells nobody: the numbers are all there is. Two of
them are kept. ``live`` is the last one that the live stream showed; ``applied`` the last whose
events are in the view. They differ after a replay, which may run ahead of the live stream.

    live   applied   message        verdict
    ----   -------   -----------    -------------------------------------------------------
    L      any       s < L          RESTARTED   it counts anew: nothing that we hold is true
    L      any       s = L          DUPLICATE
    any    A         s <= A         DUPLICATE   a replay was faster
    any    A         s = A + 1      NEXT
    any    A         s > A + 1      MISSING     A + 1 ... s - 1 never came: ask for them
    any    none      s = 0          NEXT        we were there from the beginning
    any    none      s > 0          MISSING     we came late: ask for everything

After the connection was lost the numbers alone can't be trusted: a new process may have counted
past ours by now. A replay settles it (see `endpoints.events.feed`); without one, a number that
is not the next one counts as RESTARTED.

Live messages come over one TCP connection from one publisher, so they are never out of order.
"""

from enum import Enum


class Verdict(Enum):
    """What a message means; see the table above."""

    NEXT = "next"
    DUPLICATE = "duplicate"
    MISSING = "missing"
    RESTARTED = "restarted"


class Sequence:
    """Where we are in one publisher's stream. It judges; the caller applies."""

    __slots__ = ("applied", "doubtful", "live")

    def __init__(self) -> None:
        self.live: int | None = None
        self.applied: int | None = None
        self.doubtful = False
        """The connection was lost since the last message: another process may count now."""

    @property
    def next(self) -> int:
        """The number to ask a replay for."""
        return 0 if self.applied is None else self.applied + 1

    def judge(self, number: int) -> Verdict:
        """What the live message ``number`` means. Only ``live`` and ``doubtful`` change."""
        live, self.live = self.live, number
        doubtful, self.doubtful = self.doubtful, False
        if live is not None and number < live:
            return Verdict.RESTARTED
        if number == live or (self.applied is not None and number <= self.applied):
            return Verdict.DUPLICATE
        if number == self.next:
            return Verdict.NEXT
        return Verdict.RESTARTED if doubtful and live is not None else Verdict.MISSING

    def forget(self) -> None:
        """Nothing is applied any more: the view was wiped."""
        self.live = self.applied = None
        self.doubtful = False
