"""Groups of prompts that share a long system prompt: llm-d's 73-capacity benchmark.

150 groups with a system prompt of 6,000 tokens each, 5 questions of 1,200 tokens a group, answers
of 1,000 tokens, in shuffled order, as a Poisson process (llm-d-kv-cache-manager,
benchmarking/73-capacity: its distinct prompts fill 73 % of the fleet's KV memory there). Whoever
scatters a group over all endpoints computes its system prompt everywhere.

The original raises the rate in stages from 3 to 60 requests a second over 8 endpoints with 307,328
tokens of KV memory each. Here the rate stays constant and the prompts are asked again, round after
round in the same shuffled order. Over 3,000 requests the first, cold round no longer decides the
p90, while whoever scatters the groups is far behind: round robin's p90 is near 100 s at 9 requests
a second and 160 s at 11, that of policies that keep groups together below 1 s.
"""

from dataclasses import dataclass
from random import Random

from bench.replay.workload import Arrival, Workload

BLOCK_TOKENS = 512
_BLOCKS_APART = 1 << 20
"""Block ids of one group: far more than a prompt has."""


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """The load. ``rate``: requests a second, all endpoints together; lengths in tokens."""

    rate: float
    requests: int
    groups: int = 150
    prompts_per_group: int = 5
    system_tokens: int = 6000
    question_tokens: int = 1200
    output_tokens: int = 1000


def shared_prefix(load: SharedPrefix, seed: int = 0, name: str = "shared-prefix") -> Workload:
    """The requests of a load; the seed gives their order and the times of their arrival.

    Raises ValueError for a rate or a number of requests that is not positive.
    """
    if load.rate <= 0:
        raise ValueError(f"rate is {load.rate:g} requests/s; it must be above 0")
    if load.requests < 1:
        raise ValueError(f"requests is {load.requests}; it must be at least 1")
    dice = Random(seed)
    prompts = [
        prompt_blocks(load, group, question)
        for group in range(load.groups)
        for question in range(load.prompts_per_group)
    ]
    dice.shuffle(prompts)
    length = load.system_tokens + load.question_tokens
    arrivals = []
    at = 0.0
    for number in range(load.requests):
        arrivals.append(Arrival(at, length, load.output_tokens, prompts[number % len(prompts)]))
        at += dice.expovariate(load.rate)
    return Workload(name, tuple(arrivals), BLOCK_TOKENS)


def prompt_blocks(load: SharedPrefix, group: int, question: int) -> tuple[int, ...]:
    """Blocks of one prompt. The block in which the system prompt ends is the question's own."""
    shared = load.system_tokens // BLOCK_TOKENS
    total = -(-(load.system_tokens + load.question_tokens) // BLOCK_TOKENS)
    first = group * _BLOCKS_APART
    own = first + shared + question * (total - shared)
    return (*range(first, first + shared), *range(own, own + total - shared))
