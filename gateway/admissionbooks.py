"""What is counted of requests that wait for a busy pool."""

from typing import Final, NamedTuple

from gateway.held import End
from gateway.pickerbooks import bounded
from gateway.telemetry import Histogram

_SECONDS: Final = (
    *(0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25),
    *(0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0),
)


class WaitLabels(NamedTuple):
    """Whose requests they were, and how their waiting ended."""

    tenant: str
    priority: int
    outcome: End


class AdmissionBooks:
    """The books of one pool. Requests that found room at once are only in `at_once`."""

    def __init__(self) -> None:
        self.at_once = 0
        """Requests that did not have to wait."""
        self.waits: dict[WaitLabels, Histogram] = {}
        self._tenants: set[str] = set()

    def ended(self, tenant: str, priority: int, outcome: End, seconds: float) -> None:
        """A request's waiting ended; one that was refused waited 0 seconds."""
        labels = WaitLabels(bounded(tenant, self._tenants), priority, outcome)
        wait = self.waits.get(labels)
        if wait is None:
            wait = self.waits[labels] = Histogram(_SECONDS)
        wait.observe(seconds)

    def tenant(self, name: str) -> str:
        """The name as metrics have it."""
        return bounded(name, self._tenants)
