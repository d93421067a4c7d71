"""Continuous batching: who computes what in a step, and how long it takes."""

from collections.abc import Iterable

import pytest

from bench.fleet.engine.output import NOTHING, Output
from bench.fleet.engine.scheduler import Engine
from bench.fleet.engine.sequence import Sequence
from bench.fleet.engine.tokens import tokens_of
from bench.fleet.settings import Behaviour, ServerSettings, Timing

TIMING = Timing(step_base=1.0, prefill_token=0.01, decode_sequence=0.1)


class Bench:
    """An engine whose steps the test makes, with blocks of four tokens."""

    def __init__(
        self,
        *,
        blocks: int = 100,
        budget: int = 32,
        seqs: int = 8,
        max_loras: int = 1,
        cpu_blocks: int = 0,
        behaviour: Behaviour | None = None,
    ) -> None:
        self.engine = Engine(
            ServerSettings(
                block_size=4,
                cache_tokens=4 * blocks,
                cpu_cache_tokens=4 * cpu_blocks,
                max_batched_tokens=budget,
                max_num_seqs=seqs,
                max_loras=max_loras,
                behaviour=behaviour or Behaviour(timing=TIMING),
            )
        )
        self.now = 0.0

    def submit(
        self,
        tokens: Iterable[int],
        answer: int = 1,
        *,
        model: str = "base",
        salt: str | None = None,
    ) -> Sequence:
        """Queue a prompt that wants so many tokens; 0 only pools."""
        output = Output((1000, 1001, 1002, 1003), answer, "stop") if answer else NOTHING
        sequence = Sequence(
            prompt=tokens_of(tokens),
            output=output,
            model=model,
            adapter=model != "base",
            arrival=self.now,
            block_size=4,
            cache_salt=salt,
        )
        self.engine.submit(sequence)
        return sequence

    def step(self) -> dict[Sequence, int]:
        """Make one step; what was computed in it."""
        start = self.engine.ready_at(self.now)
        step = self.engine.start(start)
        self.now = start + step.seconds
        self.engine.complete(step, self.now)
        return dict(step.work)

    def run(self) -> None:
        """Make steps until nothing is left."""
        for _ in range(1000):
            if not self.engine.busy:
                return
            self.step()
        pytest.fail("the engine never gets done")


def test_a_prompt_is_prefilled_in_chunks_of_the_budget_and_then_decodes() -> None:
    bench = Bench(budget=10)
    sequence = bench.submit(range(25), answer=3)
    assert [bench.step()[sequence] for _ in range(5)] == [10, 10, 5, 1, 1]
    assert sequence.finish == "stop"
    assert sequence.generated == 3


def test_sequences_that_decode_go_before_prefill() -> None:
    bench = Bench(budget=10)
    first = bench.submit(range(4), answer=5)
    bench.step()
    second = bench.submit(range(100, 130), answer=1)
    assert bench.step() == {first: 1, second: 9}
    assert bench.step() == {first: 1, second: 9}


def test_a_step_takes_what_its_work_costs() -> None:
    bench = Bench(budget=10)
    bench.submit(range(4), answer=5)
    bench.step()
    assert bench.now == pytest.approx(1.0 + 4 * 0.01)
    bench.submit(range(100, 130), answer=1)
    before = bench.now
    bench.step()
    assert bench.now - before == pytest.approx(1.0 + 9 * 0.01 + 0.1)


def test_attention_costs_by_the_length_of_the_context() -> None:
    timing = Timing(step_base=0, prefill_token=0, decode_sequence=0, prefill_context=1)
    bench = Bench(budget=10, behaviour=Behaviour(timing=timing))
    bench.submit(range(20), answer=1)
    bench.step()
    assert bench.now == pytest.approx(10 * 5)
    bench.step()
    assert bench.now == pytest.approx(10 * 5 + 10 * 15)


def test_time_scale_and_load_factor_multiply_a_step() -> None:
    behaviour = Behaviour(timing=TIMING, time_scale=0.1, time_factor_under_load=3.0)
    bench = Bench(seqs=3, behaviour=behaviour)
    for start in (0, 100, 200):
        bench.submit(range(start, start + 4), answer=1)
    bench.step()
    assert bench.now == pytest.approx((1.0 + 12 * 0.01) * 3.0 * 0.1)


def test_jitter_repeats_with_the_seed_and_stays_within_bounds() -> None:
    def times() -> list[float]:
        bench = Bench(behaviour=Behaviour(timing=TIMING, jitter=0.3))
        bench.submit(range(4), answer=200)
        bench.run()
        histogram = bench.engine.stats.inter_token_latency
        return [bench.now, histogram.sum, *histogram.counts]

    assert times() == times()
    assert 0.3 * 200 < times()[0] < 1.7 * 1.1 * 200


def test_a_prefix_that_was_computed_before_is_not_computed_again() -> None:
    bench = Bench()
    bench.submit(range(20))
    bench.run()
    again = bench.submit([*range(18), 99, 98])
    assert bench.step()[again] == 4
    assert again.cached_tokens == 16


def test_of_a_fully_cached_prompt_at_least_one_token_is_computed() -> None:
    bench = Bench()
    bench.submit(range(16))
    bench.run()
    again = bench.submit(range(16))
    assert bench.step()[again] == 4
    assert again.cached_tokens == 12


def test_a_sibling_in_the_same_step_finds_the_prefix() -> None:
    bench = Bench()
    bench.submit(range(16))
    sibling = bench.submit([*range(12), 99])
    bench.step()
    assert sibling.cached_tokens == 12


def test_an_answer_is_found_by_the_prompt_that_continues_it() -> None:
    bench = Bench()
    first = bench.submit(range(8), answer=9)
    bench.run()
    turn = bench.submit([*range(8), *(first.output.token(i) for i in range(9)), 7, 7])
    bench.run()
    assert turn.cached_tokens == 16


@pytest.mark.parametrize(("model", "salt"), [("ada", None), ("base", "tenant-1")])
def test_another_model_or_salt_shares_nothing(model: str, salt: str | None) -> None:
    bench = Bench()
    bench.submit(range(20))
    bench.run()
    other = bench.submit(range(20), model=model, salt=salt)
    bench.run()
    assert other.cached_tokens == 0


def test_a_prompt_waits_until_there_are_blocks_for_all_of_it() -> None:
    bench = Bench(blocks=6)
    first = bench.submit(range(16), answer=3)
    second = bench.submit(range(100, 112))
    bench.step()
    assert bench.engine.waiting[0] is second
    assert bench.engine.cache.pinned == 4
    bench.run()
    assert first.preemptions == 0
    assert second.scheduled_at == first.last_token_at


def test_the_batch_is_limited_and_the_queue_is_served_in_order() -> None:
    bench = Bench(seqs=2)
    sequences = [bench.submit(range(i * 100, i * 100 + 4), answer=2) for i in range(5)]
    order: list[Sequence] = []
    while bench.engine.busy:
        work = bench.step()
        assert len(work) <= 2
        order += [sequence for sequence in work if sequence not in order]
    assert order == sequences


def test_an_answer_that_finds_no_block_takes_it_from_the_last_admitted() -> None:
    bench = Bench(blocks=5)
    first = bench.submit(range(8), answer=10)
    last = bench.submit(range(100, 108), answer=4)
    bench.run()
    assert (first.preemptions, last.preemptions) == (0, 1)
    assert (first.generated, last.generated) == (10, 4)
    assert bench.engine.stats.preemptions == 1
    assert last.cached_tokens == 0  # what the first admission found, not the second


def test_an_abort_frees_blocks_and_slot_at_once_even_during_a_step() -> None:
    bench = Bench(seqs=1)
    sequence = bench.submit(range(20), answer=5)
    step = bench.engine.start(0.0)
    bench.engine.abort(sequence, 0.5)
    assert bench.engine.cache.pinned == 0
    bench.engine.complete(step, 1.0)
    assert (sequence.finish, sequence.generated) == ("abort", 0)
    assert not bench.engine.busy
    assert bench.engine.stats.finished == {"abort": 1}


def test_an_abort_while_waiting_leaves_the_queue() -> None:
    bench = Bench(seqs=1)
    bench.submit(range(4), answer=3)
    waiting = bench.submit(range(4), answer=3)
    bench.step()
    bench.engine.abort(waiting, bench.now)
    assert not bench.engine.waiting
    bench.engine.abort(waiting, bench.now)  # twice is once
    assert bench.engine.stats.finished["abort"] == 1


def test_who_arrives_during_a_step_waits_for_the_next() -> None:
    bench = Bench()
    first = bench.submit(range(4), answer=4)
    bench.step()
    bench.now += 0.2  # in the middle of the coming step
    late = bench.submit(range(100, 104))
    bench.now -= 0.2
    assert bench.step() == {first: 1}
    assert late in bench.step()


def test_an_adapter_without_a_slot_waits_and_lets_others_pass() -> None:
    bench = Bench(max_loras=1)
    one = bench.submit(range(4), answer=2, model="one")
    two = bench.submit(range(4), answer=1, model="two")
    base = bench.submit(range(4), answer=1)
    assert set(bench.step()) == {one, base}
    assert bench.engine.running_adapters() == {"one"}
    assert bench.engine.waiting_adapters() == {"two"}
    bench.run()
    assert two.finish == "stop"


def test_a_pooled_prompt_generates_nothing() -> None:
    bench = Bench()
    sequence = bench.submit(range(8), answer=0)
    bench.run()
    assert (sequence.finish, sequence.generated) == ("stop", 0)
    assert bench.engine.stats.generation_tokens == 0
    assert bench.engine.stats.time_to_first_token.count == 0


def test_the_counters_tell_what_happened() -> None:
    bench = Bench()
    bench.submit(range(20), answer=3)
    bench.run()
    bench.submit(range(20), answer=2)
    bench.run()
    stats = bench.engine.stats
    assert (stats.prompt_tokens, stats.generation_tokens) == (40, 5)
    assert (stats.prefix_queried_tokens, stats.prefix_hit_tokens) == (40, 16)
    assert stats.finished == {"stop": 2}
    assert stats.time_to_first_token.count == 2
    assert stats.time_to_first_token.sum == pytest.approx(1.0 + 20 * 0.01 + 1.0 + 4 * 0.01)
    assert stats.inter_token_latency.count == 3
    assert stats.inter_token_latency.sum == pytest.approx(3 * 1.1)
    assert stats.end_to_end.sum == pytest.approx(bench.now)
    assert stats.queue.sum == 0.0


def test_what_was_evicted_is_loaded_instead_of_computed_again() -> None:
    timing = Behaviour(timing=TIMING, cpu_load_rate=100.0)
    bench = Bench(blocks=6, cpu_blocks=6, behaviour=timing)
    bench.submit(range(17))
    bench.submit(range(100, 117))
    bench.run()
    again = bench.submit(range(17))
    start = bench.now
    assert bench.step() == {again: 1}
    # All but one of the four blocks had left the GPU: twelve tokens at 100 a second.
    assert (again.cached_tokens, again.loaded_tokens) == (16, 12)
    assert bench.now - start == pytest.approx(1.0 + 0.01 + 12 / 100.0)
    stats = bench.engine.stats
    assert (stats.prefix_queried_tokens, stats.prefix_hit_tokens) == (51, 4)
    assert (stats.external_queried_tokens, stats.external_hit_tokens) == (47, 12)
    assert stats.prompt_tokens_cached == 16


def test_without_a_second_tier_it_is_computed_again() -> None:
    bench = Bench(blocks=6)
    bench.submit(range(17))
    bench.submit(range(100, 117))
    bench.run()
    again = bench.submit(range(17))
    bench.run()
    assert (again.cached_tokens, again.loaded_tokens) == (4, 0)
    assert bench.engine.stats.external_queried_tokens == 0
