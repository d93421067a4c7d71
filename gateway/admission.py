"""Where requests wait while their pool is busy: let go by priority and fair share, or turned away.

While some endpoint has room a request is routed at once. Otherwise it stands in its pool's line,
and the brain chooses its endpoint when its turn comes, knowing what is free and cached by then.
Whoever is turned away is told when to come again, by the pace at which the line moves.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from math import ceil
from typing import Final

from gateway.admissionbooks import ADMITTED, EVICTED, EXPIRED, LEFT, REFUSED, AdmissionBooks
from gateway.apis.call import ApiError
from gateway.settings import AdmissionSettings
from routing.admission.entry import Entry, LaneKey
from routing.admission.queue import AdmissionQueue
from routing.admission.room import has_room
from routing.request import Request
from routing.router import Router

_TURN_SECONDS: Final = 0.005  # between two looks at the fleet, while somebody waits
_AT_ONCE: Final = 32  # requests of a lane let go in one look: the loop has others to serve
_SOONEST, _LATEST = 1, 60  # seconds after which whoever is turned away may come again

DROPPED: Final = {
    "shed": b"rejected-saturated",
    "admission_queue_full": b"rejected-saturated",
    "admission_timeout": b"rejected-ttl-expired",
    "evicted_by_priority": b"evicted-priority",
    "evicted_by_share": b"evicted-queue-pressure",
}
"""Our reasons in the words of llm-d's ``x-llm-d-request-dropped-reason``."""

_log = logging.getLogger(__name__)


class Ticket:
    """One request's place in line. ``again`` tries to route it: True when it need not wait."""

    __slots__ = ("_admission", "again", "entry", "refuse")

    def __init__(
        self,
        admission: "Admission",
        entry: Entry,
        again: Callable[[], bool],
        refuse: Callable[[ApiError], None],
    ) -> None:
        self._admission = admission
        self.entry = entry
        self.again = again
        self.refuse = refuse

    @property
    def deadline(self) -> float:
        """Until when it may wait."""
        return self.entry.deadline

    def leave(self) -> None:
        """Give the place up. Idempotent."""
        self._admission.leave(self)

    def late(self) -> ApiError:
        """What the client is told when it ran out of patience."""
        return self._admission.late()


class Admission:
    """The line before one pool."""

    def __init__(
        self, pool: str, router: Router, settings: AdmissionSettings, now: Callable[[], float]
    ) -> None:
        self.pool = pool
        self.router = router
        self.books = AdmissionBooks()
        self.queue = AdmissionQueue(settings.bounds())
        self._settings = settings
        self._now = now
        self._tickets: dict[Entry, Ticket] = {}
        self._timer: asyncio.TimerHandle | None = None

    def must_wait(self, request: Request) -> bool:
        """Whether a request has to stand in line: somebody does already, or nobody has room.

        Not one for which there is no endpoint at all: the brain has the words for that.
        """
        lane = LaneKey.of(request.model, request.within)
        if not self.queue.waits_in(lane) and self._has_room(lane, self._now()) is not False:
            self.books.at_once += 1
            return False
        return True

    def enter(
        self,
        request: Request,
        *,
        priority: int,
        tenant: str,
        size: int,
        again: Callable[[], bool],
        refuse: Callable[[ApiError], None],
    ) -> Ticket:
        """Stand in line; `ApiError` (429) when there is no place for it.

        ``size``: bytes that are kept for it. One of ``again`` (until it is True) and ``refuse``
        is called later, unless the ticket is given up.
        """
        now = self._now()
        entry, evicted = self.queue.offer(
            LaneKey.of(request.model, request.within),
            priority,
            tenant,
            cost=self._work(request),
            size=size,
            now=now,
        )
        for other in evicted:
            self._turn_away(other, self._evicted(other, priority), EVICTED, now)
        if entry is None:
            self.books.ended(tenant, priority, REFUSED, 0.0)
            raise ApiError(
                429,
                "admission_queue_full",
                f"All endpoints of {self.pool!r} are busy, and the line before them is full.",
                retry_after=self._retry_after(now),
            )
        ticket = self._tickets[entry] = Ticket(self, entry, again, refuse)
        if self.router.traffic is not None:
            self.router.traffic.hold(now)
        if self._timer is None:
            self._look_later()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give a place up."""
        if self.queue.drop(ticket.entry):
            late = self._now() >= ticket.entry.deadline
            self._gone(ticket.entry, EXPIRED if late else LEFT, self._now())

    def late(self) -> ApiError:
        """What those are told who ran out of patience."""
        patience = self._settings.patience
        return ApiError(
            503,
            "admission_timeout",
            f"No endpoint of {self.pool!r} had room within {patience:g} s.",
            retry_after=self._retry_after(self._now()),
        )

    def close(self) -> None:
        """The pool is gone: nobody waits any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._now()
        while (entry := self.queue.oldest) is not None:
            self.queue.drop(entry)
            gone = ApiError(503, "no_pool", f"The pool {self.pool!r} is gone.", retry_after=1)
            self._turn_away(entry, gone, REFUSED, now)

    # --- within --------------------------------------------------------------------------------

    def _has_room(self, lane: LaneKey, now: float) -> bool | None:
        router = self.router
        most = router.settings.max_requests_per_endpoint
        return has_room(router.fleet, lane, now, self._settings.longest_wait, most_requests=most)

    def _work(self, request: Request) -> float:
        """Its tokens, a produced one counted twice: it takes about so much more of an engine.

        Source: Y. Sheng et al., Fairness in serving large language models (OSDI 2024), 5.1.
        """
        lengths = self.router.lengths
        prompt = request.prompt_tokens * lengths.scale_of(request)
        return 1.0 + prompt + 2.0 * lengths.output_of(request)

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_TURN_SECONDS, self._look)

    def _look(self) -> None:
        """Let go whoever there is room for, and send away whose time is over."""
        self._timer = None
        now = self._now()
        try:
            self.router.fleet.tick(now)
            for entry in self.queue.expire(now):
                self._turn_away(entry, self.late(), EXPIRED, now)
            for lane in self.queue.lanes():
                self._let_go(lane, now)
        finally:
            if len(self.queue) and self._timer is None:
                self._look_later()

    def _let_go(self, lane: LaneKey, now: float) -> None:
        for _ in range(_AT_ONCE):
            if not self._has_room(lane, now):
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
                    self._turn_away(entry, error, REFUSED, now)
                continue
            if entry in self.queue:
                self.queue.take(entry, now)
                self._gone(entry, ADMITTED, now)

    def _turn_away(self, entry: Entry, error: ApiError, outcome: str, now: float) -> None:
        """It has left the queue; its client is told so."""
        ticket = self._tickets[entry]
        self._gone(entry, outcome, now)
        ticket.refuse(error)

    def _gone(self, entry: Entry, outcome: str, now: float) -> None:
        del self._tickets[entry]
        self.books.ended(entry.tenant, entry.priority, outcome, now - entry.since)
        if self.router.traffic is not None:
            self.router.traffic.let_go(now, refused=outcome != ADMITTED)

    def _evicted(self, entry: Entry, priority: int) -> ApiError:
        now = self._now()
        if entry.priority < priority:
            reason, why = "evicted_by_priority", f"a request of priority {priority}"
        else:
            reason, why = "evicted_by_share", "a client that has less waiting"
        return ApiError(
            429,
            reason,
            f"All endpoints of {self.pool!r} are busy; the place in line went to {why}.",
            retry_after=self._retry_after(now),
        )

    def _retry_after(self, now: float) -> int:
        seconds = self.queue.wait_seconds(now)
        return _LATEST if seconds is None else min(max(ceil(seconds), _SOONEST), _LATEST)


class Admissions:
    """The lines before all pools, by their routers."""

    def __init__(self, settings: AdmissionSettings, now: Callable[[], float]) -> None:
        self._settings = settings
        self._now = now
        self._lines: dict[Router, Admission] = {}

    def add(self, pool: str, router: Router) -> None:
        """A pool joined."""
        self._lines[router] = Admission(pool, router, self._settings, self._now)

    def remove(self, router: Router) -> None:
        """A pool left; unknown ones are ignored."""
        line = self._lines.pop(router, None)
        if line is not None:
            line.close()

    def of(self, router: Router) -> Admission | None:
        """The line before a pool."""
        return self._lines.get(router)

    def __iter__(self) -> Iterator[Admission]:
        """As of now: pools may come and go meanwhile."""
        return iter(tuple(self._lines.values()))

    def close(self) -> None:
        """Send everybody away."""
        for line in self:
            line.close()
        self._lines.clear()
