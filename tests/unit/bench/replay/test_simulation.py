"""The replay as a whole: real router, simulated engines, virtual time."""

import gc
from random import Random

import pytest

from bench.replay.outcome import Replay
from bench.replay.simulation import ReplaySettings, Simulation, replay
from bench.replay.workload import Arrival, Workload
from routing.policies import POLICIES
from routing.policies.policy import Choice, Policy, Slate
from routing.policies.predicted_time import PredictedTime
from routing.policies.round_robin import RoundRobin
from routing.request import Request

SIZE = 512
EVERY_POLICY = [*POLICIES, "clairvoyant"]


def chats(
    count: int = 120, gap: float = 0.4, seed: int = 1, users: int = 12, prompt: int = 4
) -> Workload:
    """Conversations that grow by two blocks a turn behind a system prompt that all share."""
    dice = Random(seed)
    turns = [0] * users
    arrivals = []
    for number in range(count):
        user = dice.randrange(users)
        turns[user] = turns[user] % 12 + 1
        own = range(1_000 * (user + 1), 1_000 * (user + 1) + turns[user] * 2)
        blocks = (*range(prompt), *own, 1_000_000 + number)
        tokens = (len(blocks) - 1) * SIZE + dice.randrange(1, SIZE)
        arrivals.append(Arrival(number * gap, tokens, dice.randrange(1, 200), blocks))
    return Workload("chats", tuple(arrivals), SIZE)


def one(prompt: int, output: int) -> Workload:
    return Workload("one", (Arrival(0.0, prompt, output, (1, 2, 3)),), SIZE)


@pytest.mark.parametrize("policy", EVERY_POLICY)
def test_every_policy_serves_everybody_and_the_same_way_again(policy: str) -> None:
    settings = ReplaySettings(endpoints=4)
    simulation = Simulation(chats(), policy, settings)
    simulation.run()
    found = simulation.result(0.0)
    assert found.policy == policy
    assert len(found.requests) == 120
    for request in found.requests:
        assert request.first_token_at is not None and request.finished_at is not None
        assert request.arrived_at < request.first_token_at <= request.finished_at
        assert 0 <= request.cached < request.prompt_tokens
        assert 0 <= request.endpoint < 4
    for state in simulation.router.fleet:
        assert state.ledger.requests == state.ledger.prefill_tokens == 0
    again = replay(chats(), policy, settings)
    assert again.requests == found.requests
    assert again.samples == found.samples


def test_a_seed_moves_arrivals_but_keeps_their_order() -> None:
    runs = [replay(chats(40), "round_robin", ReplaySettings(seed=seed)) for seed in (0, 1)]
    times = [[request.arrived_at for request in run.requests] for run in runs]
    assert times[0] != times[1]
    for found in times:
        assert found == sorted(found)
        assert all(0.0 <= at - 0.4 * n <= 0.2 for n, at in enumerate(found))
    assert [r.prompt_tokens for r in runs[0].requests] == [
        r.prompt_tokens for r in runs[1].requests
    ]


def test_times_are_the_engines() -> None:
    (found,) = replay(one(1_300, 5), "predicted_time", ReplaySettings(endpoints=1)).requests
    prefill = 0.014 + 1_300 * 70e-6 + 1.3e-9 * 1_300 * 650
    steps = 4 * (0.014 + 60e-6) + 35e-9 * (1_300 + 1_301 + 1_302 + 1_303)
    assert found.ttft == pytest.approx(prefill)
    assert found.finished_at == pytest.approx(prefill + steps)
    assert found.tpot == pytest.approx(steps / 4)


def test_speed_is_what_arrivals_are_divided_by() -> None:
    slow, fast = (
        replay(chats(30), "round_robin", ReplaySettings(speed=speed)) for speed in (1.0, 4.0)
    )
    ends = [run.requests[-1].arrived_at for run in (slow, fast)]
    assert ends[0] == pytest.approx(4 * ends[1])


def test_with_cache_events_what_is_expected_is_what_is_found() -> None:
    """While little goes on at once: there is time to report."""
    found = replay(chats(gap=3.0), "predicted_time", ReplaySettings(endpoints=3)).requests
    assert [request.predicted_cached for request in found] == [request.cached for request in found]
    assert sum(request.cached for request in found) > 0


def test_without_events_the_router_goes_by_what_it_sent() -> None:
    settings = ReplaySettings(endpoints=3, events=False)
    simulation = Simulation(chats(), "predicted_time", settings)
    simulation.run()
    assert not simulation.router.residency.covers("engine-0")
    assert sum(request.predicted_cached for request in simulation.result(0.0).requests) > 0


class Spy:
    """Goes round, and looks at what a policy is shown."""

    name = "spy"

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.ages: list[float] = []
        self.produced: list[int] = []
        self._policy: Policy = RoundRobin()

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        self.requests.append(request)
        for state in slate.endpoints:
            assert state.load is not None and state.load.cache_blocks == 901
            self.ages.append(state.load.age(now))
            self.produced.append(state.ledger.context_tokens)
        return self._policy.pick(request, slate, now, count)


def test_the_router_sees_what_a_gateway_sees() -> None:
    spy = Spy()
    workload = chats(60)
    replay(workload, lambda: spy, ReplaySettings(endpoints=2, scrape_interval=2.0))
    for request, arrival in zip(spy.requests, workload.arrivals, strict=True):
        assert request.max_output_tokens is None
        assert request.prompt_tokens == arrival.prompt_tokens and request.exact_tokens
        assert len(request.chains[0]) == arrival.prompt_tokens // SIZE
        assert request.token_chains is not None
    assert spy.requests[0].chains[0][:4] == spy.requests[1].chains[0][:4]
    assert min(spy.ages) >= 0.0 and 1.0 < max(spy.ages) <= 2.01 + 1e-9


def test_who_does_not_finish_in_time_is_told_as_such() -> None:
    found = replay(chats(gap=0.01), "round_robin", ReplaySettings(endpoints=1, horizon=8.0))
    assert len(found.requests) == 120
    ended = sum(request.finished_at is not None for request in found.requests)
    begun = sum(request.first_token_at is not None for request in found.requests)
    assert 0 < ended < begun < 120


def test_a_rejected_request_went_nowhere() -> None:
    settings = ReplaySettings(endpoints=1)
    simulation = Simulation(chats(10), "round_robin", settings)
    simulation.router.fleet.drain("engine-0", 0.0)
    simulation.run()
    found = simulation.result(0.0).requests
    assert len(found) == 10
    assert {(request.endpoint, request.finished_at) for request in found} == {(-1, None)}


def test_samples_tell_the_load_over_time() -> None:
    found: Replay = replay(
        chats(gap=0.02), "round_robin", ReplaySettings(endpoints=2, sample_interval=0.5)
    )
    assert {sample.endpoint for sample in found.samples} == {0, 1}
    assert max(sample.running + sample.waiting for sample in found.samples) > 10
    assert all(0.0 <= sample.kv_usage <= 1.0 for sample in found.samples)
    assert found.samples[2].at - found.samples[0].at == 0.5


def test_cache_affinity_shows() -> None:
    """The point of it all: on traffic with prefixes, who knows them computes less."""
    cached = {
        policy: sum(r.cached for r in replay(chats(), policy, ReplaySettings()).requests)
        for policy in ("round_robin", "predicted_time", "clairvoyant")
    }
    assert cached["predicted_time"] > 1.3 * cached["round_robin"]
    assert cached["clairvoyant"] > 1.3 * cached["round_robin"]


def test_an_empty_workload_is_over_at_once() -> None:
    assert replay(Workload("none", (), SIZE), "round_robin", ReplaySettings()).requests == []


def test_a_request_that_no_engine_can_hold_is_refused() -> None:
    assert gc.isenabled()
    with pytest.raises(ValueError, match=r"request 0 .* cache_tokens"):
        replay(one(500_000, 5), PredictedTime, ReplaySettings())
    assert gc.isenabled()


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean round_robin"):
        replay(one(10, 5), "round_robbin", ReplaySettings())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"endpoints": 0}, "endpoints is 0"),
        ({"speed": 0.0}, "speed is 0.0"),
        ({"scrape_interval": -1.0}, "scrape_interval is -1.0"),
        ({"event_lag": -1.0}, "event_lag is -1.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changed: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ReplaySettings(**changed)  # type: ignore[arg-type]
