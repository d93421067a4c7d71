"""Short prompts and long answers, as reasoning models have them: decoding is most of the work.

Prompts of about 900 tokens and answers of about 1,500 (medians; log-normal with sigma 0.7 and 0.6),
a Poisson process, nothing shared. The shapes follow what is published of reasoning traffic: answers
of thousands of tokens that no prompt length predicts; the numbers are ours.
"""

from dataclasses import dataclass
from random import Random

from bench.replay.workload import Arrival, Workload

BLOCK_TOKENS = 512


@dataclass(frozen=True, slots=True)
class DecodeHeavy:
    """The load. ``rate``: requests a second, all endpoints together; lengths in tokens."""

    rate: float
    requests: int
    prompt_median: float = 900.0
    prompt_sigma: float = 0.7
    answer_median: float = 1_500.0
    answer_sigma: float = 0.6
    least: int = 16
    most: int = 16_000


def decode_heavy(load: DecodeHeavy, seed: int = 0, name: str = "decode-heavy") -> Workload:
    """The requests of a load; the seed gives their lengths and the times of their arrival.

    Raises ValueError for a rate or a number of requests that is not positive.
    """
    if load.rate <= 0:
        raise ValueError(f"rate is {load.rate:g} requests/s; it must be above 0")
    if load.requests < 1:
        raise ValueError(f"requests is {load.requests}; it must be at least 1")
    dice = Random(f"decode-heavy {seed}")
    arrivals = []
    at, block = 0.0, 0
    for _ in range(load.requests):
        prompt = _length(dice.lognormvariate(0.0, load.prompt_sigma) * load.prompt_median, load)
        answer = _length(dice.lognormvariate(0.0, load.answer_sigma) * load.answer_median, load)
        blocks = -(-prompt // BLOCK_TOKENS)
        arrivals.append(Arrival(at, prompt, answer, tuple(range(block, block + blocks))))
        block += blocks
        at += dice.expovariate(load.rate)
    return Workload(name, tuple(arrivals), BLOCK_TOKENS)


def _length(tokens: float, load: DecodeHeavy) -> int:
    return min(max(int(tokens), load.least), load.most)
