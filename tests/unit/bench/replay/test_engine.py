"""What the replayed engine does with its sequences, by hand."""

from math import inf

import pytest

from bench.fleet.settings import Behaviour, ServerSettings, Timing
from bench.replay.engine import Engine
from bench.replay.job import Job
from bench.replay.presets import PRESETS, EngineSettings, like, preset

SIZE = 4
TIMING = Timing(step_base=1.0, prefill_token=0.5, decode_sequence=0.25, decode_context=0.125)


def engine_of(
    blocks: int = 100,
    *,
    batched: int = 64,
    sequences: int = 8,
    cpu_blocks: int = 0,
    peer_rate: float = 0.0,
    peer_blocks: int = 0,
) -> Engine:
    settings = EngineSettings(
        TIMING,
        cache_tokens=blocks * SIZE,
        max_batched_tokens=batched,
        max_sequences=sequences,
        cpu_cache_tokens=cpu_blocks * SIZE,
        cpu_load_rate=8.0,
        peer_rate=peer_rate,
    )
    return Engine(settings, SIZE, peers=lambda chain: min(len(chain), peer_blocks))


def run(engine: Engine, until: float = inf) -> tuple[dict[int, float], dict[int, float], list[Job]]:
    """First tokens and ends by request, and the requests in the order of their ends."""
    first: dict[int, float] = {}
    ends: dict[int, float] = {}
    ended = []
    while engine.wake_at < inf and engine.wake_at <= until:
        now = engine.wake_at
        began, done = engine.complete()
        first.update((job.number, now) for job in began)
        ends.update((job.number, now) for job in done)
        ended += done
    return first, ends, ended


def test_one_request_takes_a_prefill_and_then_a_step_for_each_token() -> None:
    engine = engine_of()
    engine.submit(Job(0, (1, 2), 10, 4), 3.0)
    first, ends, _ = run(engine)
    assert first == {0: 3.0 + 1.0 + 10 * 0.5}
    # Three more tokens, over contexts of 10, 11 and 12 tokens.
    assert ends[0] == pytest.approx(first[0] + 3 * 1.25 + 0.125 * (10 + 11 + 12))
    assert engine.wake_at == inf


def test_a_single_token_is_first_and_last() -> None:
    engine = engine_of()
    engine.submit(Job(0, (), 3, 1), 0.0)
    assert run(engine)[:2] == ({0: 2.5}, {0: 2.5})


def test_a_prompt_longer_than_the_budget_is_computed_in_chunks() -> None:
    engine = engine_of(batched=16)
    engine.submit(Job(0, tuple(range(10)), 40, 1), 0.0)
    assert run(engine)[0] == {0: 3 * 1.0 + 40 * 0.5}


def test_who_comes_while_others_decode_is_admitted_at_the_next_step() -> None:
    engine = engine_of()
    engine.submit(Job(0, (), 2, 100), 0.0)
    run(engine, until=2.0)
    assert engine.decoding == 1
    lone_step = 1.25 + 0.125 * 2  # the first decoding step begins at 2.0
    engine.submit(Job(1, (), 2, 1), 2.1)
    assert engine.wake_at == 2.0 + lone_step
    first, _, _ = run(engine)
    assert first[1] == pytest.approx(2.0 + lone_step + 1.25 + 0.125 * 3 + 2 * 0.5)


def test_what_was_computed_is_found_by_who_comes_later() -> None:
    engine = engine_of()
    engine.submit(Job(0, (1, 2, 3), 14, 1), 0.0)
    run(engine)
    assert engine.matched((1, 2, 9), 13) == 8
    assert engine.matched((1, 2, 3), 12) == 8  # one token at least must be computed
    job = Job(1, (1, 2, 9), 13, 1)
    engine.submit(job, 20.0)
    assert run(engine)[0] == {1: 20.0 + 1.0 + 5 * 0.5}
    assert job.cached_tokens == 8


def test_siblings_share_a_prefix_within_one_step() -> None:
    engine = engine_of(batched=64)
    engine.submit(Job(9, (), 1, 1), 0.0)  # what comes during its step starts together
    siblings = [Job(n, (1, 2, 3), 13 + n, 1) for n in range(3)]
    for job in siblings:
        engine.submit(job, 0.1)
    assert engine.prefill_tokens == 1 + 13 + 14 + 15  # before one of them has begun
    first, _, _ = run(engine)
    assert [job.cached_tokens for job in siblings] == [0, 12, 12]
    assert {first[n] for n in range(3)} == {1.5 + 1.0 + (13 + 2 + 3) * 0.5}


def test_the_last_admitted_gives_way_and_keeps_what_it_produced() -> None:
    engine = engine_of(blocks=7)
    old, young = Job(0, (1, 2), 8, 16), Job(1, (5, 6), 8, 16)
    engine.submit(old, 0.0)
    engine.submit(young, 0.0)
    _, _, ended = run(engine)
    assert ended == [old, young]
    assert (old.preemptions, young.preemptions, engine.preemptions) == (0, 1, 1)
    assert young.generated == 16
    assert young.cached_tokens == 0  # of its first admission
    assert engine.cache.pinned == 0


def test_a_wiped_cache_is_computed_again() -> None:
    engine = engine_of()
    job = Job(0, (1, 2), 9, 10)
    engine.submit(job, 0.0)
    run(engine, until=5.5)
    engine.reset_cache(5.6)
    assert len(engine.cache) == 2  # the step that runs is not disturbed
    first, ends, _ = run(engine)
    assert first == {}
    assert (job.preemptions, list(ends)) == (1, [0])
    engine.reset_cache(100.0)
    assert len(engine.cache) == 0
    assert engine.wake_at == inf


def test_the_cpus_memory_gives_back_what_was_evicted_while_others_decode() -> None:
    engine = engine_of(blocks=6, cpu_blocks=20)
    engine.submit(Job(0, (1, 2, 3), 13, 1), 0.0)
    run(engine)
    engine.submit(Job(1, (11, 12, 13, 14, 15), 21, 1), 10.0)  # takes all blocks
    run(engine)
    job = Job(2, (1, 2, 3), 13, 1)
    engine.submit(job, 30.0)
    # Two of its three blocks were evicted from the GPU: 8 tokens at 8 tokens/s, then one step.
    loads = job.ready_at - 30.0
    assert loads in (1.0, 1.5)
    first, _, _ = run(engine)
    assert job.cached_tokens == 12
    assert first == {2: 30.0 + loads + 1.0 + 1 * 0.5}


@pytest.mark.parametrize(("rate", "fetched"), [(0.0, 0), (1.0, 0), (16.0, 8)])
def test_peers_are_asked_where_that_is_faster_than_computing(rate: float, fetched: int) -> None:
    engine = engine_of(peer_rate=rate, peer_blocks=2)
    job = Job(0, (1, 2, 3), 14, 1)
    engine.submit(job, 0.0)
    first, _, _ = run(engine)
    assert job.cached_tokens == fetched
    loading = fetched / rate if fetched else 0.0
    assert first == {0: loading + 1.0 + (14 - fetched) * 0.5}
    assert engine.matched((1, 2, 3), 14) == 12


def test_a_slow_engine_takes_longer_for_everything() -> None:
    engine = engine_of()
    engine.time_scale = 3.0
    engine.submit(Job(0, (), 10, 1), 0.0)
    assert run(engine)[0] == {0: 18.0}


def test_progress_is_counted_in_the_middle_of_a_stretch() -> None:
    engine = engine_of()
    job = Job(7, (), 2, 50)
    engine.submit(job, 0.0)
    assert engine.produced(1.0) == []
    run(engine, until=2.0)
    step = 1.25 + 0.125 * 2
    assert engine.produced(2.0) == [(job, 1)]
    assert engine.produced(2.0 + step) == [(job, 2)]
    assert engine.produced(2.0 + 2 * step) == [(job, 2)]  # the second is an eighth longer
    assert engine.produced(2.0 + 2 * step + 0.125) == [(job, 3)]


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (Job(3, (), 300, 101), "request 3 .* needs 101 blocks of 4 tokens.*hold 100"),
        (Job(3, (), 0, 1), "at least one token"),
        (Job(3, (), 1, 0), "at least one token"),
    ],
)
def test_what_can_never_run_is_refused(job: Job, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        engine_of().submit(job, 0.0)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"max_sequences": 0}, "max_sequences is 0"),
        ({"max_batched_tokens": 100}, "max_batched_tokens is 100"),
        ({"cache_tokens": 0}, "cache_tokens is 0"),
        ({"peer_rate": -1.0}, "peer_rate"),
        ({"cpu_load_rate": 0.0}, "cpu_load_rate"),
    ],
)
def test_engines_that_make_no_sense_are_refused(changed: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EngineSettings(**{"timing": TIMING, "cache_tokens": 1_000, **changed})  # type: ignore[arg-type]


def test_presets_are_found_by_name() -> None:
    studied = preset("70b-h100x4")
    assert studied.cache_tokens // 512 == 901
    assert studied.timing.prefill_token == 70e-6
    with pytest.raises(ValueError, match=r"unknown preset 'b'.*70b-h100x4"):
        preset("b")
    assert all(one.cache_tokens >= 200_000 for one in PRESETS.values())


def test_a_simulated_server_has_an_engine_of_its_like() -> None:
    server = ServerSettings(
        cache_tokens=5_000, max_num_seqs=7, behaviour=Behaviour(timing=TIMING, time_scale=0.5)
    )
    found = like(server)
    assert (found.cache_tokens, found.max_sequences, found.max_batched_tokens) == (5_000, 7, 2_048)
    assert found.timing.prefill_token == TIMING.prefill_token / 2
    assert found.cpu_load_rate == server.behaviour.cpu_load_rate * 2
