"""What the options of `inferway replay` ask for."""

from pathlib import Path

import pytest

from bench.replay.command import chosen_loads, chosen_policies
from bench.replay.suite import FAR_BEHIND, Load, full_loads, robustness_runs, runs
from routing.policies import POLICIES


def loads(
    trace: str | None = None,
    *,
    endpoints: int | None = None,
    speed: float | None = None,
    rate: float | None = None,
    requests: int | None = None,
    full: bool = False,
) -> list[Load]:
    return chosen_loads(trace, endpoints, speed, rate, requests, None, full=full)


def test_without_options_it_is_a_quick_look_at_the_sample() -> None:
    assert [load.source for load in loads()] == ["sample", "shared-prefix"]
    assert loads(requests=50)[0].requests == 50


def test_a_trace_has_speed_and_endpoints() -> None:
    (load,) = loads("some/chats.jsonl.gz", endpoints=16, speed=2.0, requests=100)
    assert load.name == "chats 16w x2"
    assert (load.endpoints, load.speed, load.requests, load.rate) == (16, 2.0, 100, None)
    (load,) = loads("some/chats.jsonl.gz")
    assert (load.endpoints, load.speed) == (8, 1.0)
    assert loads(speed=0.5)[0].source == "sample"


def test_a_rate_alone_means_the_synthetic_load() -> None:
    (load,) = loads(rate=11.0)
    assert load == loads("shared-prefix", rate=11.0)[0]
    assert (load.name, load.rate, load.speed) == ("shared-prefix 8w 11/s", 11.0, 1.0)
    assert loads("shared-prefix", endpoints=4)[0].name == "shared-prefix 4w 9/s"


def test_full_is_every_load_of_the_acceptance() -> None:
    found = loads("mooncake.jsonl.gz", full=True)
    assert [load.name for load in found] == [
        "conversation 8w x1",
        "conversation 8w x1.5",
        "conversation 16w x2",
        "conversation 16w x3",
        "shared-prefix 8w 9/s",
        "shared-prefix 8w 11/s",
    ]
    assert [load.bars.goodput_lead for load in found] == [0.0, 4.0, 0.0, 4.0, -1.0, -1.0]
    assert {load.bars.ttft_p90 for load in found} == {1.03}
    assert {load.bars.ttft_p99 for load in found} == {1.05}


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"full": True}, "TRACE"),
        ({"trace": "x", "full": True, "speed": 2.0}, "leave"),
        ({"trace": "shared-prefix", "speed": 2.0}, "--rate"),
        ({"trace": "x", "rate": 2.0}, "--speed"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        loads(**options)  # type: ignore[arg-type]


def test_policies_are_all_of_them_or_those_that_are_named() -> None:
    assert chosen_policies(None) == [*POLICIES, "clairvoyant"]
    assert chosen_policies(" round_robin,predicted_time, round_robin") == [
        "round_robin",
        "predicted_time",
    ]
    with pytest.raises(ValueError, match="did you mean predicted_time"):
        chosen_policies("predicted_tme")
    with pytest.raises(ValueError, match="names none"):
        chosen_policies(" , ")


def test_a_plan_has_every_combination_once() -> None:
    some = loads("a") + loads("b")
    plan = list(runs(some, ["p", "q"], seed=0, seeds=3, events=(True, False)))
    assert len(plan) == len(set(plan)) == 2 * 2 * 3 * 2
    faults = list(robustness_runs(some[0], ["p", "q"], ["f", "g", "h"], seed=5))
    assert len(faults) == 6 and {one.seed for one in faults} == {5}
    assert str(faults[0]) == "a 8w x1, p, seed 5, f"
    assert Path(plan[0].load.source).name == "a"


def test_loads_that_are_drawn_anew_are_played_with_more_seeds() -> None:
    some = full_loads(Path("trace"))
    plan = list(runs(some, ["p"], seed=7, seeds=3, events=[True]))
    seeds = {load.name: [run.seed for run in plan if run.load is load] for load in some}
    assert seeds.pop("shared-prefix 8w 9/s") == seeds.pop("shared-prefix 8w 11/s")
    assert [run.seed for run in plan if run.load.name == "shared-prefix 8w 9/s"] == [*range(7, 19)]
    assert all(found == [7, 8, 9] for found in seeds.values())


def test_those_that_are_far_behind_are_played_once() -> None:
    plan = list(
        runs(loads(), ["random", "predicted_time"], seed=4, seeds=2, events=[True], once=FAR_BEHIND)
    )
    assert [run.seed for run in plan if run.policy == "random"] == [4, 4]
    assert [run.seed for run in plan if run.policy == "predicted_time"] == [4, 5, 4, 5]
    assert set(FAR_BEHIND) < set(POLICIES)
