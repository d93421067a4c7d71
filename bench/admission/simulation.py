"""The replay's gateway with a line before the pool, or with what others do instead."""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from bench.replay.flight import Flight
from bench.replay.settings import ReplaySettings
from bench.replay.simulation import Simulation
from bench.replay.workload import Workload
from gateway.admission import TURN_SECONDS
from gateway.settings import AdmissionSettings
from routing.admission.entry import Entry, LaneKey
from routing.admission.queue import AdmissionQueue, QueueBounds
from routing.admission.room import has_room
from routing.policies import DEFAULT_POLICY
from routing.request import Request

_LONGEST_WAIT = AdmissionSettings().longest_wait
_EVERYBODY = QueueBounds(requests=1_000_000, bytes=1 << 50, patience=1e9)


class Manner(Enum):
    """What becomes of requests while the pool is busy."""

    ENGINES = "engines queue"
    SHED = "shed below 0"
    """Engines queue; when the pool is saturated, requests of a priority below 0 are refused."""
    LINE = "line"


class Sender(NamedTuple):
    """Whose request it is, and how important."""

    tenant: str
    priority: int


class AdmittedSimulation(Simulation):
    """A replay whose requests have senders, by number."""

    def __init__(
        self,
        workload: Workload,
        senders: Sequence[Sender],
        manner: Manner,
        settings: ReplaySettings,
    ) -> None:
        super().__init__(workload, DEFAULT_POLICY, settings)
        self._senders = senders
        self._manner = manner
        self._line = AdmissionQueue(_EVERYBODY)
        self._waiting: dict[Entry, tuple[Flight, Request]] = {}
        self._looking = False

    @property
    def unfinished(self) -> bool:
        """Whether somebody has yet to come, to be let go, or to finish."""
        return bool(self._waiting) or super().unfinished

    def admit(self, flight: Flight, request: Request) -> None:
        """Let it go, have it wait, or refuse it."""
        sender, now = self._senders[flight.number], self.timeline.now
        lane = LaneKey.of(request.model, request.within)
        if self._manner is Manner.SHED:
            if sender.priority >= 0 or not self.router.saturated(request.model, now):
                self.route(flight, request, None)
        elif self._manner is Manner.ENGINES or (
            not self._line.waits_in(lane) and self._room(lane, now)
        ):
            self.route(flight, request, None)
        else:
            entry, _ = self._line.offer(
                lane,
                sender.priority,
                sender.tenant,
                cost=self.router.lengths.work_of(request),
                size=0,
                now=now,
            )
            assert entry is not None  # there is room for everybody
            self._waiting[entry] = (flight, request)
            if not self._looking:
                self._looking = True
                self.timeline.at(now + TURN_SECONDS, self._look)

    def _room(self, lane: LaneKey, now: float) -> bool:
        return has_room(self.router.fleet, lane, now, _LONGEST_WAIT) is not False

    def _look(self) -> None:
        now = self.timeline.now
        for lane in self._line.lanes():
            while self._room(lane, now) and (entry := self._line.next(lane)) is not None:
                self._line.take(entry, now)
                flight, request = self._waiting.pop(entry)
                self.route(flight, request, flight.at)
        self._looking = bool(self._waiting)
        if self._looking:
            self.timeline.at(now + TURN_SECONDS, self._look)
