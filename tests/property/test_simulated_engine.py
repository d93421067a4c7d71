"""The simulated engine holds together whatever is asked of it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.fleet.engine.changes import ChangeLog
from bench.fleet.engine.output import Output
from bench.fleet.engine.scheduler import Engine
from bench.fleet.engine.sequence import Sequence
from bench.fleet.engine.tokens import StreamDecoder, decode, encode, tokens_of
from bench.fleet.events.encoding import Encoder
from bench.fleet.settings import EventEncoding, KvEventSettings, ServerSettings
from tests.support.cache_events import Picture

BLOCK = 4
CAPACITY = 12  # blocks: small, so that admission waits and answers are preempted


@given(st.text())
def test_text_survives_tokens_and_back(text: str) -> None:
    assert decode(encode(text)) == text.encode(errors="replace").decode()


@given(st.text(), st.text(), st.text())
def test_texts_that_begin_alike_begin_with_the_same_tokens(a: str, b: str, prefix: str) -> None:
    common = len(prefix.encode(errors="replace")) // 4
    assert encode(prefix + a)[:common] == encode(prefix + b)[:common]


@given(st.text())
def test_streamed_text_is_the_whole_text(text: str) -> None:
    decoder = StreamDecoder()
    tokens = encode(text)
    pieces = [decoder.decode(token, last=i == len(tokens) - 1) for i, token in enumerate(tokens)]
    assert "".join(pieces) == decode(tokens)


# A prompt: how many tokens of one of two common prefixes, how many of its own, and its answer.
prompts = st.tuples(
    st.sampled_from((1, 2)), st.integers(0, 20), st.integers(1, 8), st.integers(0, 14)
)
# What happens after a request came: so many steps, and maybe one of those so far is aborted.
events = st.lists(
    st.tuples(prompts, st.integers(0, 4), st.one_of(st.none(), st.integers(0, 30))), max_size=20
)


@given(events)
@settings(max_examples=150, deadline=None)
def test_every_sequence_ends_and_every_block_comes_back(
    events: list[tuple[tuple[int, int, int, int], int, int | None]],
) -> None:
    engine = Engine(
        ServerSettings(
            block_size=BLOCK, cache_tokens=BLOCK * CAPACITY, max_batched_tokens=7, max_num_seqs=3
        )
    )
    now = 0.0
    sequences: list[Sequence] = []

    def step() -> None:
        nonlocal now
        work = engine.start(engine.ready_at(now))
        assert work.work
        assert sum(tokens for _, tokens in work.work) <= 7
        assert len(engine.running) <= 3
        now = engine.ready_at(now) + work.seconds
        engine.complete(work, now)
        held = {block for sequence in engine.running for block in sequence.shared}
        private = sum(sequence.private for sequence in engine.running)
        assert engine.cache.pinned == len(held) + private <= CAPACITY
        for sequence in engine.running:
            assert sequence.held * BLOCK >= sequence.computed

    for index, ((group, shared, own, answer), steps, abort) in enumerate(events):
        tokens = tokens_of((*[group] * shared, *[100 + index] * own))
        output = Output((9, 10, 11), answer, "length")
        sequences.append(
            Sequence(tokens, output, "m", adapter=False, arrival=now, block_size=BLOCK)
        )
        engine.submit(sequences[-1])
        for _ in range(steps):
            if engine.busy:
                step()
        if abort is not None and abort < len(sequences):
            engine.abort(sequences[abort], now)
    for _ in range(5000):
        if not engine.busy:
            break
        step()

    assert not engine.busy
    assert engine.cache.pinned == 0
    for sequence in sequences:
        assert sequence.finish in ("length", "abort")
        if sequence.finish == "length":
            assert sequence.generated == sequence.output.length
    finished = engine.stats.finished
    assert sum(finished.values()) == len(sequences)
    whole = [sequence for sequence in sequences if sequence.finish == "length"]
    assert engine.stats.generation_tokens >= sum(sequence.generated for sequence in whole)
    assert engine.stats.prefix_hit_tokens <= engine.stats.prefix_queried_tokens


# Who a prompt is for: model and salt; SGLang's events can't tell these apart.
owners = st.sampled_from((("m", None), ("m", "salt"), ("ada", None), ("ada", "salt")))
# A request, steps, maybe an abort of one so far in the middle of a step, maybe a cleared cache.
operations = st.lists(
    st.tuples(
        prompts,
        owners,
        st.integers(0, 6),
        st.one_of(st.none(), st.integers(0, 30)),
        st.booleans(),
    ),
    max_size=20,
)


@given(operations, st.sampled_from(EventEncoding), st.sampled_from((0, 1, 5, 30)))
@settings(max_examples=200, deadline=None)
def test_who_applies_all_events_knows_what_is_cached_at_any_moment(
    operations: list[
        tuple[tuple[int, int, int, int], tuple[str, str | None], int, int | None, bool]
    ],
    encoding: EventEncoding,
    cpu_blocks: int,
) -> None:
    changes = ChangeLog()
    engine = Engine(
        ServerSettings(
            block_size=BLOCK,
            cache_tokens=BLOCK * CAPACITY,
            cpu_cache_tokens=BLOCK * cpu_blocks,
            max_batched_tokens=7,
            max_num_seqs=3,
        ),
        changes,
    )
    encoder = Encoder(KvEventSettings(encoding=encoding), BLOCK, mask=0xABCDEF)
    picture = Picture()
    sequences: list[Sequence] = []
    now = 0.0

    def compare() -> None:
        picture.apply(encoder.batch(changes.take(), now))
        assert len(picture.tiers["GPU"]) == len(engine.cache)
        assert len(picture.tiers["CPU"]) == engine.cache.offloaded <= cpu_blocks
        for sequence in sequences:
            tokens = [sequence.token(index) for index in range(len(sequence.chain) * BLOCK)]
            adapter = (sequence.model,) if sequence.adapter else ()
            known = picture.match(tokens, BLOCK, *adapter, salt=sequence.cache_salt)
            assert known == engine.cache.match(sequence.chain)

    def step(abort: int | None = None) -> None:
        nonlocal now
        start = engine.ready_at(now)
        work = engine.start(start)
        compare()
        if abort is not None and abort < len(sequences):
            engine.abort(sequences[abort], now)
            compare()
        now = start + work.seconds
        engine.complete(work, now)
        compare()

    for index, ((group, shared, own, answer), owner, steps, abort, clear) in enumerate(operations):
        model, salt = ("m", None) if encoding is EventEncoding.SGLANG else owner
        tokens = tokens_of((*[group] * shared, *[100 + index] * own))
        output = Output((9, 10, 11), answer, "length")
        adapter = model != "m"
        sequences.append(
            Sequence(tokens, output, model, adapter, arrival=now, block_size=BLOCK, cache_salt=salt)
        )
        engine.submit(sequences[-1])
        for count in range(steps):
            if engine.busy:
                step(abort if count == 1 else None)
        if clear:
            engine.cache.clear()
            compare()
    for _ in range(5000):
        if not engine.busy:
            break
        step()
    for sequence in sequences:
        assert sequence.cached_tokens % BLOCK == 0
        assert 0 <= sequence.cached_tokens < len(sequence.prompt)
