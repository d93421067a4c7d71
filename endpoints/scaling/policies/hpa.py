"""Kubernetes' HorizontalPodAutoscaler, autoscaling/v2, on one metric.

    desired = ceil(current x metric / target)           unless |metric / target - 1| <= tolerance

| parameter | default | meaning |
|---|---|---|
| metric | busy | ``busy``, ``waiting``, ``running``, ``in_flight`` or ``kv_usage`` |
| target | 0.8 | of each endpoint; a share for ``busy`` and ``kv_usage``, requests for the others |
| tolerance | 0.1 | the controller's ``--horizontal-pod-autoscaler-tolerance`` |
| down_window | 300 s | ``behavior.scaleDown.stabilizationWindowSeconds`` |
| up_window | 0 s | ``behavior.scaleUp.stabilizationWindowSeconds`` |

``busy`` and ``kv_usage`` are Resource or Pods metrics: endpoints that aren't ready count as using
nothing when that means more, and as on target when it means fewer. The others are External
metrics with an AverageValue: ``desired = ceil(sum / target)``, whoever is ready. Going down takes
the largest recommendation of the window, going up the smallest; up by at most the larger of 100 %
and 4 in 15 s, down by at most 100 % in 15 s. A metric that is missing changes nothing. Source:
Kubernetes documentation, Horizontal Pod Autoscaling; k8s.io/api autoscaling/v2.
"""

from dataclasses import replace
from math import ceil
from typing import Final

from endpoints.scaling.memory import RoleMemory
from endpoints.scaling.pacing import furthest, stabilised
from endpoints.scaling.policies.policy import Opinion, RuleOfEach
from endpoints.scaling.role import Role
from endpoints.scaling.settings import Pace, ScalingSettings
from endpoints.scaling.signals import RoleObservation

PER_POD: Final = frozenset({"busy", "kv_usage"})
METRICS: Final = (*sorted(PER_POD), "in_flight", "running", "waiting")
_UP: Final = Pace(percent=100, replicas=4, period=15.0, window=0.0, reversal=0.0)
_DOWN: Final = Pace(percent=100, replicas=0, period=15.0, window=300.0, reversal=0.0)


class Hpa(RuleOfEach):
    """One metric, one target."""

    name = "hpa"

    def __init__(
        self,
        metric: str = "busy",
        target: float = 0.8,
        tolerance: float = 0.1,
        down_window: float = 300.0,
        up_window: float = 0.0,
    ) -> None:
        if metric not in METRICS:
            raise ValueError(f"metric is {metric!r}: choose {', '.join(METRICS)}")
        if not target > 0.0:
            raise ValueError(f"target is {target}; it must be above 0")
        self._metric = metric
        self._target = target
        self._tolerance = tolerance
        self._down_window = down_window
        self._up_window = up_window

    def role(
        self,
        seen: RoleObservation,
        role: Role,
        current: int,
        settings: ScalingSettings,
        memory: RoleMemory,
        now: float,
    ) -> Opinion:
        """The formula, the windows, the rates."""
        value = getattr(seen, self._metric).value
        if value is None or current == 0:
            return None, f"{self._metric} is missing", memory
        if self._metric in PER_POD:
            desired = self._per_pod(value, seen.replicas.ready, current)
        else:
            ratio = value / (self._target * current)
            within = abs(ratio - 1.0) <= self._tolerance
            desired = current if within else ceil(value / self._target)
        opinions = memory.opinions or ((now, current),)
        opinions = (*opinions, (now, desired))
        steady = stabilised(current, opinions, self._up_window, self._down_window, now)
        if steady > current:
            steady = min(steady, furthest(current, memory.changes, _UP, now, True))
        elif steady < current:
            steady = max(steady, furthest(current, memory.changes, _DOWN, now, False))
        reason = f"{self._metric} {value:.3g}, target {self._target:.3g} each: {desired}"
        return steady, reason, replace(memory, opinions=opinions)

    def _per_pod(self, mean: float, ready: int, current: int) -> int:
        ratio = mean / self._target
        unready = max(current - ready, 0)
        if not unready:
            return current if abs(ratio - 1.0) <= self._tolerance else ceil(ratio * ready)
        filled = 0.0 if ratio > 1.0 else self._target
        anew = (mean * ready + filled * unready) / (self._target * current)
        if abs(anew - 1.0) <= self._tolerance or (anew > 1.0) is not (ratio > 1.0):
            return current
        return ceil(anew * current)
