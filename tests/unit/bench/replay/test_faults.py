"""What goes wrong in a replay, and that it shows where it should."""

from collections import Counter

import pytest

from bench.replay.faults import FAULTS, Fault, fault, with_siblings
from bench.replay.outcome import RequestOutcome
from bench.replay.simulation import ReplaySettings, Simulation, replay
from bench.replay.workload import Arrival, Workload

SIZE = 512


def workload(count: int = 150, gap: float = 0.2, output: int = 50) -> Workload:
    """Ten prefixes of eight blocks, asked in turn."""
    arrivals = tuple(
        Arrival(
            number * gap,
            8 * SIZE + 100,
            output,
            (*range(number % 10 * 100, number % 10 * 100 + 8), 10_000 + number),
        )
        for number in range(count)
    )
    return Workload("turns", arrivals, SIZE)


def played(fault: Fault, *, endpoints: int = 4, gap: float = 0.2) -> Simulation:
    settings = ReplaySettings(endpoints=endpoints, fault=fault)
    simulation = Simulation(workload(gap=gap), "predicted_time", settings)
    simulation.run()
    return simulation


def outcomes(simulation: Simulation) -> list[RequestOutcome]:
    return simulation.result(0.0).requests


@pytest.mark.parametrize("name", FAULTS)
def test_traffic_goes_on_under_every_fault(name: str) -> None:
    simulation = played(fault(name))
    found = outcomes(simulation)
    finished = sum(request.finished_at is not None for request in found)
    assert finished >= len(found) - 10  # a restart costs what streams there
    for state in simulation.router.fleet:
        assert state.ledger.requests == 0
    assert outcomes(played(fault(name))) == found


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown fault 'rain'.*lost_events"):
        fault("rain")


def test_with_a_wrong_tokenizer_reports_say_nothing() -> None:
    right, wrong = (outcomes(played(one, gap=1.0)) for one in (Fault(""), fault("wrong_tokenizer")))
    assert sum(r.predicted_cached for r in wrong) < 0.5 * sum(r.predicted_cached for r in right)


def test_a_restarted_engine_has_lost_its_cache_and_its_streams() -> None:
    simulation = Simulation(
        workload(gap=0.05, output=400),
        "round_robin",
        ReplaySettings(endpoints=2, fault=FAULTS["restart"]),
    )
    at = 0.5 * workload(gap=0.05).arrivals[-1].at
    held: list[int] = []
    simulation.timeline.at(at - 1e-6, lambda: held.append(len(simulation.servers.first.flights)))
    simulation.run()
    found = outcomes(simulation)
    lost = [request for request in found if request.finished_at is None]
    assert lost and held[0] > len(lost)  # the others had no token yet and went elsewhere
    assert all(request.first_token_at is not None for request in lost)
    assert {request.endpoint for request in lost} == {0}
    after = [r for r in found if r.endpoint == 0 and r.arrived_at > at]
    assert after[0].cached == 0
    assert after[-1].cached > 0


def test_a_wiped_cache_costs_hits_once() -> None:
    calm, wiped = (
        outcomes(played(one, endpoints=1)) for one in (Fault(""), FAULTS["cleared_cache"])
    )
    misses = [sum(request.cached == 0 for request in found) for found in (calm, wiped)]
    assert misses[0] == 10
    assert misses[1] > misses[0]
    assert [r.predicted_cached for r in wiped[-10:]] == [r.cached for r in wiped[-10:]]


def test_a_slow_endpoint_gets_less() -> None:
    counts = Counter(request.endpoint for request in outcomes(played(Fault("", slow=6.0))))
    assert counts[0] < 0.6 * min(counts[place] for place in (1, 2, 3))


def test_mixed_hardware_is_labelled_and_fast_endpoints_get_more() -> None:
    simulation = played(Fault("", fast_half=3.0))
    assert set(simulation.router.fleet.pools) == {"fast", "slow"}
    counts = Counter(request.endpoint for request in outcomes(simulation))
    assert counts[1] + counts[3] > counts[0] + counts[2]


def test_wrong_initial_times_are_unlearned() -> None:
    settings = ReplaySettings(endpoints=2, fault=FAULTS["wrong_times"])
    plain = Simulation(workload(), "predicted_time", ReplaySettings(endpoints=2))
    simulation = Simulation(workload(), "predicted_time", settings)
    (state, *_), (other, *_) = list(simulation.router.fleet), list(plain.router.fleet)
    assert state.timing.prefill.slope == pytest.approx(3 * other.timing.prefill.slope)
    assert state.timing.decode.fixed == pytest.approx(3 * other.timing.decode.fixed)
    simulation.run()
    assert state.timing.prefill.slope < 200e-6  # from 375 us to about 70 us


def test_frozen_metrics_are_as_old_as_they_do_not_look() -> None:
    settings = ReplaySettings(
        endpoints=1, fault=Fault("", frozen_at=0.5, frozen_seconds=5.0), scrape_interval=0.5
    )
    simulation = Simulation(workload(), "round_robin", settings)
    (state,) = simulation.router.fleet
    seen: list[tuple[float, float | None]] = []

    def look() -> None:
        assert state.load is not None
        seen.append((state.load.at, state.load.prefix_queried_tokens))
        simulation.timeline.at(simulation.timeline.now + 0.5, look)

    simulation.timeline.at(0.25, look)
    simulation.run()
    froze = 0.5 * workload().arrivals[-1].at
    during = [(at, queried) for at, queried in seen if froze <= at < froze + 5.0]
    assert len(during) == 10
    assert len({at for at, _ in during}) == 10
    assert len({queried for _, queried in during}) == 1
    assert len({queried for at, queried in seen if at < 0.9 * froze}) > 10


def test_siblings_come_at_once_with_one_new_prefix() -> None:
    calm = workload()
    found = with_siblings(calm, 8, 5.0, seed=3)
    own = [one for one in found.arrivals if one.prompt_tokens == 12 * SIZE + 200]
    bursts = Counter(one.at for one in own)
    assert len(own) + len(calm.arrivals) == len(found.arrivals)
    assert len(bursts) >= 5 and set(bursts.values()) == {8}
    assert [one.at for one in found.arrivals] == sorted(one.at for one in found.arrivals)
    for at in bursts:
        together = [one.blocks for one in own if one.at == at]
        assert len({blocks[:12] for blocks in together}) == 1
        assert len({blocks[12] for blocks in together}) == 8
    assert len({one.blocks for one in own}) == len(own)
    with pytest.raises(ValueError, match="must be positive"):
        with_siblings(calm, 0, 5.0, seed=3)


def test_siblings_arrive_together_whatever_the_seed() -> None:
    settings = ReplaySettings(seed=2, fault=Fault("", siblings=16, siblings_every=10.0))
    found = replay(workload(), "predicted_time", settings).requests
    own = [request for request in found if request.prompt_tokens == 12 * SIZE + 200]
    assert own
    for burst in range(0, len(own), 16):
        times = [request.arrived_at for request in own[burst : burst + 16]]
        assert times[-1] - times[0] < 0.2
