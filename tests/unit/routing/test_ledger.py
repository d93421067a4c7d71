import pytest

from routing.ledger import Ledger


def test_a_request_moves_from_prefill_to_decode_to_nothing() -> None:
    ledger = Ledger()
    ledger.reserve("a", 1_000, 50, now=0.0)
    assert (ledger.requests, ledger.decoding) == (1, 0)
    assert (ledger.prefill_tokens, ledger.output_tokens) == (1_000, 50)
    ledger.prefilled("a", now=1.0)
    assert (ledger.requests, ledger.decoding) == (1, 1)
    assert (ledger.prefill_tokens, ledger.output_tokens) == (0, 50)
    ledger.progressed("a", 20)
    assert ledger.output_tokens == 30
    ledger.progressed("a", 70)  # longer than expected: nothing more is expected
    assert ledger.output_tokens == 0
    ledger.release("a", now=2.0)
    assert ledger.requests == ledger.decoding == ledger.output_tokens == 0


def test_the_oldest_prefill_decays_at_the_rate_and_no_further_than_its_size() -> None:
    ledger = Ledger()
    ledger.reserve("a", 1_000, 0, now=10.0)
    ledger.reserve("b", 500, 0, now=10.0)
    assert ledger.queued_prefill_tokens(10.0, rate=1_000.0) == 1_500
    assert ledger.queued_prefill_tokens(10.4, rate=1_000.0) == pytest.approx(1_100)
    assert ledger.queued_prefill_tokens(99.0, rate=1_000.0) == 500


def test_the_next_prefill_starts_to_decay_when_the_oldest_ends() -> None:
    ledger = Ledger()
    ledger.reserve("a", 1_000, 0, now=0.0)
    ledger.reserve("b", 500, 0, now=0.0)
    ledger.prefilled("a", now=2.0)
    assert ledger.queued_prefill_tokens(2.0, rate=1_000.0) == 500
    assert ledger.queued_prefill_tokens(2.2, rate=1_000.0) == pytest.approx(300)


def test_ending_another_prefill_leaves_the_credit_of_the_oldest() -> None:
    ledger = Ledger()
    ledger.reserve("a", 1_000, 0, now=0.0)
    ledger.reserve("b", 500, 0, now=0.0)
    ledger.release("b", now=0.5)
    assert ledger.queued_prefill_tokens(0.5, rate=1_000.0) == pytest.approx(500)


def test_an_unseen_prefill_becomes_a_decode_at_its_predicted_time() -> None:
    ledger = Ledger()
    ledger.reserve("unseen", 1_000, 50, now=0.0, prefilled_at=1.0)
    ledger.reserve("seen", 500, 50, now=0.0)
    ledger.reserve("behind", 200, 50, now=0.0, prefilled_at=1.5)
    assert ledger.queued_prefill_tokens(0.5, rate=1_000.0) == pytest.approx(1_200)
    assert ledger.queued_prefill_tokens(1.2, rate=1_000.0) == pytest.approx(500)
    assert ledger.decoding == 1
    assert ledger.queued_prefill_tokens(9.0, rate=1_000.0) == 200  # "seen" holds it up
    ledger.prefilled("seen", now=9.0)
    assert ledger.queued_prefill_tokens(9.0, rate=1_000.0) == 0
    assert ledger.decoding == 3
    ledger.release("unseen", now=9.5)
    assert (ledger.requests, ledger.decoding, ledger.output_tokens) == (2, 2, 100)


def test_a_clock_that_steps_back_never_adds_work() -> None:
    ledger = Ledger()
    ledger.reserve("a", 1_000, 0, now=10.0)
    assert ledger.queued_prefill_tokens(9.0, rate=1_000.0) == 1_000


def test_reports_are_idempotent_and_unknown_keys_are_ignored() -> None:
    ledger = Ledger()
    for _ in range(2):
        ledger.reserve("a", 10, 5, now=0.0)
    ledger.progressed("a", 3)  # not decoding yet
    assert (ledger.requests, ledger.prefill_tokens, ledger.output_tokens) == (1, 10, 5)
    for _ in range(2):
        ledger.prefilled("a", now=0.0)
        ledger.prefilled("unknown", now=0.0)
    assert ledger.decoding == 1
    for _ in range(2):
        ledger.release("a", now=0.0)
        ledger.release("unknown", now=0.0)
    assert ledger.requests == ledger.decoding == 0


def test_negative_reservations_are_refused() -> None:
    with pytest.raises(ValueError, match="-1 prefill tokens"):
        Ledger().reserve("a", -1, 0, now=0.0)
