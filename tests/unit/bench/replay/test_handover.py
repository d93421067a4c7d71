"""Split requests in virtual time."""

from dataclasses import replace

import pytest

from bench.fleet.settings import Timing
from bench.replay.engine import Engine, gap_bucket
from bench.replay.handover import Network
from bench.replay.job import Job
from bench.replay.outcome import Replay
from bench.replay.presets import EngineSettings
from bench.replay.settings import ReplaySettings
from bench.replay.simulation import Simulation, replay
from bench.replay.workload import Arrival, Workload
from bench.replay.workloads.decode_heavy import DecodeHeavy, decode_heavy
from routing.disaggregation import DisaggregationSettings
from routing.router import RouterSettings

ENGINE = EngineSettings(
    Timing(step_base=0.01, prefill_token=0.000_1, decode_sequence=0.0), cache_tokens=4_096
)


def settings(mode: str, *roles: str, **more: float) -> ReplaySettings:
    plain = ReplaySettings(
        endpoints=len(roles),
        engine=ENGINE,
        roles=roles,
        router=RouterSettings(disaggregation=DisaggregationSettings(mode=mode)),
        kv_bytes=1_000.0,
        link_rate=1e6,
        link_latency=0.005,
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def arrivals(count: int, prompt: int = 1_024, output: int = 20, apart: float = 1.0) -> Workload:
    return Workload(
        "test",
        tuple(
            Arrival(apart * number, prompt, output, tuple(range(8 * number, 8 * number + 8)))
            for number in range(count)
        ),
        512,
    )


def test_one_request_takes_prefill_transfer_and_one_step() -> None:
    played = replay(arrivals(1), "predicted_time", settings("always", "prefill", "decode"))
    one = played.requests[0]
    assert (one.prefill_endpoint, one.endpoint, one.moved_tokens) == (0, 1, 1_023)
    prefill = 0.01 + 1_024 * 0.000_1
    transfer = 1_023 * 1_000.0 / 1e6 + 0.005
    assert one.ttft == pytest.approx(prefill + transfer + 0.01 + 0.000_1)
    assert one.tpot == pytest.approx(0.01)


def test_what_the_decode_engine_holds_does_not_move() -> None:
    load = Workload("test", tuple(Arrival(9.0 * n, 1_024, 9, (1, 2)) for n in range(2)), 512)
    played = replay(load, "predicted_time", settings("always", "prefill", "decode"))
    first, second = played.requests
    assert (first.moved_tokens, second.moved_tokens) == (1_023, 511)


def test_kv_stays_pinned_until_it_is_read_and_then_it_is_free() -> None:
    simulation = Simulation(arrivals(5), "predicted_time", settings("always", "prefill", "decode"))
    simulation.run()
    engine = simulation.servers["engine-0"].engine
    assert engine.held_tokens == 0
    assert engine.cache.pinned == 0
    assert all(state.ledger.requests == 0 for state in simulation.router.fleet)


def test_kv_that_nobody_reads_in_time_is_dropped_and_computed_again() -> None:
    # The decode engine has room for one at a time, and each answer takes ten seconds.
    load = arrivals(3, prompt=2_560, output=1_000, apart=0.1)
    played = replay(load, "predicted_time", settings("always", "prefill", "decode", kv_lease=2.0))
    assert [one.expired for one in played.requests] == [False, True, True]
    assert all(one.finished_at is not None for one in played.requests)


def test_an_engine_full_of_kv_for_others_admits_nothing_until_it_is_freed() -> None:
    engine = Engine(ENGINE, 512)
    held = Job(0, tuple(range(6)), 3_072, 1, hold=True)
    engine.submit(held, 0.0)
    engine.complete()
    engine.submit(Job(1, tuple(range(10, 14)), 2_048, 5), 1.0)
    assert not engine.running
    engine.free(held, 2.0)
    engine.free(held, 2.0)
    assert [job.number for job in engine.running] == [1]
    assert engine.held_tokens == 0


def test_transfers_wait_for_both_sides() -> None:
    network = Network(settings("always", "both", "both"))
    assert network.move("a", "b", 1_000, 0.0) == pytest.approx(1.005)
    assert network.move("a", "c", 1_000, 0.0) == pytest.approx(2.005)
    assert network.move("d", "b", 1_000, 0.0) == pytest.approx(2.005)
    assert network.move("x", "y", 0, 3.0) == 3.0


def test_times_between_tokens_are_counted() -> None:
    played: Replay = replay(arrivals(1), "predicted_time", settings("never", "both"))
    assert sum(played.gaps.values()) == 19
    assert set(played.gaps) == {gap_bucket(0.01)}


@pytest.mark.parametrize("mode", ["never", "always", "threshold", "dynamo", "adaptive"])
def test_every_request_ends_in_every_mode(mode: str) -> None:
    load = decode_heavy(DecodeHeavy(20.0, 60, answer_median=60.0, most=900), seed=3)
    simulation = Simulation(load, "predicted_time", settings(mode, *["both"] * 3, link_rate=1e9))
    simulation.run()
    played = simulation.result(0.0)
    assert all(one.finished_at is not None for one in played.requests)
    assert any(one.prefill_endpoint >= 0 for one in played.requests) == (mode != "never") or (
        mode in {"dynamo", "adaptive"}
    )
    assert all(state.ledger.requests == 0 for state in simulation.router.fleet)


def test_the_decode_heavy_load_is_what_it_says() -> None:
    load = decode_heavy(DecodeHeavy(10.0, 500))
    assert load == decode_heavy(DecodeHeavy(10.0, 500))
    assert load != decode_heavy(DecodeHeavy(10.0, 500), seed=1)
    assert load.arrivals[-1].at == pytest.approx(50.0, rel=0.2)
    prompts = sorted(one.prompt_tokens for one in load.arrivals)
    answers = sorted(one.output_tokens for one in load.arrivals)
    assert prompts[250] == pytest.approx(900, rel=0.15)
    assert answers[250] == pytest.approx(1_500, rel=0.15)
    with pytest.raises(ValueError, match="rate is 0"):
        decode_heavy(DecodeHeavy(0.0, 5))
