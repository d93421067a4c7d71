"""llm-d's workload-variant autoscaler, its saturation rule (V1, one variant).

An endpoint is saturated when its KV usage or its queue reaches a threshold; of the others,

    spare KV = kv_threshold - KV usage,    spare queue = queue_threshold - waiting requests

    one more:   mean spare KV < kv_spare  or  mean spare queue < queue_spare
    one fewer:  both would still be spared if the others' whole load fell on one endpoint fewer

One step a decision. While endpoints are coming nothing is added, and a target that is not
reached yet is kept. All endpoints saturated means no spare at all, so one more.

| parameter | default | meaning |
|---|---|---|
| kv_threshold | 0.80 | ``kvCacheThreshold`` |
| queue_threshold | 5 | ``queueLengthThreshold`` |
| kv_spare | 0.1 | ``kvSpareTrigger`` |
| queue_spare | 3 | ``queueSpareTrigger`` |

KV usage and waiting requests are maxima over the last minute. Source: llm-d
workload-variant-autoscaler, documentation of the saturation analyzer and of its configuration;
strict users are told 0.7 and 3, aggressive ones 0.9 and 15.
"""

from endpoints.scaling.memory import RoleMemory
from endpoints.scaling.policies.policy import Opinion, RuleOfEach
from endpoints.scaling.role import Role
from endpoints.scaling.settings import ScalingSettings
from endpoints.scaling.signals import RoleObservation


class WvaSaturation(RuleOfEach):
    """Spare capacity of the endpoints that aren't saturated."""

    name = "wva_saturation"

    def __init__(
        self,
        kv_threshold: float = 0.80,
        queue_threshold: float = 5.0,
        kv_spare: float = 0.1,
        queue_spare: float = 3.0,
    ) -> None:
        if not 0.0 < kv_spare < kv_threshold <= 1.0:
            raise ValueError(f"kv_spare {kv_spare} must be below kv_threshold {kv_threshold}")
        if not 0.0 < queue_spare <= queue_threshold:
            raise ValueError(f"queue_spare {queue_spare} must be within {queue_threshold}")
        self._kv_threshold = kv_threshold
        self._queue_threshold = queue_threshold
        self._kv_spare = kv_spare
        self._queue_spare = queue_spare

    def role(
        self,
        seen: RoleObservation,
        role: Role,
        current: int,
        settings: ScalingSettings,
        memory: RoleMemory,
        now: float,
    ) -> Opinion:
        """The spare capacity, and what would be left of it."""
        loads = [
            (one.kv_peak, one.waiting_peak)
            for one in seen.endpoints
            if one.kv_peak is not None and one.waiting_peak is not None
        ]
        if not loads:
            return None, "no endpoint tells KV usage and queue", memory
        ready = len(loads)
        if seen.replicas.coming or current != seen.replicas.ready:
            return current, "the last target is not reached yet", memory
        free = [
            (kv, queue)
            for kv, queue in loads
            if kv < self._kv_threshold and queue < self._queue_threshold
        ]
        if not free:
            return ready + 1, "every endpoint is saturated", memory
        kv_load, queue_load = sum(kv for kv, _ in free), sum(queue for _, queue in free)
        spare_kv = self._kv_threshold - kv_load / len(free)
        spare_queue = self._queue_threshold - queue_load / len(free)
        words = f"spare KV {spare_kv:.2f}, spare queue {spare_queue:.1f}"
        if spare_kv < self._kv_spare or spare_queue < self._queue_spare:
            return ready + 1, words, memory
        if len(free) >= 2:
            left = len(free) - 1
            kept_kv = self._kv_threshold - kv_load / left
            kept_queue = self._queue_threshold - queue_load / left
            if kept_kv >= self._kv_spare and kept_queue >= self._queue_spare:
                return ready - 1, f"{words}; one fewer would do", memory
        return current, words, memory
