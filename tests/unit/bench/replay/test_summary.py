"""Figures of hand-made replays."""

import pytest

from bench.replay.outcome import Replay, RequestOutcome, Sample
from bench.replay.suite import Run, recorded
from bench.replay.summary import (
    CURVE_POINTS,
    balance,
    medians,
    quantile,
    summarise,
)

LOAD = recorded("sample", 2, 1.0)


def outcome(
    ttft: float | None = 1.0,
    tpot: float | None = 0.02,
    *,
    arrived: float = 0.0,
    endpoint: int = 0,
    output: int = 11,
    cached: int = 0,
    predicted_cached: float = 0.0,
    predicted_ttft: float | None = None,
) -> RequestOutcome:
    first = None if ttft is None else arrived + ttft
    return RequestOutcome(
        arrived_at=arrived,
        endpoint=endpoint,
        prompt_tokens=1000,
        output_tokens=output,
        cached=cached,
        predicted_cached=predicted_cached,
        predicted_ttft=predicted_ttft,
        first_token_at=first,
        finished_at=None if first is None or tpot is None else first + tpot * (output - 1),
    )


def replayed(*requests: RequestOutcome, samples: list[Sample] | None = None) -> Replay:
    return Replay(
        policy="p",
        workload="w",
        endpoints=2,
        speed=1.0,
        seed=0,
        requests=list(requests),
        samples=samples or [],
        decision_seconds=0.001,
        wall_seconds=2.0,
    )


def run(policy: str = "p", seed: int = 0, fault: str | None = None) -> Run:
    return Run(LOAD, policy, seed, events=True, fault=fault)


def test_times_and_shares_of_one_run() -> None:
    found = summarise(
        run(),
        replayed(
            outcome(1.0, cached=500, predicted_cached=400.0, predicted_ttft=1.5),
            outcome(2.0, 0.04, endpoint=1, predicted_ttft=1.0),
            outcome(3.0, endpoint=1, cached=100, predicted_cached=300.0),
        ),
    ).figures
    assert found is not None
    assert found.requests == 3 and found.completion == 1.0
    assert found.ttft_mean == pytest.approx(2.0) == found.ttft_p50
    assert found.ttft_p90 == pytest.approx(2.8)
    assert found.tpot_p50 == pytest.approx(0.02) and found.tpot_p99 == pytest.approx(0.0396)
    assert found.goodput == pytest.approx(2 / 3)
    assert found.hit_ratio == pytest.approx(600 / 3000)
    assert found.predicted_hit_ratio == pytest.approx(700 / 3000)
    assert found.cached_error == pytest.approx(300 / 3000)
    assert found.ttft_error == pytest.approx((0.5 + 0.5) / 2)
    assert found.longest_wait == 3.0
    assert found.request_spread == pytest.approx(1 / 3)
    assert found.prefill_spread == pytest.approx(700 / 1200)  # 500 and 1,900 tokens
    assert found.decision_us == pytest.approx(1000 / 3) and found.wall_seconds == 2.0


def test_a_request_that_never_started_waited_until_the_end_and_misses() -> None:
    found = summarise(
        run(),
        replayed(
            outcome(0.5, arrived=0.0),
            outcome(None, arrived=2.0),
            samples=[Sample(50.0, 0, 1, 1, 0.5)],
        ),
    ).figures
    assert found is not None
    assert found.longest_wait == 48.0 and found.ttft_mean == pytest.approx(24.25)
    assert found.completion == found.goodput == 0.5
    assert found.hit_ratio == 0.0 and found.prefill_spread == 1.0


def test_one_that_started_but_did_not_finish_misses() -> None:
    found = summarise(run(), replayed(outcome(0.5, None), outcome(0.5, 0.06))).figures
    assert found is not None and found.goodput == 0.0 and found.completion == 0.5


def test_a_single_token_has_no_token_time_to_miss() -> None:
    found = summarise(run(), replayed(outcome(0.5, output=1))).figures
    assert found is not None and found.goodput == 1.0 and found.tpot_p50 is None


def test_nothing_at_all_is_unknown_and_not_zero() -> None:
    played = summarise(run(), replayed())
    assert played.figures is not None
    assert played.figures.ttft_p90 is None and played.figures.hit_ratio is None
    assert played.ttft_curve == () and played.balance == ()


def test_the_curve_goes_from_the_least_to_the_most() -> None:
    played = summarise(run(), replayed(*(outcome(n / 100) for n in range(1, 1001))))
    assert len(played.ttft_curve) == len(CURVE_POINTS)
    assert played.ttft_curve[0] == pytest.approx(0.01)
    assert played.ttft_curve[-1] == pytest.approx(10.0)
    assert list(played.ttft_curve) == sorted(played.ttft_curve)


def test_balance_tells_the_emptiest_and_the_fullest_endpoint() -> None:
    samples = [
        Sample(float(at), endpoint, running=at * endpoint, waiting=endpoint, kv_usage=0.0)
        for at in range(1001)
        for endpoint in range(3)
    ]
    found = balance(samples)
    assert len(found) == 80
    assert all(moment.least == 0.0 for moment in found)
    assert all(moment.mean == pytest.approx(moment.most / 2) for moment in found)
    assert found[-1].most == pytest.approx(2 * 994 + 2, rel=0.01)
    assert [moment.at for moment in found] == sorted(moment.at for moment in found)
    (alone,) = balance(samples[:3])
    assert (alone.at, alone.least, alone.mean, alone.most) == (0.0, 0.0, 1.0, 2.0)


def test_quantiles_are_interpolated() -> None:
    assert quantile([1.0, 2.0, 4.0], 0.5) == 2.0
    assert quantile([1.0, 2.0, 4.0], 0.75) == 3.0
    assert quantile([7.0], 0.99) == 7.0


def test_medians_go_over_the_seeds_of_one_setting() -> None:
    played = [
        summarise(run(policy, seed, fault), replayed(outcome(ttft)))
        for policy, seed, fault, ttft in (
            ("p", 0, None, 1.0),
            ("q", 0, None, 9.0),
            ("p", 1, None, 5.0),
            ("p", 2, None, 2.0),
            ("p", 0, "storm", 7.0),
        )
    ]
    first, second, third = medians(played)
    assert (first.policy, first.seeds, first.values["ttft_p90"]) == ("p", 3, 2.0)
    assert (second.policy, second.values["ttft_p90"]) == ("q", 9.0)
    assert (third.fault, third.values["ttft_p90"], third.values["ttft_error"]) == (
        "storm",
        7.0,
        None,
    )
