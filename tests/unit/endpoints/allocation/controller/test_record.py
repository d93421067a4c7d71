"""Plans outlive a restart, and the status says what is the case."""

import msgspec
import pytest
import yaml
from msgspec.structs import replace

from endpoints.allocation.controller.conditions import condition_list, invalid, status_of
from endpoints.allocation.controller.course import Outcome
from endpoints.allocation.controller.record import (
    Phase,
    Record,
    RecordError,
    read_plan,
    read_record,
    written_plan,
    written_record,
)
from endpoints.allocation.emission.changes import changes, written
from endpoints.allocation.emission.identity import Replica
from endpoints.allocation.emission.served import GangApi
from endpoints.allocation.plan import Feasible
from tests.support.capacities import member
from tests.support.plans import plan, replica, setting
from tests.support.structural import complaints, schema_of
from tests.unit.endpoints.allocation.test_capacity_schema import _DEFINITION


def test_a_plan_is_read_back_as_it_was() -> None:
    made = plan()
    pods = list(made.pods)
    taken = ((("gpu.nvidia.com/memory", 5),), (("gpu.nvidia.com/memory", 6),))
    pods[0] = replace(pods[0], grants=(replace(pods[0].grants[0], consumed=taken),))
    made = replace(made, pods=tuple(pods))
    stored = msgspec.json.decode(msgspec.json.encode(written_plan(made)))
    assert read_plan(stored, made.gang) == replace(made, candidates=0)


def test_after_a_restart_the_same_objects_are_written() -> None:
    before = written([replica()], setting(), GangApi.KAI)
    stored = msgspec.json.decode(msgspec.json.encode(written_plan(plan())))
    again = Replica("llama-0", "r1", read_plan(stored, plan().gang))
    assert not changes(written([again], setting(), GangApi.KAI), before, ["llama-0"])


def test_a_record_is_read_back_as_it_was() -> None:
    record = Record("llama-0", "r1", plan(), Phase.DRAINING, 1_700_000_000.0, "why", True)
    stored = msgspec.json.decode(msgspec.json.encode(written_record(record, "Draining")))
    assert stored["domain"] == "leaf leaf-1"
    assert read_record(stored, plan().gang) == replace(
        record, plan=replace(record.plan, candidates=0)
    )


@pytest.mark.parametrize("broken", [{}, {"name": "a", "phase": "Ready", "plan": {"pods": 3}}])
def test_what_can_not_be_read_is_said(broken: dict[str, object]) -> None:
    with pytest.raises(RecordError):
        read_record(broken, plan().gang)


def outcome(*records: Record, wanted: int = 1, limit: str = "") -> Outcome:
    return Outcome(records, wanted, Feasible(2, 3, "no more leaf has room"), limit)


def test_the_status_passes_its_schema_and_says_what_is() -> None:
    record = Record("llama-0", "r1", plan(), Phase.PLACED, 1_700_000_000.0)
    pods = [member("llama-0") for _ in range(3)]
    status = status_of(
        outcome(record, wanted=2, limit="leaf-2 has 3 of 4 GPUs"),
        {"llama-0": pods},
        name="llama",
        scheduler="KAI",
        generation=4,
        before={},
        warnings=["llama-0: gpu-0 tainted"],
        now=1_700_000_060.0,
    )
    schema = schema_of(_DEFINITION, "v1alpha1")["properties"]["status"]
    assert complaints(schema, status) == []
    figures = {key: status[key] for key in ("wanted", "feasible", "afterPreemption", "placed")}
    assert figures == {"wanted": 2, "feasible": 3, "afterPreemption": 4, "placed": 1}
    assert status["ready"] == 1
    conditions = {one["type"]: (one["status"], one["message"]) for one in status["conditions"]}
    assert conditions["Placed"] == (
        "False",
        "1 of 2 replicas have a place: leaf-2 has 3 of 4 GPUs",
    )
    assert conditions["Ready"] == ("False", "1 of 2 replicas are ready")
    assert conditions["Healthy"][0] == "False"


def test_a_condition_keeps_the_time_of_its_last_turn() -> None:
    first = condition_list([invalid("A", "a")], [], 1, 100.0)
    second = condition_list([invalid("B", "b")], first, 2, 200.0)
    assert second[0]["lastTransitionTime"] == first[0]["lastTransitionTime"]
    assert second[0]["message"] == "b"


def test_the_definition_is_one_document() -> None:
    assert yaml.safe_dump(_DEFINITION)
