"""Who of several processes acts: the Lease protocol as a state machine without I/O.

::

    FOLLOWING ──nobody holds it, or its holder has been silent for its duration──► (take) ─┐
        ▲                                                                                   │
        └── not renewed within `renew_seconds`, or somebody else holds it ── LEADING ◄──────┘

Two clocks never have to agree. A holder counts as silent when *we* have not seen its record
change for as long as it says, by our own monotonic clock; and a leader stops when its last
renewal, counted from *before* it was sent, is older than `renew_seconds`, which is shorter. So
there are never two, however the API server, the network or the wall clock behave.

Why not `kubernetes.aio.leaderelection`: it tells the time by the wall clock, its renewals have no
deadline while a request hangs (so it leads on), it ends for good when the lease is lost or the
connection breaks, and it neither counts transitions nor releases the lease.

Source: client-go's leaderelection; coordination.k8s.io/v1 Lease.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Any


@dataclass(frozen=True, slots=True)
class ElectionSettings:
    """Seconds. A silent leader is replaced after ``lease_seconds``; it has stopped before that."""

    lease_seconds: int = 15
    renew_seconds: float = 10.0
    retry_seconds: float = 2.0

    def __post_init__(self) -> None:
        if not self.lease_seconds > self.renew_seconds > 1.2 * self.retry_seconds > 0.0:
            raise ValueError(
                f"a lease of {self.lease_seconds} s must be longer than its renewal may take "
                f"({self.renew_seconds:g} s), and that than 1.2 tries ({self.retry_seconds:g} s)"
            )


class Election:
    """One candidate's view of one lease."""

    def __init__(self, identity: str, settings: ElectionSettings | None = None) -> None:
        self.identity = identity
        self.settings = settings or ElectionSettings()
        self.holder = ""
        """Who held the lease when it was last seen; empty: nobody."""
        self.transitions = 0
        """How often its holder changed, as last seen: a reign's number."""
        self._record: Mapping[str, Any] | None = None
        self._unchanged_since = -inf
        self._silent_after: float = self.settings.lease_seconds
        self._leads_until = -inf

    def leads(self, now: float) -> bool:
        """Whether we may act now."""
        return now < self._leads_until

    def saw(self, spec: Mapping[str, Any], now: float) -> None:
        """The lease as it is."""
        record = dict(spec)
        if record != self._record:
            self._record, self._unchanged_since = record, now
        self.holder = spec.get("holderIdentity") or ""
        self.transitions = int(spec.get("leaseTransitions") or 0)
        said = spec.get("leaseDurationSeconds")
        self._silent_after = float(said or self.settings.lease_seconds)
        if self.holder != self.identity:
            self._leads_until = -inf

    def absent(self) -> None:
        """There is no lease."""
        self._record, self.holder, self._leads_until = None, "", -inf

    def may_write(self, now: float) -> bool:
        """Whether to write the lease now: to renew it, or because nobody holds it any more."""
        if self.holder in {"", self.identity}:
            return True
        return now - self._unchanged_since >= self._silent_after

    def spec(self, wall: float) -> dict[str, Any]:
        """What to write; ``wall``: Unix time, for people and for clients that go by it."""
        stamp = _micro_time(wall)
        mine = self._record is not None and self.holder == self.identity
        before = self._record or {}
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.settings.lease_seconds,
            "acquireTime": before.get("acquireTime", stamp) if mine else stamp,
            "renewTime": stamp,
            "leaseTransitions": self.transitions + (self._record is not None and not mine),
        }

    def wrote(self, spec: Mapping[str, Any], sent_at: float, now: float) -> None:
        """The write that was sent then is in force."""
        self.saw(spec, now)
        if self.holder == self.identity:
            self._leads_until = sent_at + self.settings.renew_seconds

    def released(self, wall: float) -> dict[str, Any]:
        """What to write when we go: the next one need not wait."""
        self._leads_until = -inf
        stamp = _micro_time(wall)
        return {
            "holderIdentity": "",
            "leaseDurationSeconds": 1,
            "acquireTime": stamp,
            "renewTime": stamp,
            "leaseTransitions": self.transitions,
        }


def _micro_time(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
