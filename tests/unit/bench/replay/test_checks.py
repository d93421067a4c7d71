"""Which bars are asked for, what they compare, and that missing values fail."""

from bench.replay.checks import checks
from bench.replay.suite import Bars, recorded
from bench.replay.summary import Median
from bench.results import Check

LOAD = recorded("sample", 4, 1.0, bars=Bars(goodput_lead=4.0))
NAME = "sample 4w x1"


def median(
    policy: str,
    p90: float | None = 2.0,
    p99: float = 10.0,
    goodput: float = 0.5,
    *,
    events: bool = True,
    fault: str | None = None,
    failures: tuple[str, ...] = (),
) -> Median:
    values = {"ttft_p90": p90, "ttft_p99": p99, "goodput": goodput}
    return Median(LOAD.name, policy, events, fault, 1, values, failures)


def by_name(found: list[Check]) -> dict[str, Check]:
    return {check.name.removeprefix(NAME).strip(", :"): check for check in found}


def test_each_figure_is_held_against_whoever_is_best_in_it() -> None:
    found = by_name(
        checks(
            [LOAD],
            [
                median("predicted_time", 2.02, 10.4, 0.61),
                median("round_robin", 2.0, 20.0, 0.4),
                median("least_request", 3.0, 10.0, 0.55),
                median("clairvoyant", 0.1, 0.1, 1.0),
            ],
        )
    )
    p90 = found["p90 TTFT, of the best rival's"]
    assert (p90.value, p90.limit, p90.ok) == (1.01, 1.03, True)
    assert found["p99 TTFT, of the best rival's"].value == 1.04
    goodput = found["goodput, the best rival's lead"]
    assert goodput.value is not None and abs(goodput.value + 6.0) < 1e-9
    assert (goodput.limit, goodput.unit, goodput.ok) == (-4.0, "points", True)


def test_too_small_a_lead_and_too_long_a_wait_fail() -> None:
    found = checks([LOAD], [median("predicted_time", 2.1, 11.0, 0.53), median("round_robin")])
    assert [check.ok for check in found] == [False, False, False]


def test_runs_without_events_have_bars_of_their_own() -> None:
    rows = [
        median(policy, p90, events=events)
        for policy, p90, events in (
            ("predicted_time", 1.0, True),
            ("predicted_time", 3.0, False),
            ("round_robin", 2.0, True),
            ("round_robin", 2.0, False),
        )
    ]
    found = by_name(checks([LOAD], rows))
    assert found["p90 TTFT, of the best rival's"].value == 0.5
    assert found["no events: p90 TTFT, of the best rival's"].value == 1.5


def test_no_bar_without_ours_or_without_a_rival() -> None:
    assert checks([LOAD], [median("round_robin")]) == []
    assert checks([LOAD], [median("predicted_time"), median("clairvoyant")]) == []


def test_what_was_not_measured_fails() -> None:
    rows = [median("predicted_time", None), median("round_robin")]
    assert not checks([LOAD], rows)[0].ok
    other = recorded("other", 4, 1.0)
    assert checks([other], rows) == []
    failed = checks([LOAD], [median("predicted_time", failures=("x",)), median("round_robin")])
    assert [check.ok for check in failed if check.unit == "runs"] == [False]


def test_under_a_fault_we_hold_up_or_are_as_good_as_anybody() -> None:
    rows = [
        median("predicted_time", 2.0),
        median("round_robin", 4.0),
        median("predicted_time", 2.5, fault="lost events"),
        median("round_robin", 1.0, fault="lost events"),
        median("predicted_time", 8.0, fault="slow endpoint"),
        median("round_robin", 10.0, fault="slow endpoint"),
        median("predicted_time", 8.0, fault="restart"),
        median("round_robin", 5.0, fault="restart"),
    ]
    found = [check for check in checks([LOAD], rows, LOAD) if "undisturbed" in check.name]
    assert [check.ok for check in found] == [True, True, False]
    assert [check.value for check in found] == [2.5 / 2.6, 0.8, 1.6]
