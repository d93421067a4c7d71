from array import array
from base64 import b64encode

import pytest

from bench.overhead import comparison
from bench.overhead.comparison import Run, checks, medians, order, ratio
from bench.overhead.load import Done, Outcome
from bench.overhead.measure import Figures, Usage, figures
from bench.overhead.scenarios import SCENARIOS
from bench.overhead.upstream import Received
from bench.results import at_most

UNARY = SCENARIOS[0].scaled(0.001)


def measured(cpu: float, errors: int = 0, sent: tuple[int, ...] = (1, 2)) -> Figures:
    return figures(
        UNARY,
        Outcome(
            requests=4,
            chunks=0,
            latencies=[0.001, 0.002, 0.003],
            wall=2.0,
            cpu=0.5,
            errors={"status 503": errors} if errors else {},
            digests=b64encode(array("Q", sent)).decode(),
        ),
        Usage(cpu=cpu, peak_rss=1_000),
        Done(0, {}),
        Received([3, 0], b64encode(array("Q", [2, 1])).decode()),
    )


def test_figures_of_a_run() -> None:
    found = measured(0.004)
    assert found.requests_per_second == 2.0
    assert found.latency_p50_ms == pytest.approx(2.0)
    assert found.cpu_us_per_request == pytest.approx(1_000)
    assert found.cpu_us_per_chunk is None and found.bytes_per_stream is None
    assert found.client_busy == 0.25
    assert (found.bodies_changed, found.servers_used) == (0, 1)


def test_a_body_that_did_not_arrive_as_often_as_it_was_sent_is_changed() -> None:
    assert measured(0.0, sent=(1, 1, 7)).bodies_changed == 2


def runs(cpu: dict[str, list[float]], errors: int = 0) -> list[Run]:
    return [
        Run(number, name, UNARY.name, measured(value, errors))
        for name, values in cpu.items()
        for number, value in enumerate(values)
    ]


def test_ours_is_held_against_the_better_router() -> None:
    found = medians(
        runs({"inferway": [1, 9, 2], "sglang-router": [8, 8, 8], "vllm-router": [4, 4, 99]})
    )
    assert ratio(found, UNARY.name, "cpu_us_per_request") == pytest.approx(0.5)
    made = checks(found, ["inferway", "sglang-router", "vllm-router"], [UNARY])
    assert [check.ok for check in made] == [True, True, True]


def test_an_absent_rival_proves_nothing() -> None:
    found = medians(
        [
            *runs({"inferway": [1]}),
            Run(0, "sglang-router", UNARY.name, None, "absent: not installed"),
        ]
    )
    made = checks(found, ["inferway", "sglang-router"], [UNARY])
    assert made[0].value is None and not made[0].ok
    assert found[1].failures == ("absent: not installed",)
    assert found[1].values["cpu_us_per_request"] is None


def test_without_a_router_asked_for_no_ratio_is_asked_for() -> None:
    found = medians(runs({"inferway": [1]}))
    assert [check.unit for check in checks(found, ["inferway"], [UNARY])] == ["requests"] * 2
    assert checks(found, ["envoy"], [UNARY]) == []


def test_errors_of_any_round_fail_the_check() -> None:
    found = medians([*runs({"inferway": [1, 1]}), Run(2, "inferway", UNARY.name, measured(1, 3))])
    made = {check.name: check for check in checks(found, ["inferway"], [UNARY])}
    assert made[f"{UNARY.name}: errors"].value == 3
    assert not made[f"{UNARY.name}: errors"].ok


def test_a_run_that_failed_fails_the_checks() -> None:
    found = medians([*runs({"inferway": [1]}), Run(1, "inferway", UNARY.name, None, "it hung")])
    made = {check.name: check for check in checks(found, ["inferway"], [UNARY])}
    assert made[f"{UNARY.name}: runs that failed"].value == 1
    assert not made[f"{UNARY.name}: runs that failed"].ok


def test_rounds_begin_with_another_gateway_each() -> None:
    assert [order("abc", number)[0] for number in range(4)] == ["a", "b", "c", "a"]
    assert sorted(order("abc", 1)) == ["a", "b", "c"]


def test_a_missing_value_is_not_ok() -> None:
    assert at_most("x", 2.0, 2.0, "us").ok
    assert not at_most("x", 2.1, 2.0, "us").ok
    assert not at_most("x", None, 2.0, "us").ok


def test_bars_name_scenarios_that_exist() -> None:
    assert set(comparison.RATIO_BARS) < {one.name for one in SCENARIOS}
