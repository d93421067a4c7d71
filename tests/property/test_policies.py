"""Every policy over any fleet: what it ranks is what it was given, whatever happened before."""

import tracemalloc
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.endpoint import EndpointState
from routing.fleet import Load
from routing.policies import POLICIES, make_policy
from routing.request import Request
from tests.support.slates import chain_of, endpoints, request_of, slate_of

UNSEEDED = {"power_of_two"}
"""Given their own generator by the registry."""


class Scene:
    """An uneven fleet that changes, and requests with and without shared beginnings."""

    def __init__(self, seed: int, size: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.states = endpoints(size)
        self.away: list[EndpointState] = []
        self.stems = [chain_of((seed, number), self.random.randint(1, 40)) for number in range(4)]
        for state in self.states:
            for number in range(self.random.choice([0, 0, 1, 12, 90])):
                tokens = self.random.randint(0, 3_000)
                state.ledger.reserve(number, tokens, 100, 0.0, prompt_tokens=tokens + 500)
                if self.random.random() < 0.5:
                    state.ledger.prefilled(number, 0.0)

    def change(self) -> None:
        random = self.random
        self.now += random.choice([0.0, 0.01, 1.0, 200.0])
        state = random.choice(self.states)
        match random.randrange(6):
            case 0 if len(self.states) > 1:
                self.states.remove(state)
                self.away.append(state)
            case 1 if self.away:
                back = self.away.pop()
                if random.random() < 0.5:  # the same name, another server
                    back = EndpointState(back.endpoint)
                self.states.insert(random.randint(0, len(self.states)), back)
            case 2:
                state.load = None
            case 3:
                numbers = [None, 0.0, random.uniform(0, 30)]
                state.load = Load(
                    self.now,
                    running=random.choice(numbers),
                    waiting=random.choice(numbers),
                    kv_usage=random.choice([None, 0.0, random.random(), 1.0]),
                    cache_block_tokens=16,
                    cache_blocks=random.choice([None, 1, 300]),
                )
            case 4:
                for number in range(20):
                    state.ledger.release(number, self.now)
            case _:
                state.timing.observe_prefill(random.uniform(0, 9_000), random.uniform(0.01, 2))

    def request(self) -> Request:
        random = self.random
        chains = []
        for _ in range(random.choice([0, 1, 1, 1, 1, 3])):
            stem = random.choice(self.stems)[: random.randint(0, 40)]
            chains.append(chain_of(random.random(), random.randint(0, 20), after=stem))
        tokens = sum(map(len, chains)) * 64 + random.choice([0.0, 1.0, 63.0])
        return request_of(*chains, tokens=tokens, name=str(random.random()))

    def held(self, request: Request) -> dict[str, float]:
        blocks = sum(len(chain) for chain in request.chains)
        names = [state.name for state in self.states] + ["elsewhere"]
        some = self.random.sample(names, self.random.randint(0, len(names)))
        return {name: self.random.randint(0, blocks) for name in some}


@pytest.mark.parametrize("name", POLICIES)
@given(
    seed=st.integers(0, 2**32), size=st.integers(1, 40), count=st.integers(1, 8), more=st.booleans()
)
@settings(max_examples=25, deadline=None)
def test_it_ranks_candidates_only_and_each_once(
    name: str, seed: int, size: int, count: int, more: bool
) -> None:
    policy, scene = make_policy(name), Scene(seed, size)
    for _ in range(12):
        scene.change()
        request = scene.request()
        slate = slate_of(scene.states, request, scene.held(request), output=256 * more)
        choices = policy.pick(request, slate, scene.now, count)
        ranked = [choice.endpoint for choice in choices]
        assert len(ranked) == min(count, len(scene.states))
        assert len(set(ranked)) == len(ranked)
        assert set(ranked) <= set(scene.states)
        for choice in choices:
            assert choice.cached_tokens == slate.cached_tokens(choice.endpoint)
            assert choice.score == choice.score  # a number
            assert choice.reason


@pytest.mark.parametrize("name", sorted(POLICIES.keys() - UNSEEDED))
@given(seed=st.integers(0, 2**32), size=st.integers(1, 20))
@settings(max_examples=10, deadline=None)
def test_it_repeats_itself(name: str, seed: int, size: int) -> None:
    runs = []
    for _ in range(2):
        policy, scene = make_policy(name), Scene(seed, size)
        run = []
        for _ in range(15):
            scene.change()
            request = scene.request()
            slate = slate_of(scene.states, request, scene.held(request))
            choices = policy.pick(request, slate, scene.now, 4)
            run.append([(choice.endpoint.name, choice.score, choice.reason) for choice in choices])
        runs.append(run)
    assert runs[0] == runs[1]


@pytest.mark.parametrize("name", POLICIES)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 20))
@settings(max_examples=10, deadline=None)
def test_it_changes_nothing_it_is_shown(name: str, seed: int, size: int) -> None:
    policy, scene = make_policy(name), Scene(seed, size)
    scene.change()
    request = scene.request()
    slate = slate_of(scene.states, request, scene.held(request))
    before = [_seen(state) for state in scene.states]
    chains = [list(chain) for chain in request.chains]
    held = dict(slate.held.few)
    policy.pick(request, slate, scene.now, 4)
    assert [_seen(state) for state in scene.states] == before
    assert [list(chain) for chain in request.chains] == chains
    assert slate.held.few == held


def _seen(state: EndpointState) -> tuple[object, ...]:
    ledger = state.ledger
    return (
        ledger.requests,
        ledger.decoding,
        ledger.prefill_tokens,
        ledger.context_tokens,
        state.load,
        state.health,
        state.timing.prefill.slope,
        state.timing.decode.slope,
    )


@pytest.mark.parametrize("name", POLICIES)
def test_it_does_not_grow_under_unique_prompts_and_passing_endpoints(name: str) -> None:
    small = {
        "sglang_cache_aware": {"history_bytes": 100_000},
        "llmd_weighted": {"history_bytes": 100_000},
        "aibrix_prefix": {"history_bytes": 100_000},
        "preble": {"max_blocks": 1_000},
    }
    make = type(make_policy(name))
    policy = make(**small[name]) if name in small else make_policy(name)
    grown = []
    tracemalloc.start()
    try:
        for serial in range(900):
            if serial % 300 == 0:
                grown.append(tracemalloc.get_traced_memory()[0])
            if serial % 10 == 0:
                states = endpoints(3, prefix=f"n{serial % 100}-")
            request = request_of(chain_of(serial, 40), name=str(serial))
            policy.pick(request, slate_of(states, request), serial * 0.5, 2)
    finally:
        tracemalloc.stop()
    assert grown[2] - grown[1] < 300_000
