"""What a capacity's status bounds its scaler by."""

from endpoints.allocation.controller.limits import Aims, aims_of, ceiling_of
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


def test_its_objective_is_what_its_scaler_goes_by() -> None:
    slo = {"ttftSeconds": 1, "itlSeconds": 0.03, "attainment": 0.95}
    assert aims_of({"spec": {"slo": slo}}) == Aims(1.0, 0.03, 0.95)
    assert aims_of({"spec": {"slo": {"attainment": 1}}}) == Aims(attainment=0.999)
    assert aims_of({"spec": {}}) == aims_of({"spec": {"slo": {"ttftSeconds": 0}}}) == Aims()
