"""Starts that the loops of several pools share: each asks when it decides, and is granted some."""

from dataclasses import replace

from endpoints.scaling.decision import Wanted
from endpoints.scaling.receipt import Bound
from endpoints.scaling.signals import Observation
from endpoints.scaling.together import Asking, grant


class Starts:
    """At most ``most`` endpoints start at once, of all pools together (`together.grant`)."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._asking: dict[str, Asking] = {}
        self._starting: dict[str, int] = {}

    def share(self, wanted: Wanted, observation: Observation, waiting_seconds: float) -> Wanted:
        """The decision, with as many starts as the pool may have now; the rest waits its turn."""
        pool, roles = wanted.pool, observation.roles
        present = {role: roles[role].replicas.present for role in wanted.replicas}
        self._asking[pool] = Asking(pool, present, wanted.replicas, waiting_seconds)
        self._starting[pool] = sum(one.replicas.coming for one in roles.values())
        if wanted.held is not None:
            return wanted
        granted = grant(list(self._asking.values()), sum(self._starting.values()), self._most)[pool]
        bounds = [
            Bound(
                role,
                "most_starting",
                count,
                granted[role],
                f"at most {self._most} endpoints of all pools start at once",
            )
            for role, count in wanted.replicas.items()
            if granted[role] != count
        ]
        if not bounds:
            return wanted
        receipt = replace(wanted.receipt, bounds=(*wanted.receipt.bounds, *bounds))
        return replace(wanted, replicas=granted, receipt=receipt)

    def left(self, pool: str) -> None:
        """A pool is not scaled any more."""
        self._asking.pop(pool, None)
        self._starting.pop(pool, None)
