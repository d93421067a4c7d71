"""What a capacity's status bounds its scaler by."""

from endpoints.allocation.controller.limits import ceiling_of
from endpoints.scaling.ceiling import Ceiling


def test_what_is_feasible_is_the_ceiling_with_its_reason() -> None:
    said = {"feasible": 3, "afterPreemption": 5, "limit": "leaf-2 has 3 of 4 GPUs"}
    assert ceiling_of({"status": said}) == Ceiling(3, 5, "leaf-2 has 3 of 4 GPUs")
    unsaid = {"feasible": 0, "afterPreemption": 0}
    assert ceiling_of({"status": unsaid}) == Ceiling(0, 0, "all devices that fit are in use")


def test_what_is_not_known_is_no_ceiling() -> None:
    assert ceiling_of({}) is None
    assert ceiling_of({"status": {}}) is None
    assert ceiling_of({"status": {"feasible": 3}}) is None
