"""Where requests wait while their pool has no endpoint yet: from zero back without losing one.

A request whose pool is at zero, or is only just starting its endpoints, is neither refused nor
sent anywhere: it waits here until an endpoint can take it, in the order of arrival, and has the
pool's scaler woken. Room and patience are bounded, and whoever finds no room or loses patience
is told when to come again. Requests that find an endpoint never come here.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from gateway.apis.call import ApiError
from gateway.brains import Brains
from routing.decision import Rejection, RejectionKind
from routing.endpoint import ServedModel
from routing.fleet import Fleet

_LOOK_SECONDS: Final = 0.02  # between two looks at the fleet, while somebody waits
_AT_ONCE: Final = 32  # requests of a model sent off in one look: the loop has others to serve


class Ticket:
    """One request's place. ``again`` tries to route it: True when it need not wait any more."""

    __slots__ = ("again", "deadline", "model", "room", "since", "size")

    def __init__(
        self,
        room: "WaitingRoom",
        model: str | None,
        again: Callable[[], bool],
        size: int,
        since: float,
        deadline: float,
    ) -> None:
        self.room = room
        self.model = model
        self.again = again
        self.size = size
        self.since = since
        self.deadline = deadline

    def leave(self) -> None:
        """Give the place up: the client went away, or ran out of patience. Idempotent."""
        self.room.leave(self)

    def late(self) -> ApiError:
        """What the client is told when it ran out of patience."""
        room = self.room
        return ApiError(
            503,
            "activation_timeout",
            f"The pool {room.pool!r} had no endpoint within {room.patience:g} s.",
            retry_after=room.retry_after,
        )


class NoRoomError(Exception):
    """A request can't wait: ``reason`` is the word for metrics, the message is for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class WaitingRoom:
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
        self.pool = pool
        self.models: dict[str, ServedModel] = {name: ServedModel(name) for name in models}
        """What the pool serves, or did when it had endpoints."""
        self.patience = patience
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
        self._fleet = fleet
        self._now = now
        self._most = most
        self._most_bytes = most_bytes
        self._queues: dict[str | None, dict[Ticket, None]] = {}  # by model, in order of arrival
        self._count = 0
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Requests that wait now."""
        return self._count

    @property
    def oldest(self) -> float | None:
        """Since when the first of them waits; None when nobody does."""
        return min((next(iter(queue)).since for queue in self._queues.values()), default=None)

    def waits_for(self, model: str | None) -> bool:
        """Whether a request for this model waits."""
        return model in self._queues

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

    def enter(self, model: str | None, again: Callable[[], bool], size: int) -> Ticket:
        """Wait; `NoRoomError` when it can't. ``size``: bytes that are kept for it."""
        if self.closed is not None:
            raise NoRoomError("activation_impossible", f"No endpoint can come: {self.closed}.")
        if self._count >= self._most or (self._count and self._bytes + size > self._most_bytes):
            self.full += 1
            bound = f"{self._most} requests" if self._count >= self._most else "their bodies"
            raise NoRoomError(
                "activation_queue_full",
                f"The pool {self.pool!r} is starting its first endpoint; {bound} fill its queue.",
            )
        now = self._now()
        ticket = Ticket(self, model, again, size, now, now + self.patience)
        self._queues.setdefault(model, {})[ticket] = None
        self._count += 1
        self._bytes += size
        self.entered += 1
        if self._timer is None:
            self._look_later()
        if self._count == 1:
            self.wake()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give a place up."""
        if self._strike(ticket):
            if self._now() >= ticket.deadline:
                self.gave_up += 1
            else:
                self.left += 1

    def close(self) -> None:
        """Stop looking; whoever waits is told by nobody but its own deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _strike(self, ticket: Ticket) -> bool:
        queue = self._queues.get(ticket.model)
        if queue is None or ticket not in queue:
            return False
        del queue[ticket]
        if not queue:
            del self._queues[ticket.model]
        self._count -= 1
        self._bytes -= ticket.size
        return True

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Send off those for whom there is an endpoint now."""
        self._timer = None
        self._fleet.tick(self._now())
        for model in list(self._queues):
            if self._fleet.candidates(model) is not None:
                self._send_off(model)
        if self._count:
            self._look_later()

    def _send_off(self, model: str | None) -> None:
        for ticket in tuple(islice(self._queues[model], _AT_ONCE)):
            if ticket not in self._queues.get(model, ()):
                continue  # it left while another was sent off
            if not ticket.again():
                return  # nobody may overtake it
            if self._strike(ticket):
                self.served += 1
                self.waited_seconds += self._now() - ticket.since


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
