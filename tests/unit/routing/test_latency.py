from math import exp
from random import Random

import pytest

from routing.latency import PoolTiming, Timing, TokenScale
from routing.marks import Mark


def test_the_prior_is_20_ms_and_8000_tokens_a_second() -> None:
    timing = Timing()
    assert timing.prefill_rate == pytest.approx(8_000)
    assert timing.prefill_seconds(8_000) == pytest.approx(1.02)
    assert timing.inter_token_seconds(0) < timing.inter_token_seconds(100)


@pytest.mark.parametrize(("rate", "overhead"), [(800, 0.01), (9_000, 0.05), (200_000, 0.001)])
def test_prefill_is_learned_from_mixed_sizes(rate: float, overhead: float) -> None:
    timing, random = Timing(), Random(1)
    for _ in range(600):
        tokens = random.choice([20, 200, 2_000, 20_000])
        timing.observe_prefill(tokens, (overhead + tokens / rate) * random.uniform(0.9, 1.1))
    for tokens in (20, 200, 2_000, 20_000):
        assert timing.prefill_seconds(tokens) == pytest.approx(overhead + tokens / rate, rel=0.25)


def test_decode_is_learned_over_the_batch() -> None:
    timing, random = Timing(), Random(2)
    for _ in range(1_500):
        batch = random.choice([1, 8, 64, 200])
        timing.observe_decode((0.010 + 0.0003 * batch) * random.uniform(0.9, 1.1), batch)
    for batch in (1, 64, 200):
        assert timing.inter_token_seconds(batch) == pytest.approx(0.010 + 0.0003 * batch, rel=0.25)


def test_one_outlier_moves_a_settled_model_by_about_a_tenth_at_most() -> None:
    timing = Timing()
    for _ in range(100):
        timing.observe_prefill(4_000, 0.5)
    before = timing.prefill_seconds(4_000)
    timing.observe_prefill(4_000, 5_000.0)
    assert before < timing.prefill_seconds(4_000) < 1.11 * before


def test_rare_outliers_do_not_carry_the_model_away() -> None:
    timing, random = Timing(), Random(3)
    for _ in range(500):
        timing.observe_prefill(4_000, 0.5 if random.random() > 0.05 else 60.0)
    assert timing.prefill_seconds(4_000) == pytest.approx(0.5, rel=0.3)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_impossible_times_teach_nothing(seconds: float) -> None:
    timing = Timing()
    timing.observe_prefill(1_000, seconds)
    timing.observe_decode(seconds, 4)
    assert timing.prefill_seconds(1_000) == Timing().prefill_seconds(1_000)
    assert timing.inter_token_seconds(4) == Timing().inter_token_seconds(4)


def test_the_token_scale_follows_what_engines_report() -> None:
    scale = TokenScale()
    assert scale.scale == 1.0
    for _ in range(60):
        scale.observe(1_000, 1_600)
    assert scale.scale == pytest.approx(1.6, rel=0.02)


def test_short_prompts_do_not_teach_the_token_scale() -> None:
    scale = TokenScale()
    scale.observe(3, 40)  # mostly chat template
    scale.observe(1_000, 0)
    assert scale.scale == 1.0


def test_an_untried_endpoint_is_like_its_pool() -> None:
    pool = PoolTiming()
    tried, untried = Timing(pool), Timing(pool)
    for _ in range(200):
        tried.observe_prefill(4_000, 2.0)
        tried.observe_decode(0.060, 10, 40_000)
    assert untried.prefill_seconds(4_000) == pytest.approx(2.0, rel=0.2)
    assert untried.inter_token_seconds(10, 40_000) == pytest.approx(0.060, rel=0.2)


def test_own_experience_wins_over_the_pool() -> None:
    pool = PoolTiming()
    fast, slow = [Timing(pool) for _ in range(4)], Timing(pool)
    for _ in range(100):
        for timing in fast:
            timing.observe_prefill(4_000, 0.5)
        slow.observe_prefill(4_000, 2.0)
    assert slow.prefill_seconds(4_000) == pytest.approx(2.0, rel=0.1)
    assert fast[0].prefill_seconds(4_000) == pytest.approx(0.5, rel=0.1)


def test_a_few_own_observations_weigh_a_little() -> None:
    pool = PoolTiming()
    old, new = Timing(pool), Timing(pool)
    for _ in range(100):
        old.observe_prefill(4_000, 0.5)
    new.observe_prefill(4_000, 2.0)
    assert 0.4 < new.prefill_seconds(4_000) < 0.8


def test_those_that_follow_are_told() -> None:
    pool, told = PoolTiming(), list[int]()
    tried, untried = Timing(pool), Timing(pool)
    untried.mark = Mark(7, told)
    tried.observe_prefill(4_000, 2.0)
    assert told == [7]
    untried.mark.stale = False
    untried.leave_pool()
    tried.observe_prefill(4_000, 2.0)
    assert told == [7]


def test_decode_time_is_learned_over_batch_and_context() -> None:
    timing, random = Timing(), Random(4)
    for _ in range(1_500):
        batch = random.choice([1, 8, 64])
        kv = batch * random.choice([500, 8_000])
        truth = 0.014 + 60e-6 * batch + 35e-9 * kv
        timing.observe_decode(truth * random.uniform(0.95, 1.05), batch, kv)
    for batch, kv in ((1, 500), (64, 32_000), (64, 512_000)):
        truth = 0.014 + 60e-6 * batch + 35e-9 * kv
        assert timing.inter_token_seconds(batch, kv) == pytest.approx(truth, rel=0.15)


@pytest.mark.parametrize("overload", [600, 2_000, 6_000])
def test_an_overload_does_not_spoil_what_is_learned_after_it(overload: int) -> None:
    """Times that say little, and then a few endpoints of many in use: the others look the same."""
    dice, pool = Random(3), PoolTiming()
    members = [Timing(pool) for _ in range(24)]
    for step in range(overload):
        batch = dice.uniform(1.0, 60.0)
        seconds = (0.013 + 0.00006 * batch) * exp(dice.gauss(0.8, 1.2))
        members[step % 5].observe_decode(seconds, batch, 8_000.0 * batch)
    for step in range(4_000):
        batch = dice.uniform(1.0, 8.0)
        seconds = 0.013 + 0.00006 * batch + 50e-9 * 8_000.0 * batch
        members[step % 3].observe_decode(
            seconds * exp(dice.gauss(0.0, 0.3)), batch, 8_000.0 * batch
        )
    untried = Timing(pool)
    assert untried.inter_token_seconds(4.0, 32_000.0) == pytest.approx(0.0148, rel=0.25)
