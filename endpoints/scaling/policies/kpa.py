"""Knative's pod autoscaler (KPA), on requests in flight.

    stable = ceil(mean over the stable window / target)
    panic  = ceil(mean over the panic window / target)

When ``panic`` reaches ``panic_threshold`` times the ready endpoints it panics: it takes the larger
of both and never goes down, until a whole stable window has passed without that. Each decision is
at most ``max_up_rate`` times the ready ones, and at least a ``max_down_rate``-th of them.

| parameter | default | meaning |
|---|---|---|
| target | 16 | requests in flight that an endpoint takes; a container's limit times 70 % |
| stable_window | 60 s | |
| panic_window | 6 s | 10 % of the stable window |
| panic_threshold | 2.0 | |
| max_up_rate, max_down_rate | 1000, 2 | |
| down_delay | 0 s | ``scale-down-delay``: the largest decision of so long |

Source: Knative Serving documentation, autoscaling; the defaults of config-autoscaler. AIBrix's KPA
is this with windows of 180 and 60 s, both rates 2 and a delay of 300 s.
"""

from dataclasses import replace
from math import ceil, floor

from endpoints.scaling.memory import RoleMemory
from endpoints.scaling.policies.policy import Opinion, RuleOfEach, mean_since, remembered
from endpoints.scaling.role import Role
from endpoints.scaling.settings import ScalingSettings
from endpoints.scaling.signals import RoleObservation


class Kpa(RuleOfEach):
    """Two windows over the requests in flight."""

    name = "kpa"

    def __init__(
        self,
        target: float = 16.0,
        stable_window: float = 60.0,
        panic_window: float = 6.0,
        panic_threshold: float = 2.0,
        max_up_rate: float = 1000.0,
        max_down_rate: float = 2.0,
        down_delay: float = 0.0,
    ) -> None:
        if not target > 0.0:
            raise ValueError(f"target is {target}; it must be above 0")
        if not 0.0 < panic_window <= stable_window:
            raise ValueError(f"panic_window is {panic_window}; the stable one is {stable_window}")
        self._target = target
        self._stable_window = stable_window
        self._panic_window = panic_window
        self._panic_threshold = panic_threshold
        self._max_up_rate = max_up_rate
        self._max_down_rate = max_down_rate
        self._down_delay = down_delay

    def role(
        self,
        seen: RoleObservation,
        role: Role,
        current: int,
        settings: ScalingSettings,
        memory: RoleMemory,
        now: float,
    ) -> Opinion:
        """Both windows, panic, the rates."""
        value = seen.in_flight.value
        if value is None:
            return None, "requests in flight are missing", memory
        ready = max(seen.replicas.ready, 1)
        values = remembered(memory.values, now, value, self._stable_window)
        stable = mean_since(values, now - self._stable_window) or 0.0
        panic = mean_since(values, now - self._panic_window) or 0.0
        most, least = max(ceil(self._max_up_rate * ready), 1), floor(ready / self._max_down_rate)
        stable_count = min(max(ceil(stable / self._target), least), most)
        panic_count = min(max(ceil(panic / self._target), least), most)
        until, peak = memory.panic_until, memory.panic_peak
        if panic_count / ready >= self._panic_threshold:
            until = now + self._stable_window
        elif until is not None and now >= until:
            until, peak = None, 0
        count, why = stable_count, f"{stable:.3g} in flight, {self._target:.3g} each"
        if until is not None:
            peak = max(peak, stable_count, panic_count, ready)
            count, why = peak, f"panic: {panic:.3g} in flight"
        opinions = (*memory.opinions, (now, count))
        if self._down_delay:
            count = max(one for at, one in opinions if at >= now - self._down_delay)
        memory = replace(
            memory, values=values, opinions=opinions, panic_until=until, panic_peak=peak
        )
        return count, why, memory
