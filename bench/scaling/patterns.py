"""Hours of traffic: conversations whose rate follows a day, or jumps; and recorded traces.

A conversation has a few turns, each of which repeats what was said before, so that caches matter
as they do in a chat service. Everything is drawn from the seed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import cos, exp, pi
from random import Random

from bench.replay.workload import Arrival, Workload

BLOCK_TOKENS = 512
HOUR = 3_600.0


@dataclass(frozen=True, slots=True)
class Talk:
    """What conversations are like. Lengths are log-normal: (mean tokens, sigma)."""

    systems: int = 8
    system_tokens: int = 1_024
    question: tuple[float, float] = (3_500.0, 0.8)
    answer: tuple[float, float] = (330.0, 0.7)
    turns: float = 2.5
    pause: float = 25.0
    most_prompt: int = 48_000
    most_answer: int = 2_000


def diurnal(hours: float, mean: float, seed: int) -> Callable[[float], float]:
    """Requests/s of one day pressed into ``hours``: a trough, a peak, and a restless noise.

    The peak is about five times the trough. The noise is a random walk drawn back to 1 (an
    Ornstein-Uhlenbeck process of its logarithm, minutes long, deviation 0.12).
    """
    dice = Random(f"diurnal {seed}")
    noise, value = [], 0.0
    for _ in range(int(hours * 60) + 2):
        value += -value / 8.0 + dice.gauss(0.0, 0.06)
        noise.append(exp(value))

    def rate(at: float) -> float:
        phase = 2.0 * pi * at / (hours * HOUR)
        return mean * (1.0 - 0.66 * cos(phase)) * noise[min(int(at / 60.0), len(noise) - 1)]

    return rate


def spikes(hours: float, base: float, seed: int) -> Callable[[float], float]:
    """Requests/s with sudden spikes: about two an hour, 2 to 4 times the base, 4 to 12 minutes.

    Each rises within 20 to 60 s and falls as fast.
    """
    dice = Random(f"spikes {seed}")
    found = []
    at = dice.uniform(0.15, 0.4) * HOUR
    while at < hours * HOUR - 600.0:
        found.append(
            (at, dice.uniform(20.0, 60.0), dice.uniform(240.0, 720.0), dice.uniform(1.0, 3.0))
        )
        at += dice.uniform(0.3, 0.7) * HOUR

    def rate(at: float) -> float:
        extra = 0.0
        for begin, ramp, length, height in found:
            since = at - begin
            if 0.0 <= since < length:
                extra = max(extra, height * min(since / ramp, (length - since) / ramp, 1.0))
        return base * (1.0 + extra)

    return rate


def conversations(
    name: str, rate: Callable[[float], float], seconds: float, seed: int, talk: Talk | None = None
) -> Workload:
    """Conversations that begin so often that about ``rate`` requests/s come in all."""
    like = talk or Talk()
    dice = Random(f"{name} {seed}")
    arrivals = sorted(_turns(rate, seconds, like, dice), key=lambda one: one.at)
    first = arrivals[0].at if arrivals else 0.0
    return Workload(
        name,
        tuple(
            Arrival(one.at - first, one.prompt_tokens, one.output_tokens, one.blocks)
            for one in arrivals
        ),
        BLOCK_TOKENS,
    )


def _turns(
    rate: Callable[[float], float], seconds: float, talk: Talk, dice: Random
) -> Iterator[Arrival]:
    """Every turn of every conversation, in no order."""
    ids = iter(range(1 << 20, 1 << 62))
    systems = [
        [next(ids) for _ in range(talk.system_tokens // BLOCK_TOKENS)] for _ in range(talk.systems)
    ]
    for begin in _beginnings(rate, seconds, talk.turns, dice):
        blocks = list(dice.choice(systems))
        length, at = talk.system_tokens, begin
        while at < seconds:
            length += _draw(dice, *talk.question)
            if length > talk.most_prompt:
                break
            answer = min(_draw(dice, *talk.answer), talk.most_answer)
            whole = -(-length // BLOCK_TOKENS)
            # The last block was partial, and holds something else by now.
            kept = blocks[: (len(blocks) - 1) if len(blocks) > len(systems[0]) else len(blocks)]
            blocks = kept + [next(ids) for _ in range(whole - len(kept))]
            yield Arrival(at, length, answer, tuple(blocks))
            length += answer
            if dice.random() < 1.0 / talk.turns:
                break
            at += dice.expovariate(1.0 / talk.pause) + 0.02 * answer


def _beginnings(
    rate: Callable[[float], float], seconds: float, turns: float, dice: Random
) -> Iterator[float]:
    """A Poisson process of changing rate, by thinning."""
    most = 1.05 * max(rate(at) for at in range(0, int(seconds), 10)) / turns
    at = 0.0
    while True:
        at += dice.expovariate(most)
        if at >= seconds:
            return
        if dice.random() * most < rate(at) / turns:
            yield at


def _draw(dice: Random, mean: float, sigma: float) -> int:
    return max(1, round(mean * exp(dice.gauss(0.0, sigma) - sigma * sigma / 2.0)))


def repeated(workload: Workload, seconds: float) -> Workload:
    """A short recording over and over, with prompts of its own each time, for ``seconds``."""
    last = workload.arrivals[-1].at
    gap = last / max(len(workload.arrivals) - 1, 1)
    most = 1 + max((block for one in workload.arrivals for block in one.blocks), default=0)
    made: list[Arrival] = []
    turn = 0
    while turn * (last + gap) < seconds:
        start, shift = turn * (last + gap), turn * most
        made += [
            Arrival(
                start + one.at,
                one.prompt_tokens,
                one.output_tokens,
                tuple(block + shift for block in one.blocks),
            )
            for one in workload.arrivals
            if start + one.at < seconds
        ]
        turn += 1
    return Workload(workload.name, tuple(made), workload.block_tokens)
