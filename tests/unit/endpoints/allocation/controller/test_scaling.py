"""What a scaler may ask for, and what it comes to in whole replicas."""

from endpoints.allocation.controller.scaling import ceilings, whole_replicas
from endpoints.allocation.emission.identity import Object
from endpoints.scaling.ceiling import Ceiling
from endpoints.scaling.role import Role


def capacity(**roles: int) -> Object:
    return {
        "spec": {"roles": [{"name": name, "pods": pods} for name, pods in roles.items()]},
        "status": {"feasible": 3, "afterPreemption": 5, "limit": "leaf-2 has 3 of 4 GPUs"},
    }


def test_ceilings_count_endpoints_of_each_role() -> None:
    assert ceilings(capacity(prefill=1, decode=2)) == {
        Role.PREFILL: Ceiling(3, 5, "leaf-2 has 3 of 4 GPUs"),
        Role.DECODE: Ceiling(6, 10, "leaf-2 has 3 of 4 GPUs"),
    }
    assert ceilings(capacity(server=4)) == {Role.BOTH: Ceiling(3, 5, "leaf-2 has 3 of 4 GPUs")}


def test_what_is_not_known_is_no_ceiling() -> None:
    assert ceilings({**capacity(server=1), "status": {}}) is None


def test_replicas_are_whole() -> None:
    one = capacity(prefill=1, decode=2)
    assert whole_replicas({Role.PREFILL: 2, Role.DECODE: 3}, one) == 2
    assert whole_replicas({Role.PREFILL: 2, Role.DECODE: 5}, one) == 3
    assert whole_replicas({Role.BOTH: 4}, capacity(server=2)) == 4
    assert whole_replicas({}, one) == 0
