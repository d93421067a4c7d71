"""Where requests wait while their pool has no endpoint yet: from zero back without losing one.

A request whose pool is at zero, or is only just starting its endpoints, is neither refused nor
sent anywhere: it waits here until an endpoint can take it, in the order of arrival, and has the
pool's scaler woken. Room and patience are bounded, and whoever finds no room or loses patience
is told when to come again. Requests that find an endpoint never come here.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from gateway.apis.call import ApiError
from gateway.brains import Brains
from gateway.held import End, Line, Ticket
from routing.admission.entry import Entry, LaneKey
from routing.admission.queue import AdmissionQueue, QueueBounds
from routing.decision import Rejection, RejectionKind
from routing.endpoint import ServedModel
from routing.fleet import Fleet

_LOOK_SECONDS: Final = 0.02  # between two looks at the fleet, while somebody waits
_EVERYBODY: Final = ""  # the tenant: here all are equal


class WaitingRoom(Line):
    """The requests that wait for one pool.

    ``most`` requests whose bodies take ``most_bytes`` together may wait, each for ``patience``
    seconds. ``models`` are those that the pool serves when it has endpoints; more are learned
    while it has (`learn`). ``wake`` is called when the first request comes to an empty room.
    """

    def __init__(
        self,
        pool: str,
        fleet: Fleet,
        *,
        now: Callable[[], float],
        models: Iterable[str] = (),
        most: int = 1_000,
        most_bytes: int = 256 << 20,
        patience: float = 300.0,
        wake: Callable[[], object] = lambda: None,
    ) -> None:
        bounds = QueueBounds(requests=most, bytes=most_bytes, patience=patience, oldest_every=0)
        super().__init__(fleet, AdmissionQueue(bounds), now=now, turn_seconds=_LOOK_SECONDS)
        self.pool = pool
        self.models: dict[str, ServedModel] = {name: ServedModel(name) for name in models}
        """What the pool serves, or did when it had endpoints."""
        self.retry_after = 5
        """Seconds after which those who can't wait here are asked to come again."""
        self.closed: str | None = None
        """Why nothing may wait, since no endpoint can come; None: one can."""
        self.wake = wake
        self.entered = self.served = self.full = self.gave_up = self.left = 0
        """Requests so far: that waited; that an endpoint took; that found no room; that ran out
        of patience; whose clients went away."""
        self.waited_seconds = 0.0
        """By those that an endpoint took, together."""

    def __len__(self) -> int:
        """Requests that wait now."""
        return len(self.queue)

    @property
    def oldest(self) -> float | None:
        """Since when the first of them waits; None when nobody does."""
        oldest = self.queue.oldest
        return None if oldest is None else oldest.since

    def waits_for(self, model: str | None) -> bool:
        """Whether a request for this model waits."""
        return self.queue.waits_in(LaneKey(model, None))

    def learn(self) -> None:
        """Remember which models the pool's endpoints serve."""
        self.models.update(self._fleet.models())

    def holds(self, model: str | None, rejection: Rejection) -> bool:
        """Whether a request that was rejected so should wait here.

        Not one that only waits for a breaker, or whose model nobody here ever serves.
        """
        if rejection.kind is RejectionKind.OVERLOADED:
            return False
        if model is not None and model not in self.models:
            return False
        return self._fleet.reopens_at(model) is None

    def enter(
        self,
        model: str | None,
        again: Callable[[], bool],
        size: int,
        refuse: Callable[[ApiError], None] = lambda _: None,
    ) -> Ticket:
        """Wait; `ApiError` (503) when it can't. ``size``: bytes that are kept for it.

        One of ``again`` (until it is True) and ``refuse`` is called later, unless the ticket is
        given up.
        """
        if self.closed is not None:
            raise self._refusal("activation_impossible", f"No endpoint can come: {self.closed}.")
        entry, _ = self.queue.offer(
            LaneKey(model, None), 0, _EVERYBODY, cost=1.0, size=size, now=self._now()
        )
        if entry is None:
            self.full += 1
            most = self.queue.bounds.requests
            bound = f"{most} requests" if len(self) >= most else "their bodies"
            raise self._refusal(
                "activation_queue_full",
                f"The pool {self.pool!r} is starting its first endpoint; {bound} fill its queue.",
            )
        self.entered += 1
        ticket = self._stand(entry, again, refuse)
        if len(self) == 1:
            self.wake()
        return ticket

    def may_go(self, lane: LaneKey, now: float) -> bool:
        """Whether there is an endpoint."""
        del now
        return self._fleet.candidates(lane.model) is not None

    def late(self) -> ApiError:
        """What those are told who ran out of patience."""
        patience = self.queue.bounds.patience
        return self._refusal(
            "activation_timeout", f"The pool {self.pool!r} had no endpoint within {patience:g} s."
        )

    def ended(self, entry: Entry, end: End, now: float) -> None:
        """Somebody waits no more."""
        if end is End.ADMITTED:
            self.served += 1
            self.waited_seconds += now - entry.since
        elif end is End.EXPIRED:
            self.gave_up += 1
        else:
            self.left += 1

    def _refusal(self, reason: str, message: str) -> ApiError:
        return ApiError(503, reason, message, retry_after=self.retry_after)


class WaitingRooms:
    """The rooms of all pools that can be brought up from nothing."""

    def __init__(self) -> None:
        self._rooms: dict[str, WaitingRoom] = {}

    def add(self, room: WaitingRoom) -> None:
        """A pool that can be activated."""
        self._rooms[room.pool] = room

    def remove(self, pool: str) -> None:
        """The pool left, or can't be activated any more."""
        room = self._rooms.pop(pool, None)
        if room is not None:
            room.close()

    def __iter__(self) -> Iterator[WaitingRoom]:
        """As of now: pools may come and go meanwhile."""
        return iter(tuple(self._rooms.values()))

    def of(self, pool: str) -> WaitingRoom | None:
        """A pool's room."""
        return self._rooms.get(pool)

    def room(self, model: str | None, rejection: Rejection, brains: Brains) -> WaitingRoom | None:
        """Where a request that was rejected so may wait; None: nowhere.

        ``brains`` are those that the request may go to.
        """
        for room in self._rooms.values():
            if room.holds(model, rejection) and brains.of(room.pool) is not None:
                return room
        return None

    def ahead(self, model: str | None, brains: Brains) -> WaitingRoom | None:
        """Where requests for the same model wait, whom a new one must not overtake."""
        for room in self._rooms.values():
            if room.waits_for(model) and brains.of(room.pool) is not None:
                return room
        return None

    @property
    def open(self) -> bool:
        """Whether a gateway without any endpoint can still be of use."""
        return any(room.closed is None for room in self._rooms.values())

    def with_models(self, served: dict[str, ServedModel]) -> dict[str, ServedModel]:
        """``served``, and what pools without endpoints would serve."""
        for room in self._rooms.values():
            if room.closed is None:
                for name, model in room.models.items():
                    served.setdefault(name, model)
        return served
