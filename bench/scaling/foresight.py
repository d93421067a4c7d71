"""A scaler that knows all arrivals: no rival, but the mark of what there is to save at all."""

from bisect import bisect_left, bisect_right
from math import ceil

from bench.replay.workload import Workload
from endpoints.scaling.memory import RoleMemory
from endpoints.scaling.policies.policy import Opinion, RuleOfEach
from endpoints.scaling.role import Role
from endpoints.scaling.settings import ScalingSettings
from endpoints.scaling.signals import RoleObservation

WINDOW = 60.0
"""Seconds around a moment over which its rate is counted."""
_STEP = 15.0


class Foresight(RuleOfEach):
    """As many endpoints as will be needed, started in time, none kept longer.

        needed(t) = ceil(arrivals within t +- window / 2 / window / pace)
        wanted(t) = the most that are needed between t and t + the mean time of a start

    It knows each arrival, but neither the lengths of answers nor how long a start takes. ``pace``:
    requests/s that one endpoint is trusted with; less attains more for more.
    """

    name = "foresight"

    def __init__(self, workload: Workload, pace: float) -> None:
        self._times = [arrival.at for arrival in workload.arrivals]
        self._pace = pace

    def role(
        self,
        seen: RoleObservation,
        role: Role,
        current: int,
        settings: ScalingSettings,
        memory: RoleMemory,
        now: float,
    ) -> Opinion:
        """What will be needed by the time a start takes."""
        looks = range(ceil(settings.startup / _STEP) + 1)
        needed = max(self.needed(now + _STEP * look) for look in looks)
        return max(needed, 1), f"{needed} will be needed", memory

    def needed(self, at: float) -> int:
        """Endpoints for the arrivals around a moment."""
        first = bisect_left(self._times, at - WINDOW / 2.0)
        last = bisect_right(self._times, at + WINDOW / 2.0)
        return ceil((last - first) / WINDOW / self._pace)
