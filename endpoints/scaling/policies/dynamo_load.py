"""NVIDIA Dynamo's planner, its load-based rule for aggregated and for split pools.

With ``target`` "sla" each endpoint's times are estimated from its own queue and batch: one more
when *all* exceed the objective in TTFT or ITL, one fewer when each would still be within
``sensitivity`` of it after taking its share of one endpoint's load, x n / (n - 1), the request's
own prefill set aside (of TTFT, ``(objective - own) x sensitivity`` is left for the queue), and KV
cache would hold it. With "throughput" and "latency" there are fixed thresholds: for prefill the
queued tokens over the context length, else the share of KV cache held by running and queued
requests:

| target | prefill up | prefill down | else up | else down |
|---|---|---|---|---|
| throughput | >= 1.0 (any) | < 0.1 (all) | > 1.0 (any) | < 0.6 (all) |
| latency | >= 0.1 (any) | 0 (all) | > 0.4 (any) | < 0.1 (all) |

One step a decision, and none while a change is in progress.

| parameter | default | meaning |
|---|---|---|
| target | sla | ``optimization_target`` |
| sensitivity | 0.8 | ``load_scaling_down_sensitivity`` over 100 |
| context_length | 32,768 | of the model, for "throughput" and "latency" |

Upstream learns its times by regression on each engine's reports; here they are the brain's.
Source: ai-dynamo/dynamo, components/src/dynamo/planner/core/load_scaling.py.
"""

from dataclasses import dataclass
from typing import Final

from endpoints.scaling.memory import RoleMemory
from endpoints.scaling.policies.policy import Opinion, RuleOfEach
from endpoints.scaling.role import Role
from endpoints.scaling.settings import ScalingSettings
from endpoints.scaling.signals import EndpointSample, RoleObservation

TARGETS: Final = ("sla", "throughput", "latency")


@dataclass(frozen=True, slots=True)
class _Limits:
    prefill_up: float
    prefill_down: float
    up: float
    down: float


_FIXED: Final = {
    "throughput": _Limits(1.0, 0.1, 1.0, 0.6),
    "latency": _Limits(0.1, 0.0, 0.4, 0.1),
}


class DynamoLoad(RuleOfEach):
    """Each endpoint's load, against the objective or fixed thresholds."""

    name = "dynamo_load"

    def __init__(
        self, target: str = "sla", sensitivity: float = 0.8, context_length: float = 32_768.0
    ) -> None:
        if target not in TARGETS:
            raise ValueError(f"target is {target!r}: choose {', '.join(TARGETS)}")
        self._target = target
        self._sensitivity = sensitivity
        self._context_length = context_length

    def role(
        self,
        seen: RoleObservation,
        role: Role,
        current: int,
        settings: ScalingSettings,
        memory: RoleMemory,
        now: float,
    ) -> Opinion:
        """One more, one fewer, or neither."""
        count = len(seen.endpoints)
        if not count:
            return None, "no endpoint tells its load", memory
        if seen.replicas.coming or current != count:
            return current, "a change is in progress", memory
        if self._target == "sla":
            up, down = self._by_objective(seen, role, settings, count)
        else:
            up, down = self._by_thresholds(seen, role)
        if up is None or down is None:
            return None, "too little is learned or reported", memory
        if up:
            return count + 1, "above its limit", memory
        if down and count > 1:
            return count - 1, "one fewer would do", memory
        return current, "within its limits", memory

    # -- by the objective ------------------------------------------------------------------

    def _by_objective(
        self, seen: RoleObservation, role: Role, settings: ScalingSettings, count: int
    ) -> tuple[bool | None, bool | None]:
        rate, own = seen.prefill_rate.last, seen.own_tokens.last
        base, slope = seen.itl_base.last, seen.itl_slope.last
        if rate is None or own is None or base is None or slope is None:
            return None, None
        goal, more = settings.objective, count / max(count - 1, 1)
        up, down = False, count > 1
        if role is not Role.DECODE:
            alone = (seen.ttft_fixed.last or 0.0) + own / rate
            waits = [one.queued_tokens / rate for one in seen.endpoints]
            left = (goal.ttft - alone) * self._sensitivity
            up = up or all(alone + wait > goal.ttft for wait in waits)
            down = down and left > 0.0 and all(wait * more < left for wait in waits)
        if role is not Role.PREFILL:
            per_token = seen.itl_context.last or 0.0

            def itl(one: EndpointSample, share: float) -> float:
                read = one.context_tokens * per_token
                return base + share * (slope * one.decoding + read)

            size = seen.kv_tokens.last
            up = up or all(itl(one, 1.0) > goal.itl for one in seen.endpoints)
            for one in seen.endpoints:
                held = (one.context_tokens + one.queued_tokens) * more
                fits = size is None or held < size
                down = down and fits and itl(one, more) < goal.itl * self._sensitivity
        return up, down

    # -- by fixed thresholds ---------------------------------------------------------------

    def _by_thresholds(self, seen: RoleObservation, role: Role) -> tuple[bool | None, bool | None]:
        limits = _FIXED[self._target]
        if role is Role.PREFILL:
            queues = [one.queued_tokens / self._context_length for one in seen.endpoints]
            empty = max(queues) <= 0.0 if limits.prefill_down == 0.0 else False
            few = max(queues) < limits.prefill_down
            return max(queues) >= limits.prefill_up, empty or few
        size = seen.kv_tokens.last
        usages = []
        for one in seen.endpoints:
            if size is None:
                return None, None
            held = one.context_tokens
            if one.kv_usage is not None:
                held = max(one.kv_usage * size, 0.0)
            usages.append((held + one.queued_tokens) / size)
        return max(usages) > limits.up, max(usages) < limits.down
