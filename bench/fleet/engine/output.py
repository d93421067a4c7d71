"""What a simulated model says: decided before the first step, from the seed and the prompt."""

import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from bench.fleet.engine.tokens import Tokens, encode, to_bytes

FinishReason = Literal["stop", "length"]

_PERIOD = 512
"""After so many tokens the text repeats, so that a long answer costs no more memory."""

_WORDS = (
    "the sun and sky are big now but you can see all the old men run far out for one new way "
    "its air was hot day let him try her art use two low key get not any too our own dry ice "
    "set top end age why ask may did had she who has saw sea boy dog cat cow hen fox bee ant"
)
WORDS: Sequence[int] = tuple(dict.fromkeys(encode(" " + word)[0] for word in _WORDS.split()))
"""The vocabulary of random answers: three letters after a space, so that a word is a token and
an answer that comes back in the next prompt has the tokens it was generated with."""

_BUCKETS = ((0.20, 1), (0.30, 2), (0.20, 3), (0.05, 4), (0.10, 5), (0.15, 6))
_NARROW = 20
_WIDE_FROM = 120
_FREE_MEAN, _FREE_DEVIATION = 40.0, 20.0


@dataclass(frozen=True, slots=True)
class Output:
    """An answer of ``length`` tokens: ``tokens``, repeated as often as needed.

    ``stopped_by`` is the stop string that ended it, and ``visible_bytes`` the length of the
    text before that; None: there was none, and all of it is shown.
    """

    tokens: Sequence[int]
    length: int
    reason: FinishReason
    visible_bytes: int | None = None
    stopped_by: str | None = None

    def token(self, index: int) -> int:
        """The token at ``index``, from 0."""
        return self.tokens[index % len(self.tokens)]


NOTHING = Output((), 0, "stop")
"""What a pooling request (an embedding, a score) generates."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an answer may be; ``room`` is what the context has left after the prompt."""

    room: int
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()

    @property
    def most(self) -> int:
        """The most tokens that can be generated."""
        return self.room if self.max_tokens is None else min(self.max_tokens, self.room)


def random_output(limits: Limits, seed: int) -> Output:
    """Words and a length drawn from ``seed``."""
    rng = random.Random(seed)
    length = _random_length(limits, rng)
    words = tuple(rng.choices(WORDS, k=min(length, _PERIOD)))
    return _stopped(Output(words, length, _reason(length, limits)), limits)


def echo_output(limits: Limits, source: Tokens) -> Output:
    """The source text once; with ``ignore_eos`` (or for ``min_tokens``) again and again."""
    tokens = source if len(source) else encode(" ")
    length = limits.most if limits.ignore_eos else min(len(tokens), limits.most)
    length = max(length, min(limits.min_tokens, limits.most))
    return _stopped(Output(tokens, length, _reason(length, limits)), limits)


def _reason(length: int, limits: Limits) -> FinishReason:
    return "length" if length >= limits.most else "stop"


def _random_length(limits: Limits, rng: random.Random) -> int:
    """Lengths as llm-d-inference-sim draws them.

    With ``max_tokens``: one of six ranges with probabilities .20 .30 .20 .05 .10 .15, equal in
    width up to 120 tokens, above that 20 tokens wide but for the fourth, which has the rest.
    Without: normal with mean 40 and deviation 20.
    """
    most = limits.most
    if limits.ignore_eos:
        return most
    if limits.max_tokens is None:
        length = round(rng.gauss(_FREE_MEAN, _FREE_DEVIATION))
    else:
        weights = [weight for weight, _ in _BUCKETS]
        bucket = rng.choices([number for _, number in _BUCKETS], weights)[0]
        low, high = _bounds(bucket, most)
        length = rng.randint(low, max(low, high))
    return max(min(length, most), min(limits.min_tokens, most), 1)


def _bounds(bucket: int, most: int) -> tuple[int, int]:
    if most <= _WIDE_FROM:
        return (bucket - 1) * most // 6 + 1, bucket * most // 6
    if bucket <= 3:
        return (bucket - 1) * _NARROW + 1, bucket * _NARROW
    if bucket == 4:
        return 3 * _NARROW + 1, most - 2 * _NARROW
    return most - (7 - bucket) * _NARROW + 1, most - (6 - bucket) * _NARROW


def _stopped(output: Output, limits: Limits) -> Output:
    """The output up to its first stop string after ``min_tokens``; the string is not shown."""
    if not limits.stop:
        return output
    stops = {stop.encode(): stop for stop in limits.stop}
    # The text repeats, so a stop string begins within the first period or nowhere.
    searched = min(output.length, len(output.tokens) + max(map(len, stops)))
    pieces = [to_bytes((output.token(index),)) for index in range(searched)]
    ends = list(accumulate(map(len, pieces)))
    first = ends[min(limits.min_tokens, searched) - 1] if limits.min_tokens else 0
    text = b"".join(pieces)
    found = [(at, stop) for stop in stops if (at := text.find(stop, first)) >= 0]
    if not found:
        return output
    at, stop = min(found)
    length = bisect_left(ends, at + len(stop)) + 1
    return Output(output.tokens, length, "stop", visible_bytes=at, stopped_by=stops[stop])
