"""Requests that are kept in the gateway for now: their places, and the looks at who may go on.

What they wait for is the business of each kind of line: any endpoint at all, of a pool that is
being brought up (`gateway.waiting`), or room at busy ones (`gateway.admission`). Whoever stands in
one is, exactly once, sent on, turned away, or gives its place up.
"""

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from gateway.apis.call import ApiError
from routing.admission.entry import Entry, LaneKey
from routing.admission.queue import AdmissionQueue
from routing.fleet import Fleet

_AT_ONCE: Final = 32  # requests of a lane sent on in one look: the loop has others to serve

_log = logging.getLogger(__name__)


class End(StrEnum):
    """How a request's waiting ended."""

    ADMITTED = "admitted"
    EXPIRED = "expired"
    EVICTED = "evicted"
    REFUSED = "refused"
    LEFT = "left"


class Ticket:
    """One request's place. ``again`` tries to route it: True when it need not wait any more."""

    __slots__ = ("_line", "again", "entry", "refuse")

    def __init__(
        self,
        line: "Line",
        entry: Entry,
        again: Callable[[], bool],
        refuse: Callable[[ApiError], None],
    ) -> None:
        self._line = line
        self.entry = entry
        self.again = again
        self.refuse = refuse

    @property
    def deadline(self) -> float:
        """Until when it may wait."""
        return self.entry.deadline

    def leave(self) -> None:
        """Give the place up: the client went away, or ran out of patience. Idempotent."""
        self._line.leave(self)

    def late(self) -> ApiError:
        """What the client is told when it ran out of patience."""
        return self._line.late()


class Line:
    """The requests that wait for one pool. ``turn_seconds``: between two looks, while some do."""

    def __init__(
        self,
        fleet: Fleet,
        queue: AdmissionQueue,
        *,
        now: Callable[[], float],
        turn_seconds: float,
    ) -> None:
        self.queue = queue
        self._fleet = fleet
        self._now = now
        self._turn_seconds = turn_seconds
        self._tickets: dict[Entry, Ticket] = {}
        self._timer: asyncio.TimerHandle | None = None

    # --- what lines differ in ----------------------------------------------------------------

    def may_go(self, lane: LaneKey, now: float) -> bool:
        """Whether one of a lane can be sent on."""
        raise NotImplementedError

    def late(self) -> ApiError:
        """What those are told who ran out of patience."""
        raise NotImplementedError

    def ended(self, entry: Entry, end: End, now: float) -> None:
        """Somebody waits no more."""
        raise NotImplementedError

    # --- what they have in common ------------------------------------------------------------

    def leave(self, ticket: Ticket) -> None:
        """Give a place up."""
        if self.queue.drop(ticket.entry):
            now = self._now()
            self._gone(ticket.entry, End.EXPIRED if now >= ticket.deadline else End.LEFT, now)

    def close(self) -> None:
        """Stop looking; whoever waits is told by nobody but its own deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stand(
        self, entry: Entry, again: Callable[[], bool], refuse: Callable[[ApiError], None]
    ) -> Ticket:
        """The place of somebody whom the queue has taken."""
        ticket = self._tickets[entry] = Ticket(self, entry, again, refuse)
        if self._timer is None:
            self._look_later()
        return ticket

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._turn_seconds, self._look)

    def _look(self) -> None:
        """Send on whoever may go, and away whose time is over."""
        self._timer = None
        now = self._now()
        try:
            self._fleet.tick(now)
            for entry in self.queue.expire(now):
                self._turn_away(entry, self.late(), End.EXPIRED, now)
            for lane in self.queue.lanes():
                self._send_on(lane, now)
        finally:
            if len(self.queue) and self._timer is None:
                self._look_later()

    def _send_on(self, lane: LaneKey, now: float) -> None:
        for _ in range(_AT_ONCE):
            if not self.may_go(lane, now):
                return
            entry = self.queue.next(lane)
            if entry is None:
                return
            try:
                if not self._tickets[entry].again():
                    return  # it is its turn, whatever comes
            except Exception:  # a defect in one request must not hold up all behind it
                _log.exception("a request that had waited could not be sent")
                if self.queue.drop(entry):
                    error = ApiError(500, "internal_error", "The gateway failed to send it.")
                    self._turn_away(entry, error, End.REFUSED, now)
                continue
            if entry in self.queue:
                self.queue.take(entry, now)
                self._gone(entry, End.ADMITTED, now)

    def _turn_away(self, entry: Entry, error: ApiError, end: End, now: float) -> None:
        """It has left the queue; its client is told so."""
        ticket = self._tickets[entry]
        self._gone(entry, end, now)
        ticket.refuse(error)

    def _gone(self, entry: Entry, end: End, now: float) -> None:
        del self._tickets[entry]
        self.ended(entry, end, now)
