"""A small workload with shared prefixes, replayed on the brain against tiny engines.

Each engine computes one prefill at a time at a fixed rate, skips what its cache holds, and
produces tokens at a fixed pace. Only differences between policies are read from it.
"""

from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from random import Random
from statistics import mean

from routing.decision import Decision
from routing.fleet import Endpoint, Fleet
from routing.policies import make_policy
from routing.prefix.chain import BLOCK_TOKENS
from routing.prefix.index import PrefixIndex
from routing.request import Chain, Request
from routing.router import Router, RouterSettings

RATE, OVERHEAD, PACE = 8_000.0, 0.020, 0.015


class Engine:
    """One prefill after the other, and an LRU cache of blocks."""

    def __init__(self, cache_blocks: int) -> None:
        self.cache_blocks = cache_blocks
        self.cache: OrderedDict[int, None] = OrderedDict()
        self.free_at = 0.0
        self.computed_tokens = 0.0

    def prefill(self, chain: Chain, now: float) -> tuple[float, int]:
        """When the prefill will be done, and how many tokens the cache saved."""
        hit = 0
        for block in chain:
            if block not in self.cache:
                break
            hit += 1
        for block in reversed(chain):
            self.cache[block] = None
            self.cache.move_to_end(block)
        while len(self.cache) > self.cache_blocks:
            self.cache.popitem(last=False)
        tokens = (len(chain) - hit) * BLOCK_TOKENS
        self.computed_tokens += tokens
        self.free_at = max(self.free_at, now) + OVERHEAD + tokens / RATE
        return self.free_at, hit * BLOCK_TOKENS


@dataclass(order=True)
class Event:
    """Something that happens at a time: an arrival, or what comes next for a decision."""

    at: float
    order: int
    group: int = field(compare=False)
    chain: Chain = field(compare=False)
    decision: Decision | None = field(default=None, compare=False)
    hit: int = field(default=0, compare=False)


class Replay:
    """Runs arrivals through a router and engines; what came out is in its attributes."""

    def __init__(self, policy: str, endpoints: int, cache_blocks: int = 4_000) -> None:
        self.engines = {f"e{number}": Engine(cache_blocks) for number in range(endpoints)}
        self.router = Router(Fleet(), PrefixIndex(1 << 24), make_policy(policy), RouterSettings())
        cache = cache_blocks * BLOCK_TOKENS
        for name in self.engines:
            endpoint = Endpoint(name, f"http://{name}", models=("m",), cache_tokens=cache)
            self.router.fleet.upsert(endpoint, 0.0)
            self.router.fleet.observe_health(name, True, 0.0, "ok")
        self.placed: dict[int, Counter[str]] = {}  # group -> requests by endpoint
        self.waits: list[float] = []
        self.hit_tokens = 0
        self._events: list[Event] = []
        self._order = count()

    def run(self, arrivals: Iterator[tuple[float, int, Chain]], output: int = 50) -> None:
        for at, group, chain in arrivals:
            self._push(Event(at, 0, group, chain))
        while self._events:
            event = heappop(self._events)
            now, decision = event.at, event.decision
            if decision is None:
                self._arrive(event)
            elif decision.first_token_at is None:
                self.router.first_token(decision, now)
                self.waits.append(now - decision.at)
                self._push(replace(event, at=now + PACE * output))
            else:
                self.router.finished(
                    decision,
                    now,
                    prompt_tokens=int(decision.prompt_tokens),
                    cached_tokens=event.hit,
                    completion_tokens=output,
                )

    def _push(self, event: Event) -> None:
        heappush(self._events, replace(event, order=next(self._order)))

    def _arrive(self, event: Event) -> None:
        now, chain = event.at, event.chain
        tokens = float(len(chain) * BLOCK_TOKENS)
        request = Request("r", "m", (chain,), tokens, exact_tokens=True, streamed=True)
        decision = self.router.route(request, now)
        assert isinstance(decision, Decision)
        self.router.sent(decision, now)
        name = decision.endpoint.name
        self.placed.setdefault(event.group, Counter())[name] += 1
        done, hit = self.engines[name].prefill(chain, now)
        self.hit_tokens += hit
        self._push(replace(event, at=done, decision=decision, hit=hit))

    def load(self) -> list[float]:
        return [engine.computed_tokens for engine in self.engines.values()]


def arrivals(
    *, groups: int, requests: int, per_second: float, shared: int, own: int, seed: int
) -> Iterator[tuple[float, int, Chain]]:
    """Poisson arrivals; each prompt is its group's prefix and then blocks of its own."""
    random = Random(seed)
    prefixes = [_chain(random, shared) for _ in range(groups)]
    now = 0.0
    for _ in range(requests):
        now += random.expovariate(per_second)
        group = random.randrange(groups)
        yield now, group, prefixes[group] + _chain(random, own)


def _chain(random: Random, blocks: int) -> Chain:
    return array("Q", (random.getrandbits(64) for _ in range(blocks)))


def replay(policy: str, *, endpoints: int, **workload: float) -> Replay:
    done = Replay(policy, endpoints)
    done.run(
        arrivals(
            groups=int(workload["groups"]),
            requests=int(workload["requests"]),
            per_second=workload["per_second"],
            shared=int(workload["shared"]),
            own=int(workload["own"]),
            seed=1,
        )
    )
    ledgers = [state.ledger for state in done.router.fleet]
    assert all(ledger.requests == ledger.prefill_tokens == 0 for ledger in ledgers)
    return done


def test_equal_prefixes_meet_while_the_load_stays_balanced() -> None:
    workload = {"groups": 40, "requests": 1_200, "per_second": 12.0, "shared": 60, "own": 8}
    ours = replay("predicted_time", endpoints=4, **workload)
    blind = replay("round_robin", endpoints=4, **workload)
    faithful = [max(by.values()) / by.total() for by in ours.placed.values()]
    assert mean(faithful) > 0.8
    assert max(ours.load()) < 1.5 * mean(ours.load())
    assert ours.hit_tokens > 1.1 * blind.hit_tokens
    assert mean(ours.waits) < 0.7 * mean(blind.waits)


def test_a_hot_prefix_spreads_when_its_endpoint_drowns() -> None:
    calm = replay(
        "predicted_time", endpoints=4, groups=1, requests=60, per_second=1.0, shared=60, own=8
    )
    assert len(calm.placed[0]) == 1
    hot = replay(
        "predicted_time", endpoints=4, groups=1, requests=600, per_second=30.0, shared=60, own=8
    )
    assert len(hot.placed[0]) >= 3  # one endpoint can do about 12 a second
    assert max(hot.placed[0].values()) < 0.5 * hot.placed[0].total()
    assert hot.hit_tokens > 0.85 * 600 * 60 * BLOCK_TOKENS
    assert mean(hot.waits) < 0.5
