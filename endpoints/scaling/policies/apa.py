"""AIBrix's APA: a threshold with fluctuation tolerance on one metric of each endpoint.

    r = use / target
    r > 1 + up_tolerance:    min(ceil(n r), ceil(max_up_rate n))
    r < 1 - down_tolerance:  max(ceil(n r), floor(n / max_down_rate))
    else:                    n

| parameter | default | meaning |
|---|---|---|
| target | 0.5 | KV cache usage of an endpoint, 0 to 1 |
| up_tolerance, down_tolerance | 0.1 | |
| max_up_rate, max_down_rate | 2 | |
| down_cooldown | 300 s | the largest decision of so long, as an HPA's window has it |

Upstream's cooldown selects the opposite extremum; that is not copied, nor is its reading of a
failed scrape as 0: missing is missing. Source: vllm-project/aibrix, podautoscaler, and its
documentation.
"""

from dataclasses import replace
from math import ceil, floor

from endpoints.scaling.memory import RoleMemory
from endpoints.scaling.pacing import stabilised
from endpoints.scaling.policies.policy import Opinion, RuleOfEach
from endpoints.scaling.role import Role
from endpoints.scaling.settings import ScalingSettings
from endpoints.scaling.signals import RoleObservation


class Apa(RuleOfEach):
    """KV usage against a target."""

    name = "apa"

    def __init__(
        self,
        target: float = 0.5,
        up_tolerance: float = 0.1,
        down_tolerance: float = 0.1,
        max_up_rate: float = 2.0,
        max_down_rate: float = 2.0,
        down_cooldown: float = 300.0,
    ) -> None:
        if not target > 0.0:
            raise ValueError(f"target is {target}; it must be above 0")
        self._target = target
        self._up_tolerance = up_tolerance
        self._down_tolerance = down_tolerance
        self._max_up_rate = max_up_rate
        self._max_down_rate = max_down_rate
        self._down_cooldown = down_cooldown

    def role(
        self,
        seen: RoleObservation,
        role: Role,
        current: int,
        settings: ScalingSettings,
        memory: RoleMemory,
        now: float,
    ) -> Opinion:
        """The ratio, the rates, the cooldown."""
        use, ready = seen.kv_usage.value, seen.replicas.ready
        if use is None or not ready:
            return None, "KV usage is missing", memory
        ratio = use / self._target
        count = current
        if ratio > 1.0 + self._up_tolerance:
            count = max(min(ceil(ready * ratio), ceil(self._max_up_rate * ready)), current)
        elif ratio < 1.0 - self._down_tolerance:
            count = max(ceil(ready * ratio), floor(ready / self._max_down_rate))
        opinions = (*(memory.opinions or ((now, current),)), (now, count))
        steady = stabilised(current, opinions, 0.0, self._down_cooldown, now)
        reason = f"KV usage {use:.3g}, target {self._target:.3g}: {count}"
        return steady, reason, replace(memory, opinions=opinions)
