import pytest

from routing.assigned import Assigned, Segment
from tests.support.slates import chain_of


def test_the_window_adds_up_and_forgets() -> None:
    record = Assigned(window=10.0, capacity=100)
    record.assign(0.2, 100.0, 5.0)
    record.assign(0.9, 50.0, 5.0)
    record.assign(6.0, 1.0, 2.0)
    record.expire(9.9)
    assert (record.prefill_tokens, record.output_tokens, record.requests) == (151.0, 12.0, 3)
    record.expire(12.0)
    assert (record.prefill_tokens, record.output_tokens, record.requests) == (1.0, 2.0, 1)
    record.expire(99.0)
    assert (record.prefill_tokens, record.output_tokens, record.requests) == (0.0, 0.0, 0)


def test_it_holds_the_prefixes_of_what_was_stored() -> None:
    record = Assigned(10.0, capacity=100)
    stem = chain_of("stem", 20)
    left, right = chain_of("l", 7, after=stem), chain_of("r", 9, after=stem[:13])
    record.store(left, 0.0)
    record.store(right, 0.0)
    assert record.blocks == 27 + 9
    assert [record.held(left[:size]) for size in (0, 1, 26, 27)] == [0, 1, 26, 27]
    assert record.held(right) == 22
    assert record.held(chain_of("x", 5, after=stem[:11])) == 11
    assert record.held(chain_of("y", 5)) == 0


def test_the_least_recently_used_goes_first_and_never_before_what_continues_it() -> None:
    record = Assigned(10.0, capacity=40)
    stem = chain_of("stem", 10)
    for name in "abc":
        record.store(chain_of(name, 10, after=stem), 0.0)
    assert [len(segment.hashes) for segment in record.victims(5)] == [10]
    assert record.victims(0) == []
    record.store(chain_of("new", 15), 1.0)  # displaces b and c's own blocks, not a's with stem
    assert record.held(chain_of("a", 10, after=stem)) in (10, 20)
    assert record.blocks <= 40
    record.store(chain_of("d", 10, after=stem), 2.0)
    assert record.held(chain_of("d", 10, after=stem)) == 20
    assert record.blocks <= 40


@pytest.mark.parametrize("capacity", [0, 1, 5])
def test_a_prompt_larger_than_the_cache_is_held_in_part(capacity: int) -> None:
    record = Assigned(10.0, capacity)
    for number in range(5):
        record.store(chain_of(number, 30), 0.0)
        assert record.blocks == record.held(chain_of(number, 30)) == capacity


def test_uses_are_counted_over_a_sliding_window() -> None:
    segment = Segment(None, chain_of(0, 1), 0.0)
    for at in (0.0, 1.0, 2.0, 9.0):
        segment.use(at, 10.0)
    assert segment.uses(9.5, 10.0) == 4
    segment.use(11.0, 10.0)
    assert segment.uses(15.0, 10.0) == pytest.approx(1 + 4 * 0.5)
    assert segment.uses(20.0, 10.0) == pytest.approx(1)
    assert segment.uses(45.0, 10.0) == 0
