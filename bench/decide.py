"""What one decision costs, and what it costs to tell the router what became of it.

Every prompt begins with a part that all endpoints hold (a system prompt, the worst case for
matching), goes on with one of several conversations that a few endpoints hold, and ends with
a tail of its own. Requests are in flight on every endpoint all the time.
"""

import time
from collections import deque
from collections.abc import Callable
from statistics import median, quantiles

from msgspec import Struct

from bench.results import Check, at_most
from routing.decision import Decision
from routing.fleet import Endpoint, Fleet
from routing.policies import DEFAULT_POLICY, make_policy
from routing.prefix.chain import text_chain
from routing.prefix.index import PrefixIndex
from routing.request import Chain, Request
from routing.router import Router, RouterSettings

MODEL = "bench"
PROMPT_BYTES = (4_096, 220_000)
ENDPOINTS = (10, 100, 1_000)
_IN_FLIGHT = 4  # requests an endpoint
_CONVERSATIONS = 64
_HOLDERS = 4  # endpoints that hold a conversation
_SHARED = 0.25  # of a prompt: what every endpoint holds
_KNOWN = 0.75  # of a prompt: up to where a conversation is held
_INDEX_BYTES = 1 << 30
_P99_LIMITS_US = {4_096: 200.0, 220_000: 1_000.0}
_GROWTH_LIMIT = 2.0


class Case(Struct, frozen=True):
    """One prompt size (bytes) and number of endpoints, in one round; CPU microseconds.

    ``route`` is `Router.route` with its matching, ``hash`` the prompt's chain, ``total`` both.
    ``reports`` is what the router makes of `sent`, and of `first_token` and `finished` of an
    earlier request: no part of a decision, but of a request.
    """

    round: int
    prompt_bytes: int
    endpoints: int
    decisions: int
    route_p50_us: float
    route_p99_us: float
    hash_p50_us: float
    total_p50_us: float
    total_p99_us: float
    reports_p50_us: float


def measure(
    prompt_bytes: int,
    endpoints: int,
    decisions: int,
    number: int = 0,
    policy: str = DEFAULT_POLICY,
    clock: Callable[[], int] = time.thread_time_ns,
) -> Case:
    """Time ``decisions`` decisions; ``clock`` counts nanoseconds of this thread's CPU.

    CPU time, as wall time on a shared machine shows its other users.
    """
    work = _Work(prompt_bytes, endpoints, policy)
    route, hashing, reports = [], [], []
    for serial in range(decisions):
        text = work.prompt(serial)
        composed = clock()
        chain = text_chain(MODEL.encode(), text)
        hashed = clock()
        request = work.request(serial, chain, len(text))
        ready = clock()
        decision = work.router.route(request, work.now)
        routed = clock()
        assert isinstance(decision, Decision)
        hashing.append((hashed - composed) / 1e3)
        route.append((routed - ready) / 1e3)
        work.carry_on(decision)
        reports.append((clock() - routed) / 1e3)
    total = [sum(pair) for pair in zip(route, hashing, strict=True)]
    return Case(
        round=number,
        prompt_bytes=prompt_bytes,
        endpoints=endpoints,
        decisions=decisions,
        route_p50_us=median(route),
        route_p99_us=_p99(route),
        hash_p50_us=median(hashing),
        total_p50_us=median(total),
        total_p99_us=_p99(total),
        reports_p50_us=median(reports),
    )


class _Work:
    """A router in its daily work."""

    def __init__(self, prompt_bytes: int, endpoints: int, policy: str) -> None:
        self.now = 1_000.0
        fleet = Fleet()
        self.router = Router(
            fleet, PrefixIndex(_INDEX_BYTES), make_policy(policy), RouterSettings()
        )
        names = [f"endpoint-{index}" for index in range(endpoints)]
        for index, name in enumerate(names):
            url = f"http://10.0.{index >> 8}.{index & 255}:8000"
            endpoint = Endpoint(name, url, models=(MODEL,), cache_tokens=10_000_000)
            self.router.upsert_endpoint(endpoint, self.now)
            fleet.observe_health(name, True, self.now, "up")
        shared = int(prompt_bytes * _SHARED)
        known = int(prompt_bytes * _KNOWN)
        common = _text(0, shared)
        self._known = [
            common + _text(1 + number, known - shared) for number in range(_CONVERSATIONS)
        ]
        self._tail_bytes = prompt_bytes - known
        for name in names:
            self.router.prefix.stored(name, text_chain(MODEL.encode(), common))
        for number, text in enumerate(self._known):
            chain = text_chain(MODEL.encode(), text)
            for place in range(_HOLDERS):
                self.router.prefix.stored(names[(number * 7 + place) % endpoints], chain)
        self._flying: deque[Decision] = deque()
        self._most = _IN_FLIGHT * endpoints
        for serial in range(self._most):
            text = self.prompt(-1 - serial)
            chain = text_chain(MODEL.encode(), text)
            decision = self.router.route(self.request(serial, chain, len(text)), self.now)
            assert isinstance(decision, Decision)
            self.carry_on(decision)

    def prompt(self, serial: int) -> bytes:
        """The prompt of this number; no two have the same tail."""
        return self._known[serial % _CONVERSATIONS] + _text(1_000_000 + serial, self._tail_bytes)

    def request(self, serial: int, chain: Chain, size: int) -> Request:
        """What the router is asked."""
        return Request(
            id=str(serial),
            model=MODEL,
            chains=(chain,),
            prompt_tokens=size / 4,
            max_output_tokens=128,
            streamed=True,
        )

    def carry_on(self, decision: Decision) -> None:
        """Send it, let time pass, and end the oldest when there are enough."""
        self.now += 0.0005
        self.router.sent(decision, self.now)
        self._flying.append(decision)
        if len(self._flying) > self._most:
            oldest = self._flying.popleft()
            self.router.first_token(oldest, self.now)
            self.router.finished(oldest, self.now, completion_tokens=64)


def _text(seed: int, size: int) -> bytes:
    piece = b"%d words of a conversation " % seed
    return (piece * (size // len(piece) + 1))[:size]


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100, method="inclusive")[98]


def medians(cases: list[Case]) -> list[Case]:
    """Of the rounds, a case each."""
    groups: dict[tuple[int, int], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.prompt_bytes, case.endpoints), []).append(case)
    return [
        Case(
            round=len(group),
            prompt_bytes=size,
            endpoints=endpoints,
            decisions=group[0].decisions,
            route_p50_us=median(case.route_p50_us for case in group),
            route_p99_us=median(case.route_p99_us for case in group),
            hash_p50_us=median(case.hash_p50_us for case in group),
            total_p50_us=median(case.total_p50_us for case in group),
            total_p99_us=median(case.total_p99_us for case in group),
            reports_p50_us=median(case.reports_p50_us for case in group),
        )
        for (size, endpoints), group in groups.items()
    ]


def checks(found: list[Case]) -> list[Check]:
    """The bars at the most endpoints: p99 with hashing, and the growth from the fewest."""
    made = []
    for size, limit in _P99_LIMITS_US.items():
        cases = {case.endpoints: case for case in found if case.prompt_bytes == size}
        few, many = cases.get(ENDPOINTS[0]), cases.get(ENDPOINTS[-1])
        name = f"{size:,} B prompts, {ENDPOINTS[-1]:,} endpoints"
        made.append(
            at_most(
                f"{name}: p99 of a decision", many.total_p99_us if many else None, limit, "us CPU"
            )
        )
        growth = many.total_p50_us / few.total_p50_us if many and few else None
        made.append(
            at_most(f"{name}: p50 over that of {ENDPOINTS[0]}", growth, _GROWTH_LIMIT, "ratio")
        )
    return made
