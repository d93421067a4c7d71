"""Memory and speed of the prefix index under endless unique prompts.

Memory is the growth of this process's resident set, so what the allocator wastes counts.
Prompts are chains of fresh hashes: what the index gets to see of a unique prompt.
"""

import gc
import time
from array import array
from collections.abc import Callable
from random import Random

import psutil
from msgspec import Struct

from bench.results import Check, at_most
from routing.prefix.index import PrefixIndex
from routing.request import Chain

PROMPT_BLOCKS = 16
"""Blocks in a prompt of 4 KB."""
_SAMPLES = 64
_BUDGET_MARGIN = 1.05
_BLOCK_BYTES = 160.0


class Growth(Struct, frozen=True):
    """The index after so many prompts, in bytes: by its own weights, and really."""

    prompts: int
    blocks: int
    bytes_used: int
    rss_bytes: int


class Found(Struct, frozen=True):
    """What a run gave; seconds are CPU seconds, bytes resident ones.

    ``peak_rss_bytes`` is the most that was seen while storing, and ``rss_bytes`` what it was at
    the end, both without what the process had before.
    """

    prompts: int
    budget_bytes: int
    blocks: int
    bytes_used: int
    rss_bytes: int
    peak_rss_bytes: int
    bytes_per_block: float
    stores_per_second: float
    matches_per_second: float
    growth: list[Growth]


def measure(
    prompts: int,
    budget_bytes: int,
    endpoints: int,
    progress: Callable[[int], object],
    seed: int = 1,
) -> Found:
    """Store that many unique prompts on the endpoints in turn, then match as many known ones."""
    random = Random(seed)
    names = [f"endpoint-{index}" for index in range(endpoints)]
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    index = PrefixIndex(budget_bytes)
    batch = max(1, prompts // _SAMPLES)
    seconds, done = 0.0, 0
    growth: list[Growth] = []
    chains: list[Chain] = []
    while done < prompts:
        chains = [_chain(random) for _ in range(min(batch, prompts - done))]
        began = time.process_time()
        for place, chain in enumerate(chains, done):
            index.stored(names[place % endpoints], chain)
        seconds += time.process_time() - began
        done += len(chains)
        # The batch itself is the bench's, not the index's: it goes before the memory is read.
        kept, chains = chains[-1000:], []
        rss = process.memory_info().rss - before
        growth.append(Growth(done, len(index), index.bytes_used, rss))
        chains = kept
        progress(len(growth))
    began = time.process_time()
    for chain in chains:
        index.match(chain)
    matching = time.process_time() - began
    gc.collect()
    rss = process.memory_info().rss - before
    return Found(
        prompts=prompts,
        budget_bytes=budget_bytes,
        blocks=len(index),
        bytes_used=index.bytes_used,
        rss_bytes=rss,
        peak_rss_bytes=max(sample.rss_bytes for sample in growth),
        bytes_per_block=rss / len(index),
        stores_per_second=prompts / seconds,
        matches_per_second=len(chains) / matching,
        growth=growth,
    )


def _chain(random: Random) -> Chain:
    return array("Q", random.randbytes(8 * PROMPT_BLOCKS))


def checks(found: Found) -> list[Check]:
    """The bars; memory is held against the budget only when the prompts were enough to fill it."""
    made = [at_most("memory per block", found.bytes_per_block, _BLOCK_BYTES, "bytes")]
    if found.bytes_used >= 0.95 * found.budget_bytes:
        share = found.peak_rss_bytes / found.budget_bytes
        made.append(at_most("peak memory over the byte budget", share, _BUDGET_MARGIN, "ratio"))
    return made
