"""The replayed engine advances many steps at once; it must do what single steps would do.

All times are dyadic fractions, so that sums are exact in any order and ties are real ones.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from hypothesis import event, given, settings
from hypothesis import strategies as st

from bench.fleet.engine.cache import Listener, PrefixCache, Tier
from bench.fleet.settings import Timing
from bench.replay.engine import Engine
from bench.replay.job import Job
from bench.replay.presets import EngineSettings

BLOCK = 4
TICK = 1 / 1024
TIMING = Timing(
    step_base=4 * TICK,
    prefill_token=TICK,
    decode_sequence=TICK / 2,
    prefill_context=TICK / 16,
    decode_context=TICK / 8,
)


@dataclass(eq=False)
class Single:
    """One sequence of the reference."""

    number: int
    chain: Sequence[int]
    prompt: int
    output: int
    generated: int = 0
    computed: int = 0
    cached: int | None = None
    preemptions: int = 0
    shared: list[int] = field(default_factory=list)
    private: int = 0
    named: int = 0
    ready_at: float = 0.0
    decoding: bool = False

    @property
    def length(self) -> int:
        return self.prompt + self.generated


class StepByStep:
    """The reference: one step at a time, every sequence touched in every step."""

    def __init__(self, given: EngineSettings, listener: Listener, held: frozenset[int]) -> None:
        self.settings = given
        self.cache = PrefixCache(
            given.cache_tokens // BLOCK,
            cpu_capacity=given.cpu_cache_tokens // BLOCK,
            listener=listener,
        )
        self.held = held
        self.waiting: deque[Single] = deque()
        self.running: list[Single] = []
        self.wake_at = inf
        self.work: list[tuple[Single, int]] = []
        self.loads_until = 0.0
        self.reset = False
        self.computing = False

    def submit(self, one: Single, now: float) -> None:
        self.waiting.append(one)
        if not self.computing:
            self.begin(now)

    def reset_cache(self, now: float) -> None:
        self.reset = True
        if not self.computing:
            self.begin(now)

    def produced(self, now: float) -> dict[int, int]:
        more = 1 if self.computing and self.wake_at <= now else 0
        return {one.number: one.generated + more for one in self.running if one.decoding}

    def begin(self, now: float) -> None:
        if self.reset:
            self.reset = False
            while self.running:
                self.preempt()
            self.cache.clear()
        preempted = self.grow()
        self.work = [(one, 1) for one in self.running if one.decoding]
        budget = self.settings.max_batched_tokens - len(self.work)
        for one in self.running:
            if not one.decoding and one.ready_at <= now and budget > 0:
                budget -= self.compute(one, budget)
        while not preempted and self.waiting and budget > 0:
            if len(self.running) >= self.settings.max_sequences or not self.admit(now):
                break
            if self.running[-1].ready_at <= now:
                budget -= self.compute(self.running[-1], budget)
        seconds = TIMING.step_base
        for one, tokens in self.work:
            if one.decoding:
                seconds += TIMING.decode_sequence + TIMING.decode_context * one.computed
            else:
                seconds += TIMING.prefill_token * tokens
                seconds += TIMING.prefill_context * tokens * (one.computed + tokens / 2)
        self.computing = bool(self.work)
        self.wake_at = now + seconds
        if not self.work:
            self.wake_at = min((one.ready_at for one in self.running), default=inf)

    def complete(self) -> tuple[list[Single], list[Single]]:
        first, done = [], []
        for one, tokens in self.work:
            one.computed += tokens
            if one.computed < one.length:
                continue
            one.generated += 1
            one.decoding = True
            if one.generated == 1:
                first.append(one)
            if one.generated == one.output:
                done.append(one)
                self.running.remove(one)
                self.give_back(one)
        self.begin(self.wake_at)
        return first, done

    def grow(self) -> bool:
        preempted = False
        for one in [one for one in self.running if one.decoding]:
            while one in self.running and one.length > BLOCK * (len(one.shared) + one.private):
                if self.cache.acquire((), 1):
                    one.private += 1
                else:
                    self.preempt()
                    preempted = True
        return preempted

    def admit(self, now: float) -> bool:
        one = self.waiting[0]
        prompt = one.chain[: (one.length - 1) // BLOCK]
        hits = self.cache.match(prompt)
        loads = self.cache.to_load(prompt[:hits])
        fresh = -(-one.length // BLOCK) - hits
        if not self.cache.acquire(prompt[:hits], fresh):
            return False
        self.waiting.popleft()
        self.running.append(one)
        one.shared, one.private, one.named = list(prompt[:hits]), fresh, hits
        fetched = leading(prompt[hits:], self.held) if self.settings.peer_rate else 0
        one.computed = (hits + fetched) * BLOCK
        one.ready_at = now
        if loads or fetched:
            seconds = loads * BLOCK / self.settings.cpu_load_rate
            seconds += fetched * BLOCK / self.settings.peer_rate if fetched else 0.0
            one.ready_at = self.loads_until = max(now, self.loads_until) + seconds
        one.cached = one.computed if one.cached is None else one.cached
        return True

    def compute(self, one: Single, budget: int) -> int:
        tokens = min(one.length - one.computed, budget)
        self.work.append((one, tokens))
        for index in range(one.named, min((one.computed + tokens) // BLOCK, len(one.chain))):
            if self.cache.share(one.chain[index]):
                one.private -= 1
                one.shared.append(one.chain[index])
            one.named = index + 1
        return tokens

    def preempt(self) -> None:
        one = self.running.pop()
        self.give_back(one)
        one.computed, one.decoding = 0, False
        one.preemptions += 1
        self.waiting.appendleft(one)

    def give_back(self, one: Single) -> None:
        self.cache.release(one.shared, one.private)
        one.shared, one.private, one.named = [], 0, 0


class Log:
    """What was told of a cache, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, Tier | None]] = []

    def stored(self, block: int, tier: Tier) -> None:
        self.told.append(("stored", block, tier))

    def removed(self, block: int, tier: Tier) -> None:
        self.told.append(("removed", block, tier))

    def cleared(self) -> None:
        self.told.append(("cleared", 0, None))


@dataclass(frozen=True)
class Asked:
    """One thing that happens to the engine: a request, or None: its cache is wiped."""

    at: float
    request: tuple[tuple[int, ...], int, int] | None


@dataclass
class Found:
    """What came of it; by request number where it is a table."""

    first: dict[int, float] = field(default_factory=dict)
    done: dict[int, float] = field(default_factory=dict)
    cached: dict[int, int | None] = field(default_factory=dict)
    preemptions: dict[int, int] = field(default_factory=dict)
    states: list[tuple[float, int, int, int, dict[int, int]]] = field(default_factory=list)


def leading(blocks: Sequence[int], held: frozenset[int]) -> int:
    return next((n for n, block in enumerate(blocks) if block not in held), len(blocks))


def play_single(asked: Sequence[Asked], engine: StepByStep) -> Found:
    found = Found()

    def complete() -> None:
        now = engine.wake_at
        first, done = engine.complete()
        found.first.update((one.number, now) for one in first)
        for one in done:
            found.done[one.number] = now
            found.cached[one.number] = one.cached
            found.preemptions[one.number] = one.preemptions

    for number, one in enumerate(asked):
        while engine.wake_at < one.at:
            complete()
        found.states.append(
            (
                one.at,
                len(engine.running),
                len(engine.waiting),
                engine.cache.pinned,
                engine.produced(one.at),
            )
        )
        if one.request is None:
            engine.reset_cache(one.at)
        else:
            engine.submit(Single(number, *one.request), one.at)
    while engine.wake_at < inf:
        complete()
    return found


def play_bulk(asked: Sequence[Asked], engine: Engine) -> tuple[Found, int]:
    found, segments = Found(), 0

    def complete() -> None:
        now = engine.wake_at
        first, done = engine.complete()
        found.first.update((job.number, now) for job in first)
        for job in done:
            found.done[job.number] = now
            found.cached[job.number] = job.cached_tokens
            found.preemptions[job.number] = job.preemptions

    for number, one in enumerate(asked):
        while engine.wake_at < one.at:
            complete()
            segments += 1
        produced = {job.number: tokens for job, tokens in engine.produced(one.at)}
        running, waiting = len(engine.running), len(engine.waiting)
        found.states.append((one.at, running, waiting, engine.cache.pinned, produced))
        if one.request is None:
            engine.reset_cache(one.at)
        else:
            engine.submit(Job(number, *one.request), one.at)
    while engine.wake_at < inf:
        complete()
        segments += 1
    return found, segments


@st.composite
def requests(draw: st.DrawFn) -> tuple[tuple[int, ...], int, int]:
    """A chain (a few families share prefixes), prompt and output tokens."""
    family, shared = draw(st.integers(0, 2)), draw(st.integers(0, 6))
    tokens = draw(st.integers(1, 30))
    own = draw(st.integers(0, 3))
    blocks = [family * 100 + n if n < shared else 1000 * (own + 1) + n for n in range(8)]
    return tuple(blocks[: tokens // BLOCK]), tokens, draw(st.integers(1, 30))


@st.composite
def loads(draw: st.DrawFn) -> list[Asked]:
    at, asked = 0.0, []
    for _ in range(draw(st.integers(1, 12))):
        at += draw(st.sampled_from([0, 0, 1, 7, 8, 20, 64, 300, 1200])) * TICK
        reset = draw(st.integers(0, 15)) == 0
        asked.append(Asked(at, None if reset else draw(requests())))
    return asked


@settings(max_examples=300, deadline=None)
@given(
    asked=loads(),
    blocks=st.integers(15, 40),
    cpu_blocks=st.sampled_from([0, 0, 6, 30]),
    batched=st.integers(4, 40),
    sequences=st.integers(1, 4),
    held=st.sampled_from([frozenset[int](), frozenset(range(4)), frozenset(range(100, 108))]),
)
def test_many_steps_at_once_are_what_single_steps_are(
    asked: list[Asked],
    blocks: int,
    cpu_blocks: int,
    batched: int,
    sequences: int,
    held: frozenset[int],
) -> None:
    given = EngineSettings(
        TIMING,
        cache_tokens=blocks * BLOCK,
        max_batched_tokens=batched,
        max_sequences=sequences,
        cpu_cache_tokens=cpu_blocks * BLOCK,
        cpu_load_rate=2048.0,
        peer_rate=4096.0 if held else 0.0,
    )
    single_log, bulk_log = Log(), Log()
    expected = play_single(asked, StepByStep(given, single_log, held))
    bulk = Engine(given, BLOCK, bulk_log, lambda chain: leading(chain, held))
    found, segments = play_bulk(asked, bulk)

    assert found == expected
    assert bulk_log.told == single_log.told
    assert len(found.done) == sum(one.request is not None for one in asked)
    # When all is over nothing is held, counted or planned any more.
    assert bulk.cache.pinned == bulk.decoding == bulk.context_tokens == bulk.waiting_tokens == 0
    assert bulk.prefill_tokens == 0
    event(f"preempted: {any(found.preemptions.values())}")
    event(f"segments: {segments // 20 * 20}+")
