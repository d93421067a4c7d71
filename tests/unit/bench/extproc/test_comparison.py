"""Medians and bars of the pickers' bench, from figures that are said here."""

from typing import Any

import pytest

from bench.extproc import envoy
from bench.extproc.comparison import CASES, OURS, Run, checks, chunk_cpu, medians, table
from bench.extproc.measure import PICKERS, Measured, chosen
from bench.extproc.scenarios import FEW_EVENTS, LONG_MANY, MANY_EVENTS, SCENARIOS, SHORT
from bench.extproc.scenarios import chosen as chosen_scenarios
from bench.overhead.measure import Figures


def figures(**values: Any) -> Figures:
    known: dict[str, Any] = dict.fromkeys(Figures.__struct_fields__, 0)
    known.update(error_kinds={}, **values)
    return Figures(**known)


def run_of(scenario: str, mode: str = envoy.RECOMMENDED, **values: Any) -> Run:
    measured = Measured(
        figures=figures(**values),
        envoy_cpu_us=90.0,
        asked_cpu_us=values.get("cpu_us_per_request", 0.0) - 20.0,
    )
    return Run(0, OURS, mode, scenario, measured)


def verdicts(*runs: Run) -> dict[str, bool]:
    found = medians(runs)
    names = {run.scenario for run in runs}
    return {
        check.name: check.ok
        for check in checks(found, [one for one in SCENARIOS if one.name in names])
    }


def test_medians_over_rounds_and_faults_added_up() -> None:
    runs = [
        run_of(SHORT.name, cpu_us_per_request=cpu, errors=errors)
        for cpu, errors in ((100.0, 0), (300.0, 1), (200.0, 1))
    ]
    [found] = medians(runs)
    assert (found.values["cpu_us_per_request"], found.values["errors"]) == (200.0, 2)
    assert found.values["envoy_cpu_us"] == 90.0
    assert verdicts(*runs)[f"{SHORT.name}, recommended: errors"] is False


def test_the_bars() -> None:
    good = run_of(SHORT.name, cpu_us_per_request=250.0, requests_per_second=2_500.0)
    assert verdicts(good)["4k, recommended: CPU per request"]
    assert verdicts(good)["4k: requests per second"]
    assert not verdicts(good)["4k, full-duplex: CPU per request"]  # it was not measured
    bad = run_of(SHORT.name, cpu_us_per_request=251.0, requests_per_second=2_499.0)
    assert not verdicts(bad)["4k, recommended: CPU per request"]
    assert not verdicts(bad)["4k: requests per second"]
    assert not verdicts(run_of(LONG_MANY.name, latency_p50_ms=301.0))["220k-c150: p50 latency"]


def test_a_chunk_costs_what_longer_streams_cost_more() -> None:
    runs = [
        run_of(FEW_EVENTS.name, cpu_us_per_request=200.0),
        run_of(MANY_EVENTS.name, cpu_us_per_request=1_100.0),
    ]
    assert chunk_cpu(medians(runs), envoy.RECOMMENDED) == pytest.approx(10.0)
    assert not verdicts(*runs)["CPU of a streamed chunk"]
    assert chunk_cpu(medians(runs[:1]), envoy.RECOMMENDED) is None


def test_a_run_that_failed_is_no_pass() -> None:
    failed = Run(0, OURS, envoy.RECOMMENDED, SHORT.name, None, "it ended")
    found = verdicts(failed)
    assert not any(found.values())
    assert f"{SHORT.name}, recommended: runs that failed" in found
    assert table(SHORT, medians([failed])).row_count == 1


def test_every_scenario_has_cases_of_known_pickers_and_modes() -> None:
    assert set(CASES) == {scenario.name for scenario in SCENARIOS}
    for cases in CASES.values():
        for picker, mode in cases:
            assert picker in PICKERS
            assert mode in envoy.MODES


def test_what_there_is_not_is_said() -> None:
    with pytest.raises(ValueError, match="no picker 'other'; there are inferway"):
        chosen(["other"])
    with pytest.raises(ValueError, match="no scenario '5k'; there are 4k"):
        chosen_scenarios(["5k"])
    assert chosen([]) == tuple(PICKERS)


def test_the_filter_is_in_the_mode_that_is_measured() -> None:
    for mode, differs in envoy.MODES.items():
        config = envoy.config(mode, 1, 2, 3, [4, 5])
        listener = config["static_resources"]["listeners"][0]
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        processing = manager["http_filters"][0]["typed_config"]["processing_mode"]
        assert {**processing, **differs} == processing
        clusters = {one["name"]: one for one in config["static_resources"]["clusters"]}
        assert len(clusters["pool"]["load_assignment"]["endpoints"][0]["lb_endpoints"]) == 2
