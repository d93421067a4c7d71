"""What signals call for, where their quotients are beyond all numbers."""

from dataclasses import replace

from endpoints.scaling.reactive import saturation
from endpoints.scaling.role import Role
from endpoints.scaling.settings import Bounds, ScalingSettings
from endpoints.scaling.signals import Replicas, RoleObservation, measured

POOL = ScalingSettings(roles={Role.BOTH: Bounds(1, 50)})


def test_a_queue_at_no_speed_keeps_everybody() -> None:
    seen = replace(
        RoleObservation(replicas=Replicas(ready=3, target=3)),
        kv_usage=measured(0.1, 0.0, 0.0, 60.0),
        queued_tokens=measured(1e6, 0.0, 0.0, 60.0),
        prefill_rate=measured(5e-324, 0.0, 0.0, 60.0),
    )
    found = saturation(seen, Role.BOTH, POOL, settled=True)
    assert found is not None
    assert found.keep == 3
    assert found.up == 6  # at most twice the ready ones
