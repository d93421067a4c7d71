"""Whether an endpoint is well, as a state machine over the outcomes of its checks.

::

               WELL x healthy_after                 UNWELL/SILENT x unhealthy_after, REFUSED,
    UNKNOWN ------------------------> HEALTHY ----------------.   or doubted by the data plane
       |                                 ^                    v
       |                                 '---------------- UNHEALTHY
       |                                  WELL x healthy_after  ^
       '--------------------------------------------------------'
          UNWELL/SILENT x unhealthy_after, or REFUSED

A refused connection means that nobody listens: one is enough. Pure: no clock, no sockets.
"""

from dataclasses import dataclass
from enum import Enum

from endpoints.probes.pacing import backoff
from endpoints.probes.settings import ProbeSettings


class Outcome(Enum):
    """What one check saw."""

    WELL = "well"
    UNWELL = "unwell"  # something answered: an error status, nonsense, a broken connection
    REFUSED = "refused"  # nobody listens there
    SILENT = "silent"  # no answer in time, or no way to get there


class Phase(Enum):
    """What the checks so far amount to."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class HealthState:
    """The phase, and how many checks in a row went which way (one of the two is 0)."""

    phase: Phase = Phase.UNKNOWN
    successes: int = 0
    failures: int = 0

    def after(self, outcome: Outcome, settings: ProbeSettings) -> "HealthState":
        """The state once ``outcome`` was seen."""
        if outcome is Outcome.WELL:
            successes = self.successes + 1
            well = self.phase is Phase.HEALTHY or successes >= settings.healthy_after
            return HealthState(Phase.HEALTHY if well else self.phase, successes=successes)
        failures = self.failures + 1
        lost = outcome is Outcome.REFUSED or failures >= settings.unhealthy_after
        return HealthState(Phase.UNHEALTHY if lost else self.phase, failures=failures)

    def doubted(self) -> "HealthState":
        """The state once the data plane found the endpoint failing: it must prove itself."""
        return HealthState(Phase.UNHEALTHY, failures=1)

    def wait(self, outcome: Outcome, settings: ProbeSettings) -> float:
        """Seconds until the next check, ``outcome`` being the latest."""
        if outcome is Outcome.WELL:
            settled = self.phase is Phase.HEALTHY
            return settings.interval if settled else min(settings.recheck_first, settings.interval)
        silent = outcome is Outcome.SILENT
        ceiling = settings.recheck_silent if silent else settings.recheck_answering
        return backoff(settings.recheck_first, self.failures, ceiling)
