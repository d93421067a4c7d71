"""What the requests in flight fill an endpoint's KV cache with."""

from random import Random

import pytest

from routing.ledger import Ledger


def test_context_is_prompt_and_produced_tokens_until_the_end() -> None:
    ledger = Ledger()
    ledger.reserve("a", 200, 50, 0.0, prompt_tokens=1_000)
    ledger.reserve("a", 200, 50, 0.0, prompt_tokens=9_000)  # known already
    ledger.reserve("b", 10, 50, 0.0, prompt_tokens=30)
    assert ledger.context_tokens == 1_030
    ledger.progressed("a", 5)  # not decoding: late, and ignored
    assert ledger.context_tokens == 1_030
    ledger.prefilled("a", 1.0)
    ledger.progressed("a", 20)
    ledger.progressed("a", 10)  # fewer than before
    ledger.progressed("a", 90)  # more than expected
    assert ledger.context_tokens == 1_120
    ledger.release("b", 2.0)
    ledger.release("a", 2.0)
    ledger.release("a", 2.0)
    assert ledger.context_tokens == 0


def test_a_prompt_that_nobody_told_counts_nothing() -> None:
    ledger = Ledger()
    ledger.reserve("a", 200, 50, 0.0)
    ledger.prefilled("a", 1.0)
    ledger.progressed("a", 7)
    assert ledger.context_tokens == 7


def test_a_negative_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="-1 prompt tokens"):
        Ledger().reserve("a", 0, 0, 0.0, prompt_tokens=-1)


def test_any_order_of_reports_comes_back_to_nothing() -> None:
    random, ledger = Random(3), Ledger()
    for step in range(5_000):
        key = random.randrange(8)
        match random.randrange(4):
            case 0:
                prompt = random.randrange(5_000)
                ledger.reserve(key, 10, 100, float(step), prompt_tokens=prompt)
            case 1:
                ledger.prefilled(key, float(step))
            case 2:
                ledger.progressed(key, random.randrange(300))
            case _:
                ledger.release(key, float(step))
        assert ledger.context_tokens >= 0
        assert ledger.requests > 0 or ledger.context_tokens == 0
