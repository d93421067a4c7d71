"""What following the fleet's cache events costs: decoding, translating, applying them.

The messages are those of vLLM: batches of maps, one an engine step, that announce the blocks of
16 tokens which prompts and answers fill, and name those that leave once the cache is full. Some
prompts begin with a system prompt that every endpoint holds. The sockets are left out.
"""

import gc
import time
from collections import OrderedDict
from collections.abc import Callable
from random import Random

import msgspec
import psutil
from msgspec import Struct, to_builtins

from bench.results import Check, Results, at_most, results
from endpoints.events.decoding import BlockRemoved, BlockStored
from endpoints.events.feed import Feed
from endpoints.events.health import FeedHealth
from endpoints.events.translation import HOLDING_BYTES, Translator
from routing.prefix.residency import Residency, Tier
from routing.prefix.tokens import blocks_of, token_salt
from routing.request import Chain

BLOCK_TOKENS = 16
BLOCKS_A_SECOND = 100_000
"""The rate that the check is about: 1.6 million tokens a second over all endpoints."""
_CPU_SHARE = 0.5
_SYSTEM_BLOCKS = 64
_PROMPT_BLOCKS = 48
_STEP_EVENTS = 4
_FILL_BYTES = 128 << 20
_FILL_BLOCKS = 64
_FILL_WEIGHT = 256
_BUDGET_MARGIN = 1.05
_VOCABULARY = 150_000
LOOK_TOKENS = 55_000
LOOK_ENDPOINTS = 1_000
LOOK_SIZES = (16, 64)


class Applied(Struct, frozen=True):
    """A round: CPU is of one core; memory is what the view has at its end, by its weights."""

    round: int
    endpoints: int
    messages: int
    stored_blocks: int
    removed_blocks: int
    cpu_us_per_block: float
    cpu_share: float
    blocks_held: int
    bytes_used: int


class Filled(Struct, frozen=True):
    """A view that was given far more than fits; memory in bytes, resident as it grew at most.

    What is kept beside the view for each block it keeps is in both figures.
    """

    budget_bytes: int
    blocks_held: int
    blocks_dropped: int
    bytes_used: int
    peak_rss_bytes: int


class Looked(Struct, frozen=True):
    """Looking a prompt up for a fleet: median and worst, microseconds.

    ``holders`` says who holds it: all endpoints the same part, each its own part, or each its
    own part with a second tier in use.
    """

    block_tokens: int
    endpoints: int
    blocks: int
    holders: str
    median_us: float
    worst_us: float


def measure(
    blocks: int = 200_000,
    endpoints: int = 8,
    cache_blocks: int = 10_000,
    budget_bytes: int = 256 << 20,
    rounds: int = 3,
    progress: Callable[[str], object] = lambda _: None,
) -> Results:
    """Apply about ``blocks`` changes of blocks a round, spread over the endpoints; then look up.

    ``cache_blocks`` is what each engine's cache takes before blocks leave it.
    """
    progress("filling the view")
    filled = _fill(_FILL_BYTES)
    made = []
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}: writing messages")
        messages = _messages(blocks, endpoints, cache_blocks, Random(number))
        progress(f"round {number + 1} of {rounds}: applying {len(messages):,} messages")
        made.append(_apply(number, messages, endpoints, budget_bytes))
    looks = []
    for size in LOOK_SIZES:
        for holders in ("all alike", "each its own", "each its own, two tiers"):
            progress(f"looking up, blocks of {size}")
            looks.append(_look(size, holders))
    median = sorted(made, key=lambda one: one.cpu_us_per_block)[len(made) // 2]
    return results(
        "events",
        parameters={
            "blocks": blocks,
            "endpoints": endpoints,
            "cache_blocks": cache_blocks,
            "budget_bytes": budget_bytes,
            "rounds": rounds,
            "block_tokens": BLOCK_TOKENS,
        },
        notes=["sockets are not in it: messages are applied from memory"],
        rounds=to_builtins(made),
        medians=[to_builtins(median), to_builtins(filled), *to_builtins(looks)],
        checks=checks(median, filled),
    )


def checks(median: Applied, filled: Filled) -> list[Check]:
    """The bars: CPU at the rate above, and memory within what the view was given."""
    name = f"CPU of one core at {BLOCKS_A_SECOND:,} blocks/s"
    share = filled.peak_rss_bytes / filled.budget_bytes
    return [
        at_most(name, median.cpu_share, _CPU_SHARE, "share"),
        at_most("peak memory over the byte budget", share, _BUDGET_MARGIN, "ratio"),
    ]


def _apply(
    number: int, messages: list[tuple[int, int, bytes]], endpoints: int, budget_bytes: int
) -> Applied:
    gc.collect()
    residency = Residency(budget_bytes, HOLDING_BYTES)
    feeds = [Feed(f"endpoint-{place}", residency) for place in range(endpoints)]
    began = time.process_time()
    for place, sequence, payload in messages:
        feeds[place].live(sequence, payload, 0.0)
    seconds = time.process_time() - began
    stored = sum(feed.health.stored_blocks for feed in feeds)
    removed = sum(feed.health.removed_blocks for feed in feeds)
    return Applied(
        round=number,
        endpoints=endpoints,
        messages=len(messages),
        stored_blocks=stored,
        removed_blocks=removed,
        cpu_us_per_block=seconds / (stored + removed) * 1e6,
        cpu_share=seconds / (stored + removed) * BLOCKS_A_SECOND,
        blocks_held=len(residency),
        bytes_used=residency.bytes_used,
    )


def _names(number: int) -> list[int]:
    """Engine hashes that can be made again, so that the bench need not keep them."""
    random = Random(number)
    return [random.getrandbits(64) for _ in range(_FILL_BLOCKS)]


def _fill(budget_bytes: int) -> Filled:
    """Announce unique blocks to a few endpoints, far past the budget, and remove some again."""
    random = Random(0)
    health = FeedHealth()
    process = psutil.Process()
    gc.collect()
    rss = process.memory_info().rss
    residency = Residency(budget_bytes, HOLDING_BYTES)
    translators = [Translator(f"endpoint-{place}", residency, health) for place in range(4)]
    ids = [0] * (_FILL_BLOCKS * BLOCK_TOKENS)
    peak = 0
    for number in range(3 * budget_bytes // _FILL_WEIGHT // _FILL_BLOCKS):
        translator = translators[number % len(translators)]
        ids[0] = number
        translator.apply([BlockStored(_names(number), None, ids, BLOCK_TOKENS)])
        if number % 3 == 2:
            gone = random.randrange(number)
            translators[gone % len(translators)].apply([BlockRemoved(_names(gone))])
        if number % 64 == 0:
            peak = max(peak, process.memory_info().rss - rss)
    return Filled(
        budget_bytes=budget_bytes,
        blocks_held=len(residency),
        blocks_dropped=residency.dropped,
        bytes_used=residency.bytes_used,
        peak_rss_bytes=peak,
    )


class _Writer:
    """One engine that stores prompts and removes, one hash an event, what it has no room for."""

    def __init__(
        self, cache_blocks: int, system: tuple[list[int], list[int]], random: Random
    ) -> None:
        self._room = cache_blocks
        self._random = random
        self._system_tokens, self._system_names = system
        self._system_stored = False
        self._order: OrderedDict[int, None] = OrderedDict()
        self._sequence = -1
        self.changes = 0

    def step(self) -> tuple[int, bytes]:
        """The next message: some prompts stored, what had to leave before."""
        events: list[dict[str, object]] = []
        if not self._system_stored:
            self._system_stored = True
            events.append(_stored(self._system_names, None, self._system_tokens))
            self.changes += len(self._system_names)
        for _ in range(_STEP_EVENTS):
            count = self._random.randint(1, 2 * _PROMPT_BLOCKS)
            names = [self._random.getrandbits(64) for _ in range(count)]
            ids = self._random.choices(range(_VOCABULARY), k=count * BLOCK_TOKENS)
            shares = self._random.random() < 0.5
            events += self._made_room(count)
            events.append(_stored(names, self._system_names[-1] if shares else None, ids))
            self._order.update(dict.fromkeys(names))
            self.changes += count
        self._sequence += 1
        return self._sequence, msgspec.msgpack.encode([0.0, events, 0])

    def _made_room(self, count: int) -> list[dict[str, object]]:
        events: list[dict[str, object]] = []
        while len(self._order) + count > self._room and self._order:
            name, _ = self._order.popitem(last=False)
            events.append(
                {"type": "BlockRemoved", "block_hashes": [name], "medium": "GPU", "group_idx": 0}
            )
        self.changes += len(events)
        return events


def _stored(names: list[int], parent: int | None, ids: list[int]) -> dict[str, object]:
    return {
        "type": "BlockStored",
        "block_hashes": names,
        "parent_block_hash": parent,
        "token_ids": ids,
        "block_size": BLOCK_TOKENS,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
        "extra_keys": [None] * len(names),
        "group_idx": 0,
        "kv_cache_spec_kind": "full_attention",
    }


def _messages(
    blocks: int, endpoints: int, cache_blocks: int, random: Random
) -> list[tuple[int, int, bytes]]:
    """(endpoint, number, payload), the endpoints in turn."""
    system = (
        random.choices(range(_VOCABULARY), k=_SYSTEM_BLOCKS * BLOCK_TOKENS),
        [random.getrandbits(64) for _ in range(_SYSTEM_BLOCKS)],
    )
    writers = [_Writer(cache_blocks, system, random) for _ in range(endpoints)]
    messages: list[tuple[int, int, bytes]] = []
    while sum(writer.changes for writer in writers) < blocks:
        messages += [(place, *writer.step()) for place, writer in enumerate(writers)]
    return messages


def _look(size: int, holders: str, looks: int = 50) -> Looked:
    residency = Residency(4 << 30)
    random = Random(size)
    ids = random.choices(range(_VOCABULARY), k=LOOK_TOKENS)
    chain: Chain = blocks_of(token_salt(None, None), ids, size)
    for place in range(LOOK_ENDPOINTS):
        name = f"endpoint-{place}"
        if holders == "all alike":
            residency.stored(name, size, chain, Tier.GPU)
            continue
        depth = random.randint(1, len(chain))
        residency.stored(name, size, chain[:depth], Tier.GPU)
        if "two tiers" in holders:
            residency.stored(name, size, chain[depth // 2 :], Tier.CPU)
    times = []
    for _ in range(looks):
        began = time.perf_counter()
        found = residency.look({size: chain})
        times.append((time.perf_counter() - began) * 1e6)
        assert len(found) == LOOK_ENDPOINTS
    times.sort()
    return Looked(
        block_tokens=size,
        endpoints=LOOK_ENDPOINTS,
        blocks=len(chain),
        holders=holders,
        median_us=times[len(times) // 2],
        worst_us=times[-1],
    )
