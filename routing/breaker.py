"""The circuit breaker of one endpoint: whether requests that are sent there end well.

                 failures                    its time is over
      CLOSED ───────────────► OPEN ──────────────────────────► HALF_OPEN
        ▲                      ▲                                │     │
        │                      └──── the probe failed (longer) ─┘     │
        └──────────────────── the probe was answered ─────────────────┘

Who does what: *health* says whether a server is there, and belongs to the probes; of the data
plane it hears one thing, a refused connection, and then only a probe brings the endpoint back.
The *breaker* hears of everything else that goes wrong with real requests, which a health page
can't see, and brings the endpoint back by itself, with one real request. A failure is booked
with one of the two, never with both; an endpoint is chosen only when both agree.

CLOSED opens after ``failures_in_a_row``, or when of at least ``window_requests`` outcomes in
the last ``window`` seconds (half a window to a whole one: two halves take turns) the share of
failures is at least ``failure_share``. OPEN lasts ``open_seconds``, doubled each time a probe
fails, up to ``longest_open_seconds``. HALF_OPEN admits one request, its *probe*: the breaker
closes when its answer begins and opens when it fails; when it ends without a verdict the next
request is the probe. Outcomes of requests that were sent before it opened change nothing.

Pure: times are the caller's, and every method but the constructor is O(1).
"""

from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum


class Circuit(Enum):
    """Whether requests flow."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When a breaker opens, and for how long. Times in seconds, ``failure_share`` in 0..1."""

    failures_in_a_row: int = 3
    failure_share: float = 0.5
    window: float = 10.0
    window_requests: int = 20
    open_seconds: float = 1.0
    longest_open_seconds: float = 30.0


class Breaker:
    """The state machine of this module."""

    __slots__ = (
        "_earlier",
        "_half_began",
        "_later",
        "_probe",
        "_settings",
        "_unproven",
        "circuit",
        "failures",
        "failures_in_a_row",
        "half_open_at",
        "openings",
        "since",
    )

    def __init__(self, settings: BreakerSettings, now: float) -> None:
        self.circuit = Circuit.CLOSED
        self.since = now
        """When it entered its circuit state."""
        self.half_open_at: float | None = None
        """When an open one admits its next probe; None when it is not open."""
        self.failures_in_a_row = 0
        self.failures = 0
        """Failures that counted, ever."""
        self.openings = 0
        """Times it opened, ever."""
        self._settings = settings
        self._unproven = 0  # openings since it last closed
        self._probe: Hashable | None = None
        self._half_began = now
        self._earlier = [0, 0]  # outcomes and failures of the half window before this one
        self._later = [0, 0]

    @property
    def admits(self) -> bool:
        """Whether a request may be sent."""
        if self.circuit is Circuit.CLOSED:
            return True
        return self.circuit is Circuit.HALF_OPEN and self._probe is None

    def sending(self, request: Hashable) -> None:
        """A request is meant for the endpoint: of a half-open one it is the probe."""
        if self.circuit is Circuit.HALF_OPEN and self._probe is None:
            self._probe = request

    def answered(self, request: Hashable, now: float) -> None:
        """The answer to a request began: a probe has proved what it should."""
        if self.circuit is Circuit.HALF_OPEN and request == self._probe:
            self._close(now)

    def succeeded(self, request: Hashable, now: float) -> None:
        """A request ended well."""
        self.answered(request, now)
        if self.circuit is Circuit.CLOSED:
            self.failures_in_a_row = 0
            self._count(now, 0)

    def failed(self, request: Hashable, now: float) -> None:
        """A request failed through the endpoint."""
        if self.circuit is Circuit.HALF_OPEN and request == self._probe:
            self.failures += 1
            self.failures_in_a_row += 1
            self._open(now)
        elif self.circuit is Circuit.CLOSED:
            self.failures += 1
            self.failures_in_a_row += 1
            self._count(now, 1)
            if self._too_many():
                self._open(now)

    def unproven(self, request: Hashable) -> None:
        """A request ended and says nothing about the endpoint."""
        if request == self._probe:
            self._probe = None

    def tick(self, now: float) -> None:
        """Time passed: an open breaker whose time is over becomes half-open."""
        if self.half_open_at is not None and now >= self.half_open_at:
            self._half_open(now)

    def recovered(self, now: float) -> None:
        """The endpoint's health came back: a probe may go at once, a row begins anew."""
        if self.circuit is Circuit.OPEN:
            self._half_open(now)
        elif self.circuit is Circuit.CLOSED:
            self._forget(now)

    # -- within ----------------------------------------------------------------------------

    def _count(self, now: float, failed: int) -> None:
        half = self._settings.window / 2.0
        passed = now - self._half_began
        if passed >= half:
            self._earlier = self._later if passed < 2.0 * half else [0, 0]
            self._later = [0, 0]
            self._half_began = now
        self._later[0] += 1
        self._later[1] += failed

    def _too_many(self) -> bool:
        settings = self._settings
        if self.failures_in_a_row >= settings.failures_in_a_row:
            return True
        outcomes = self._earlier[0] + self._later[0]
        failures = self._earlier[1] + self._later[1]
        enough = outcomes >= settings.window_requests
        return enough and failures >= settings.failure_share * outcomes

    def _open(self, now: float) -> None:
        settings = self._settings
        # The cap of the exponent only keeps the power finite; the longest time is far below.
        seconds = settings.open_seconds * 2.0 ** min(self._unproven, 64)
        self._unproven += 1
        self.openings += 1
        self.half_open_at = now + min(seconds, settings.longest_open_seconds)
        self._probe = None
        self._enter(Circuit.OPEN, now)

    def _half_open(self, now: float) -> None:
        self.half_open_at = None
        self._enter(Circuit.HALF_OPEN, now)

    def _close(self, now: float) -> None:
        self._probe = None
        self._unproven = 0
        self._forget(now)
        self._enter(Circuit.CLOSED, now)

    def _forget(self, now: float) -> None:
        self.failures_in_a_row = 0
        self._half_began = now
        self._earlier, self._later = [0, 0], [0, 0]

    def _enter(self, circuit: Circuit, now: float) -> None:
        self.circuit, self.since = circuit, now
