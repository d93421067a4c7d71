"""The bench of splitting: its plan and its bars."""

import pytest
from msgspec.structs import replace

from bench.disaggregation import (
    ADAPTIVE,
    ALWAYS,
    ARMS,
    ENDPOINTS,
    NEVER,
    Figures,
    checks,
    gap_quantile,
    overloads,
    plan,
)
from bench.replay.engine import gap_bucket

PLAIN = Figures(10.0, 0.9, 1.0, 2.0, 3.0, 0.02, 0.1, 0.05, 0.0, 0.0, 0.1, 0.0, 1.0, 1.0)


def test_every_arm_has_as_many_engines() -> None:
    assert {len(arm.roles) for arm in ARMS} == {ENDPOINTS}
    assert len({str(case) for case in plan("sample", 400, 2)}) == 6 * len(ARMS) * 2
    assert overloads() == ["conversation x1.8", "decode-heavy 24/s"]


def test_a_short_trace_is_played_with_more_seeds() -> None:
    seeds: dict[str, set[int]] = {}
    for case in plan("sample", 2_000, 2):  # it has 400 requests
        seeds.setdefault(case.family, set()).add(case.seed)
    assert {family: len(some) for family, some in seeds.items()} == {
        "conversation": 10,
        "decode-heavy": 2,
    }


def test_the_bars_hold_against_the_better_of_never_and_always() -> None:
    arms = {arm.name: PLAIN for arm in ARMS}
    arms[ALWAYS[1].name] = replace(PLAIN, e2e_mean=9.0)
    arms[NEVER.name] = replace(PLAIN, goodput=1.0)
    arms[ADAPTIVE.name] = replace(PLAIN, e2e_mean=9.2, goodput=0.96, itl_p99=0.05)
    verdicts = {check.name: check for check in checks({"decode-heavy 10/s": arms})}
    assert [check.ok for check in verdicts.values()] == [True, False, True]
    assert [check.value for check in verdicts.values()] == pytest.approx([9.2 / 9.0, 0.96, 0.5])
    assert len(checks({"conversation x1": arms})) == 2


def test_what_was_not_measured_is_not_ok() -> None:
    arms = {arm.name: PLAIN for arm in ARMS}
    arms[ADAPTIVE.name] = replace(PLAIN, e2e_mean=None)
    assert not checks({"conversation x1": arms})[0].ok


def test_quantiles_of_times_between_tokens() -> None:
    gaps = {gap_bucket(0.01): 99, gap_bucket(0.5): 1}
    assert gap_quantile(gaps, 0.5) == pytest.approx(0.01, rel=0.01)
    assert gap_quantile(gaps, 1.0) == pytest.approx(0.5, rel=0.01)
    assert gap_quantile({}, 0.5) is None
