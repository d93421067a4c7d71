"""Steps from what there is to what is wanted lead there, whatever turns the wind takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.scaling.steps import Step, next_step


def test_more_takes_back_who_drains_before_it_asks_for_new_ones() -> None:
    assert next_step(4, 5, 5, ["a", "b", "c"]) == Step(restore=("c", "b"))
    assert next_step(7, 5, 5, ["a"]) == Step(restore=("a",), replicas=7)
    assert next_step(6, 5, 5, []) == Step(replicas=6)


def test_fewer_retires_members_and_gives_up_vacant_places_at_once() -> None:
    assert next_step(2, 5, 5, ["a"]) == Step(retire=2)
    assert next_step(2, 5, 3, []) == Step(retire=1, vacant=2)
    assert next_step(0, 1, 1, []) == Step(retire=1)


def test_enough_is_enough() -> None:
    assert not next_step(4, 5, 5, ["a"])
    assert not next_step(5, 5, 2, [])
    with pytest.raises(ValueError, match="-1"):
        next_step(-1, 5, 5, [])


@given(st.lists(st.integers(0, 8), min_size=1, max_size=12), st.integers(0, 8))
def test_any_sequence_of_wishes_ends_at_the_last_one(wishes: list[int], spec: int) -> None:
    members = [f"m{number}" for number in range(spec)]
    leaving: list[str] = []
    born = spec
    for wanted in [*wishes, *wishes[-1:] * 12]:
        step = next_step(wanted, spec, len(members), leaving)
        assert set(step.restore) <= set(leaving)
        leaving = [name for name in leaving if name not in step.restore]
        for name in members:
            if step.retire and name not in leaving and len(leaving) < step.retire + len(leaving):
                leaving.append(name)
                step = Step(step.restore, step.retire - 1, step.vacant, step.replicas)
        spec -= step.vacant
        if step.replicas is not None:
            spec = step.replicas
        if leaving:  # the first of them has drained
            members.remove(leaving.pop(0))
            spec -= 1
        if len(members) < spec:
            members.append(f"m{born}")
            born += 1
    assert (spec, len(leaving)) == (wishes[-1], 0)
