"""Where requests wait while their pool is busy: let go by priority and fair share, or turned away.

While some endpoint has room a request is routed at once. Otherwise it stands in its pool's line,
and the brain chooses its endpoint when its turn comes, knowing what is free and cached by then.
Whoever is turned away is told when to come again, by the pace at which the line moves.
"""

from collections.abc import Callable, Iterator
from math import ceil
from typing import Final

from gateway.admissionbooks import AdmissionBooks
from gateway.apis.call import ApiError
from gateway.held import End, Line, Ticket
from gateway.settings import AdmissionSettings
from routing.admission.entry import Entry, LaneKey
from routing.admission.queue import AdmissionQueue
from routing.admission.room import has_room
from routing.request import Request
from routing.router import Router

TURN_SECONDS: Final = 0.005
"""Between two looks at the fleet, while somebody waits."""
_SOONEST, _LATEST = 1, 60  # seconds after which whoever is turned away may come again

DROPPED: Final = {
    "shed": b"rejected-saturated",
    "admission_queue_full": b"rejected-saturated",
    "admission_timeout": b"rejected-ttl-expired",
    "evicted_by_priority": b"evicted-priority",
    "evicted_by_share": b"evicted-queue-pressure",
}
"""Our reasons in the words of llm-d's ``x-llm-d-request-dropped-reason``."""


class Admission(Line):
    """The line before one pool."""

    def __init__(
        self, pool: str, router: Router, settings: AdmissionSettings, now: Callable[[], float]
    ) -> None:
        super().__init__(
            router.fleet, AdmissionQueue(settings.bounds()), now=now, turn_seconds=TURN_SECONDS
        )
        self.pool = pool
        self.router = router
        self.books = AdmissionBooks()
        self._settings = settings

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
            cost=self.router.lengths.work_of(request),
            size=size,
            now=now,
        )
        for other in evicted:
            self._turn_away(other, self._evicted(other, priority), End.EVICTED, now)
        if entry is None:
            self.books.ended(tenant, priority, End.REFUSED, 0.0)
            raise ApiError(
                429,
                "admission_queue_full",
                f"All endpoints of {self.pool!r} are busy, and the line before them is full.",
                retry_after=self._retry_after(now),
            )
        if self.router.traffic is not None:
            self.router.traffic.hold(now)
        return self._stand(entry, again, refuse)

    def may_go(self, lane: LaneKey, now: float) -> bool:
        """Whether some endpoint has room."""
        return self._has_room(lane, now) is True

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
        super().close()
        now = self._now()
        while (entry := self.queue.oldest) is not None:
            self.queue.drop(entry)
            gone = ApiError(503, "no_pool", f"The pool {self.pool!r} is gone.", retry_after=1)
            self._turn_away(entry, gone, End.REFUSED, now)

    def ended(self, entry: Entry, end: End, now: float) -> None:
        """Somebody waits no more."""
        self.books.ended(entry.tenant, entry.priority, end, now - entry.since)
        if self.router.traffic is not None:
            self.router.traffic.let_go(now, refused=end is not End.ADMITTED)

    # --- within --------------------------------------------------------------------------------

    def _has_room(self, lane: LaneKey, now: float) -> bool | None:
        router = self.router
        most = router.settings.max_requests_per_endpoint
        return has_room(router.fleet, lane, now, self._settings.longest_wait, most_requests=most)

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
