"""How the chaos table and the soak judge what was measured."""

from typing import Any

import msgspec
import pytest

from bench.chaos import faults, soak, table
from bench.chaos.soak import Sample, Soak
from bench.chaos.table import Row

GOOD = Row(
    fault="kill",
    what="kill -9",
    strikes=1,
    offered=10,
    answered=9,
    errors=1,
    wrong=0,
    lost=0,
    retries=2,
    felt=0.1,
    returned=1.0,
    one_victim=True,
    ledger_left=0,
    in_flight_left=0,
    rss_before=1,
    rss_after=1,
    descriptors_before=1,
    descriptors_after=1,
    longest_seconds=1.0,
    paused_seconds=0.0,
    error_kinds={"error event": 1},
    bad_kinds={},
)


def failed(row: Row) -> list[str]:
    return [check.name for check in table.checks([row]) if not check.ok]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({}, []),
        ({"strikes": 0}, ["kill: strikes"]),
        ({"wrong": 1, "errors": 0}, ["kill: wrong answers"]),
        ({"lost": 1, "errors": 0}, ["kill: lost"]),
        ({"offered": 11}, ["kill: lost"]),
        ({"ledger_left": 1}, ["kill: left in ledgers"]),
        ({"in_flight_left": 1}, ["kill: left in ledgers"]),
        ({"returned": None}, ["kill: until it is used again"]),
        ({"returned": None, "one_victim": False}, []),
    ],
)
def test_what_a_row_is_blamed_for(change: dict[str, Any], complaint: list[str]) -> None:
    assert failed(msgspec.structs.replace(GOOD, **change)) == complaint


def test_rows_are_shown_with_their_kinds() -> None:
    shown = table.shown([GOOD])
    assert shown.row_count == 1
    assert [*shown.columns[-1].cells] == ["error event 1"]


def test_faults_are_chosen_by_name() -> None:
    assert faults.chosen([]) == faults.FAULTS
    assert [fault.name for fault in faults.chosen(["dns", "kill"])] == ["kill", "dns"]
    with pytest.raises(ValueError, match="no fault 'earthquake'"):
        faults.chosen(["earthquake"])
    assert len(set(faults.NAMES)) == len(faults.FAULTS)


def sample(at: float, rss: float) -> Sample:
    return Sample(at, 0, int(rss), 40, 0, 1000, 10)


def test_a_slope_is_growth_in_ten_minutes() -> None:
    growing = [sample(at, 1e8 + 2_000 * at) for at in range(0, 600, 5)]
    assert soak.slope(growing, lambda one: one.rss_bytes) == pytest.approx(1.2e6)
    assert soak.slope(growing, lambda one: one.descriptors) == 0


def test_bursts_of_descriptors_are_no_leak_and_a_leak_shows_between_them() -> None:
    def descriptors(at: int, leaked: float) -> Sample:
        burst = 150 if 3_000 < at < 3_200 and at % 20 else at % 3
        return msgspec.structs.replace(sample(at, 1e8), descriptors=round(44 + burst + leaked))

    times = range(600, 3_600, 5)
    calm = [descriptors(at, 0.0) for at in times]
    assert soak.slope(calm, lambda one: one.descriptors) > 1.0
    assert soak.slope(soak.floor(calm), lambda one: one.descriptors) == pytest.approx(0.0, abs=0.1)
    leaking = [descriptors(at, at / 300.0) for at in times]  # two in ten minutes
    grown = soak.slope(soak.floor(leaking), lambda one: one.descriptors)
    assert grown == pytest.approx(2.0, abs=0.2)


def test_a_leak_fails_the_soak() -> None:
    good = Soak(
        minutes=60,
        warm_up_minutes=10,
        offered=1,
        answered=1,
        aborted=0,
        wrong=0,
        skipped=0,
        errors={},
        disturbed=0,
        answered_per_second=310.0,
        rss_slope=0.5e6,
        descriptors_slope=0.1,
        index_slope=0.0,
        rss_first=1,
        rss_last=1,
        descriptors_first=1,
        descriptors_last=1,
        most_in_ledgers=3,
        left_in_ledgers=0,
        stood_still_seconds=0.0,
        samples=[],
    )
    assert all(check.ok for check in soak.checks(good))
    for change in (
        {"rss_slope": 1.1e6},
        {"descriptors_slope": 2.0},
        {"answered_per_second": 299.0},
        {"left_in_ledgers": 1},
        {"errors": {"status 503": 1}},
    ):
        bad = msgspec.structs.replace(good, **change)
        assert sum(not check.ok for check in soak.checks(bad)) == 1


@pytest.mark.parametrize(
    ("began", "ended", "within"),
    [(0, 9, False), (0, 10, True), (15, 16, True), (24, 30, True), (26, 27, False)],
)
def test_what_a_pause_of_the_machine_disturbed(began: float, ended: float, within: bool) -> None:
    """From 10 to 20 it stood still; for five seconds more endpoints may be taken for ill."""
    assert soak._Failure(began, ended, "status 503").within([(10.0, 20.0)]) is within


def test_the_warm_up_is_a_part_of_the_time() -> None:
    assert soak.warm_up_seconds(60) == 15
    assert soak.warm_up_seconds(7200) == 600
