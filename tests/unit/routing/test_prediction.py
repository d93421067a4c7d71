"""Errors of predictions and estimated regret, by hand-made decisions."""

from math import e

import pytest

from routing.decision import Phase
from routing.prediction import (
    ForgettingMean,
    Histogram,
    SignedErrors,
    best_alternative,
    estimated_regret,
    observed_itl,
    observed_ttft,
    surprise,
)
from routing.receipts import Receipts
from tests.support.receipts import answered, decided, failed, over, retried


def test_a_histogram_counts_by_inclusive_upper_bound() -> None:
    histogram = Histogram((0.0, 1.0, 2.0))
    assert histogram.quantile(0.5) is None
    for value in (0.0, 1.0, 1.5, 9.0):
        histogram.add(value)
    assert histogram.counts == [1, 1, 1, 1]
    assert (histogram.count, histogram.sum) == (4, 11.5)
    assert [histogram.quantile(share) for share in (0.25, 0.5, 0.75, 1.0)] == [0.0, 1.0, 2.0, 2.0]


def test_errors_of_either_sign_are_apart_and_exact_ones_are_over() -> None:
    errors = SignedErrors((0.0, 1.0))
    assert errors.bias is None
    for error in (0.0, 0.5, -2.0):
        errors.add(error)
    assert (errors.over.count, errors.under.count, errors.under.sum) == (2, 1, 2.0)
    assert errors.bias == -0.5


def test_a_forgetting_mean_is_the_plain_one_at_first_and_follows_later() -> None:
    mean = ForgettingMean()
    assert mean.known is None
    for value in (1.0, 2.0, 6.0):
        mean.add(value)
    assert mean.known == pytest.approx(3.0)
    for _ in range(1_000):
        mean.add(10.0)
    assert mean.known == pytest.approx(10.0)


def test_an_answer_shows_its_times() -> None:
    decision = decided()
    assert (observed_ttft(decision), observed_itl(decision)) == (None, None)
    answered(decision, ttft=0.5, seconds=1.0, tokens=11)
    assert observed_ttft(decision) == 0.5
    assert observed_itl(decision) == 0.1


@pytest.mark.parametrize("tokens", [None, 0, 1])
def test_one_token_has_no_time_between(tokens: int | None) -> None:
    decision = decided()
    answered(decision)
    decision.reported_completion_tokens = tokens
    assert observed_itl(decision) is None


def test_an_answer_in_one_piece_shows_no_times_of_tokens() -> None:
    decision = decided(streamed=False)
    answered(decision)
    assert (observed_ttft(decision), observed_itl(decision)) == (None, None)
    assert estimated_regret(decision) is None
    assert surprise(decision) == 0.0


def test_regret_is_what_another_candidate_might_have_saved() -> None:
    decision = decided(ttfts=(0.5, 0.9, 0.7, None))
    assert estimated_regret(decision) is None  # nothing observed yet
    answered(decision, ttft=1.0)
    best = best_alternative(decision)
    assert best is not None and best.endpoint.name == "e2"
    assert estimated_regret(decision) == pytest.approx(0.3)


def test_regret_is_never_negative() -> None:
    decision = decided(ttfts=(0.5, 0.6))
    answered(decision, ttft=0.55)
    assert estimated_regret(decision) == 0.0


@pytest.mark.parametrize("ttfts", [(0.5,), (0.5, None)])
def test_without_another_prediction_there_is_no_regret(ttfts: tuple[float | None, ...]) -> None:
    decision = decided(ttfts=ttfts)
    answered(decision, ttft=9.0)
    assert estimated_regret(decision) is None


def test_a_request_that_was_moved_says_nothing_of_predictions() -> None:
    receipts = Receipts(4)
    decision = decided()
    receipts.routed(decision, 0.0)
    failed(decision)
    retried(decision)
    answered(decision, ttft=30.0)
    decision.reported_cached_tokens = 5
    receipts.observe(decision)
    assert (estimated_regret(decision), surprise(decision)) == (None, 0.0)
    errors = receipts.errors
    assert (errors.ttft.count, errors.regret.count, errors.cached_tokens.count) == (0, 0, 0)


def test_surprise_is_the_logarithm_of_how_many_times_longer_it_took() -> None:
    late, early, close = decided(ttfts=(1.0,)), decided(ttfts=(1.0,)), decided(ttfts=(0.01,))
    answered(late, ttft=e)
    answered(early, ttft=1.0 / e)
    answered(close, ttft=0.09)
    assert surprise(late) == pytest.approx(1.0)
    assert surprise(early) == pytest.approx(-1.0)
    assert surprise(close) == 0.0  # nine times longer, and nobody noticed


def test_without_a_prediction_nothing_surprises() -> None:
    decision = decided(ttfts=(None,))
    answered(decision, ttft=30.0)
    assert surprise(decision) == 0.0


def test_a_first_token_counts_also_of_a_stream_that_broke_off() -> None:
    receipts = Receipts(4)
    decision = decided(ttfts=(0.5, 0.6))
    receipts.routed(decision, 0.0)
    decision.sent_at, decision.first_token_at = 0.0, 0.25
    decision.enter(Phase.DECODING)
    failed(decision, after=3.0)
    receipts.observe(decision)
    assert receipts.errors.ttft.over.sum == 0.25
    assert receipts.errors.itl_error.count == 0


def test_errors_are_predicted_minus_observed_in_total_and_by_endpoint() -> None:
    receipts = Receipts(4)
    slow = decided(ttfts=(0.5, 0.6))
    receipts.routed(slow, 0.0)
    answered(slow, ttft=1.0, seconds=1.0, tokens=11)
    slow.reported_cached_tokens = 40
    receipts.observe(slow)
    over(receipts, decided(ttfts=(1.0, 2.0)), ttft=0.5)
    for errors in (receipts.errors, receipts.by_endpoint["e0"]):
        assert (errors.ttft.under.sum, errors.ttft.over.sum) == (0.5, 0.5)
        assert errors.ttft_error.known == pytest.approx((0.5 + 1.0) / 2)
        assert (errors.cached_tokens.over.count, errors.cached_tokens.over.sum) == (1, 60.0)
        assert errors.regret.counts[0] == 1  # none at all
        assert errors.regret.sum == pytest.approx(0.4)
        assert errors.itl_error.count == 2
    predicted = slow.choices[0].endpoint.timing.inter_token_seconds(1.0, 1_000.0)
    assert receipts.errors.itl_error.known == pytest.approx(abs(predicted - 0.1) / 0.1)


def test_a_wild_error_counts_at_most_tenfold() -> None:
    receipts = Receipts(4)
    over(receipts, decided(ttfts=(600.0,)), ttft=0.0)
    assert receipts.errors.ttft_error.known == 10.0
