"""A fleet too large to be scored one by one: the ranking is the one of scoring them all.

The reference asks every ledger, time model and the index about every endpoint, by the formulas
of the policies' docstrings, before each decision; between decisions everything changes that
can change.
"""

from array import array
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.decision import Decision
from routing.endpoint import SCRAPE_FRESH_SECONDS
from routing.fleet import Endpoint, EndpointState, Fleet, Health, Load
from routing.policies import make_policy
from routing.policies.predicted_time import NEAR_TIE, SCORE_ALL, PredictedTime
from routing.prefix.chain import BLOCK_TOKENS
from routing.prefix.index import PrefixIndex
from routing.request import Chain, Request
from routing.router import Router, RouterSettings

PRICE = 0.35 * 2.0 / 0.050
ROOM_PRICE = 2.0
RANKED = 8


class LargeFleet:
    """A router over many uneven endpoints, and what happens to it at random."""

    def __init__(self, random: Random, size: int, policy: str) -> None:
        self.random = random
        self.now = 0.0
        self.router = Router(
            Fleet(), PrefixIndex(1 << 22), make_policy(policy), RouterSettings(fallbacks=RANKED - 1)
        )
        self.live: list[Decision] = []
        self.prefixes = [self.blocks(random.randint(1, 90)) for _ in range(3)]
        self.prefixes.append(self.prefixes[0] + self.blocks(20))
        longest = self.prefixes[-1]
        for _ in range(random.choice([0, 8])):  # many lengths of one prompt, each held by some
            self.prefixes.append(longest[: random.randint(1, len(longest))])
        spread = random.choice([0.0, 0.01, 1.0])  # how unlike the endpoints are
        busy = random.choice([0, 3, 8])
        for number in range(size):
            name = f"e{number}"
            self.upsert(name)
            state = self.state(name)
            for _ in range(3):
                state.timing.observe_prefill(4_000, 0.5 * (1 + spread * random.random()))
                state.timing.observe_decode(0.02 * (1 + spread * random.random()), 8)
            for key in range(random.randint(0, busy)):
                state.ledger.reserve((name, key), random.choice([0, 500, 4_000]), 64, 0.0)
                if random.random() < 0.4:
                    state.ledger.prefilled((name, key), 0.0)
        for prefix in self.prefixes:  # from held by nobody to held by all
            share = random.choice([0.0, 0.05, 0.4, 1.0])
            for state in self.router.fleet:
                if random.random() < share:
                    self.router.prefix.stored(state.name, prefix)

    def blocks(self, count: int) -> Chain:
        return array("Q", (self.random.getrandbits(64) for _ in range(count)))

    def state(self, name: str) -> EndpointState:
        state = self.router.fleet.get(name)
        assert state is not None
        return state

    def upsert(self, name: str) -> None:
        self.router.upsert_endpoint(Endpoint(name, f"http://{name}", models=("m",)), self.now)
        self.router.fleet.observe_health(name, True, self.now, "ok")

    def happen(self) -> None:
        """Something that changes what is known."""
        random, router = self.random, self.router
        name = random.choice([state.name for state in router.fleet])
        match random.randrange(8):
            case 0:
                self.now += random.choice([0.001, 0.3, 6.0])
            case 1:
                router.restarted(name)
            case 2:
                router.remove_endpoint(name)
                if random.random() < 0.7:
                    self.upsert(name)
            case 3:
                router.fleet.drain(name, self.now)
            case 4:
                load = Load(
                    self.now,
                    running=random.randint(0, 9),
                    waiting=random.randint(0, 4),
                    kv_usage=random.choice([None, 0.0, 0.5, random.random(), 1.0]),
                )
                router.fleet.observe_load(name, load)
            case 5:
                for _ in range(3):
                    router.fleet.observe_failure(name, self.now, "reset", refused=False)
            case _:
                if self.live:
                    decision = self.live.pop(random.randrange(len(self.live)))
                    router.first_token(decision, self.now)
                    if random.random() < 0.7:
                        router.finished(decision, self.now + 0.1, completion_tokens=256)

    def request(self) -> Request:
        chain = self.random.choice(self.prefixes) + self.blocks(self.random.randint(0, 9))
        tokens = len(chain) * BLOCK_TOKENS + 10.0
        return Request("r", "m", (chain,), tokens, True, streamed=self.random.random() < 0.5)

    def route(self, request: Request) -> Decision:
        decision = self.router.route(request, self.now)
        assert isinstance(decision, Decision)
        self.router.sent(decision, self.now)
        self.live.append(decision)
        return decision

    @property
    def reuse(self) -> float:
        """How often cached tokens are found again, as predicted_time has learned it."""
        policy = self.router.policy
        assert isinstance(policy, PredictedTime)
        return policy.reuse.times

    def available(self) -> list[EndpointState]:
        self.router.fleet.tick(self.now)
        return [state for state in self.router.fleet if state.available]


def seconds(state: EndpointState, now: float, prompt: float, cached: float, reuse: float) -> float:
    """The score of predicted_time, by its docstring."""
    prefill, step = state.timing.prefill, state.timing.decode
    tokens, context = state.ledger.queued_prefill(now, prefill.slope, prefill.tilt)
    decoding: float = state.ledger.decoding
    if state.load is not None and state.load.age(now) <= SCRAPE_FRESH_SECONDS:
        tokens += 1_000.0 * state.foreign_waiting
        decoding += state.foreign_running
    work = (prompt - cached) * prefill.slope + prefill.tilt * (prompt**2 - cached**2) / 2
    ttft = prefill.fixed + tokens * prefill.slope + context * prefill.tilt + work
    itl = step.fixed + step.slope * (decoding + 1)
    itl += step.tilt * (state.ledger.context_tokens + prompt)
    usage = (None if state.load is None else state.load.kv_usage) or 0.0
    lost = ROOM_PRICE * reuse * usage**3 * (prompt - cached + 256) * prefill.slope
    delay = (work + lost) / 256 + step.slope + step.tilt * prompt
    return ttft + lost + PRICE * (itl + decoding * delay)


@given(seed=st.integers(0, 2**32), size=st.integers(SCORE_ALL + 20, 150))
@settings(max_examples=60, deadline=None)
def test_predicted_time_ranks_as_if_it_had_scored_all(seed: int, size: int) -> None:
    large = LargeFleet(Random(seed), size, "predicted_time")
    for _ in range(25):
        large.happen()
        request = large.request()
        prompt, held = request.prompt_tokens, large.router.prefix.match(request.chains[0])
        cached = {name: blocks * BLOCK_TOKENS for name, blocks in held.items()}
        reuse = large.reuse
        scores = {
            state.name: seconds(state, large.now, prompt, cached.get(state.name, 0), reuse)
            for state in large.available()
        }
        lowest = sorted(scores.values())[:RANKED]
        choices = large.route(request).choices
        assert [choice.score for choice in choices] == pytest.approx(
            [scores[choice.endpoint.name] for choice in choices]
        )
        assert sorted(choice.score for choice in choices) == pytest.approx(lowest)
        assert choices[0].score <= lowest[0] * (1 + NEAR_TIE) * (1 + 1e-9)
        for choice in choices:
            assert choice.cached_tokens == cached.get(choice.endpoint.name, 0)
            assert choice.endpoint.health is Health.HEALTHY


@given(seed=st.integers(0, 2**32), size=st.integers(SCORE_ALL + 20, 150))
@settings(max_examples=30, deadline=None)
def test_least_request_ranks_as_if_it_had_looked_at_all(seed: int, size: int) -> None:
    large = LargeFleet(Random(seed), size, "least_request")
    for _ in range(25):
        large.happen()
        loads = sorted(
            state.ledger.requests + state.foreign_waiting + state.foreign_running
            for state in large.available()
        )
        choices = large.route(large.request()).choices
        assert [choice.score for choice in choices] == loads[:RANKED]
