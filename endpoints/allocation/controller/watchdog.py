"""Whether a placed replica still has what it was promised. Pure; one small machine a replica.

::

    HEALTHY ──a cause shows──► SUSPECT ──it stays for its bound──► condemned: a verdict, once
       ▲                          │
       └──────it goes away────────┘

What a verdict asks for depends on how far the replica has come:

================  ===============  ==================  =====================================
cause             not scheduled    running, not ready  running and ready
================  ===============  ==================  =====================================
PENDING           replan           -                   -
DEVICES_GONE      replan           replan              warn: a driver's upgrade looks like it
DRIVER_DEAD       replan           replan              warn: what runs does not need it
NODE_LOST         replan           replan              replan
TAINTED           replan           drain               drain
================  ===============  ==================  =====================================

*Replan* gives up the replica's place and finds another; *drain* lets its work end first.
A slice outlives its driver (kubernetes/kubernetes issue 141912), so a plan can be right by all
slices and its pods stay Pending all the same: nodes where that happened are avoided for a time.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from endpoints.allocation.controller.members import Standing


class Cause(Enum):
    """What is wrong, the gravest first."""

    NODE_LOST = "NodeLost"
    DEVICES_GONE = "DevicesGone"
    TAINTED = "DevicesTainted"
    DRIVER_DEAD = "DriverDead"
    PENDING = "PendingTooLong"


class Remedy(Enum):
    """What to do about it."""

    REPLAN = "replan"
    DRAIN = "drain"
    WARN = "warn"


class Finding(Struct, frozen=True):
    """A cause that shows now. ``nodes`` are where; ``detail`` says it for people."""

    cause: Cause
    nodes: tuple[str, ...]
    detail: str


class Verdict(Struct, frozen=True):
    """What to do about a replica, since when the cause has shown, and why, in a sentence."""

    replica: str
    remedy: Remedy
    finding: Finding
    since: float

    @property
    def message(self) -> str:
        """For events and conditions."""
        return f"{self.replica}: {self.finding.detail}; {_WORDS[self.remedy]}"


_WORDS: Final = MappingProxyType(
    {
        Remedy.REPLAN: "it is planned elsewhere",
        Remedy.DRAIN: "it is drained and planned elsewhere",
        Remedy.WARN: "it still serves and stays",
    }
)

_REMEDIES: Final[Mapping[Cause, tuple[Remedy | None, Remedy | None, Remedy | None]]] = (
    MappingProxyType(
        {  # not scheduled, running but not ready, ready
            Cause.PENDING: (Remedy.REPLAN, None, None),
            Cause.DEVICES_GONE: (Remedy.REPLAN, Remedy.REPLAN, Remedy.WARN),
            Cause.DRIVER_DEAD: (Remedy.REPLAN, Remedy.REPLAN, Remedy.WARN),
            Cause.NODE_LOST: (Remedy.REPLAN, Remedy.REPLAN, Remedy.REPLAN),
            Cause.TAINTED: (Remedy.REPLAN, Remedy.DRAIN, Remedy.DRAIN),
        }
    )
)
_COLUMN: Final = MappingProxyType(
    {Standing.MISSING: 0, Standing.PENDING: 0, Standing.STARTING: 1, Standing.READY: 2}
)


class Patience(Struct, frozen=True):
    """How long each cause may show before it condemns, and how long a place is avoided; seconds.

    ``devices``: a driver that is upgraded withdraws its slices for a while.
    """

    pending: float = 120.0
    devices: float = 60.0
    driver: float = 60.0
    node: float = 60.0
    tainted: float = 0.0
    avoid: float = 600.0

    def of(self, cause: Cause) -> float:
        """The bound of a cause."""
        return {
            Cause.PENDING: self.pending,
            Cause.DEVICES_GONE: self.devices,
            Cause.DRIVER_DEAD: self.driver,
            Cause.NODE_LOST: self.node,
            Cause.TAINTED: self.tainted,
        }[cause]


class Watchdog:
    """Suspicions of replicas, and the nodes that are avoided."""

    def __init__(self, patience: Patience | None = None) -> None:
        self.patience = patience or Patience()
        self._suspected: dict[str, dict[Cause, float]] = {}
        self._told: set[tuple[str, Cause]] = set()
        self._avoided: dict[str, float] = {}

    def look(
        self, replica: str, standing: Standing, findings: Iterable[Finding], now: float
    ) -> Verdict | None:
        """What to do about a replica that shows these findings; the gravest that condemns it.

        A warning is given once for as long as its cause shows.
        """
        found = {one.cause: one for one in findings}
        before = self._suspected.get(replica, {})
        since = {cause: before.get(cause, now) for cause in found}
        self._suspected[replica] = since
        self._told -= {(replica, cause) for cause in Cause if cause not in found}
        for cause in Cause:
            finding = found.get(cause)
            if finding is None or now - since[cause] < self.patience.of(cause):
                continue
            remedy = _REMEDIES[cause][_COLUMN[standing]]
            if remedy is None or (remedy is Remedy.WARN and (replica, cause) in self._told):
                continue
            self._told.add((replica, cause))
            verdict = Verdict(replica, remedy, finding, since[cause])
            if remedy is Remedy.REPLAN:
                self._give_up(verdict, now)
            return verdict
        return None

    def forget(self, replica: str) -> None:
        """The replica is gone."""
        self._suspected.pop(replica, None)
        self._told = {told for told in self._told if told[0] != replica}

    def avoided(self, now: float) -> frozenset[str]:
        """Nodes on which nothing is planned now, as pods stayed Pending or a driver died there."""
        self._avoided = {node: until for node, until in self._avoided.items() if until > now}
        return frozenset(self._avoided)

    def next_look(self, now: float) -> float | None:
        """Seconds until a suspicion may condemn or an avoided node be tried again; None: never."""
        times = [
            since + self.patience.of(cause)
            for suspected in self._suspected.values()
            for cause, since in suspected.items()
        ]
        times += self._avoided.values()
        later = [at - now for at in times if at > now]
        return min(later, default=None)

    def _give_up(self, verdict: Verdict, now: float) -> None:
        if verdict.finding.cause in {Cause.PENDING, Cause.DRIVER_DEAD}:
            for node in verdict.finding.nodes:
                self._avoided[node] = now + self.patience.avoid
        self.forget(verdict.replica)
