"""How good predictions turned out to be: errors of times and of cached tokens, and regret.

Only what was predicted for the endpoint that answered is held against what was observed. A
request that was moved to another endpoint says nothing: its numbers there were predicted for
an earlier time. Everything here is O(1) in time and memory for each request.
"""

from bisect import bisect_left
from math import log
from typing import ClassVar, Final

from routing.decision import Decision, Phase
from routing.policies.policy import Choice

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TOKENS = (0.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0)
_MATTERS_SECONDS: Final = 0.1  # nobody notices a smaller error, by whatever factor
_LEAST_SECONDS: Final = 1e-6  # a coarse clock may see no time pass
_MOST_RELATIVE: Final = 10.0  # an error of more than tenfold counts as tenfold


class Histogram:
    """Counts by upper bound (inclusive), and the sum of what was seen, which is never negative."""

    __slots__ = ("bounds", "count", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """How many fell into each bucket alone; the last one has no bound."""
        self.count = 0
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.count += 1
        self.sum += value

    def quantile(self, share: float) -> float | None:
        """The bound below which ``share`` (0..1) of all values lie; None without values.

        As exact as the buckets are; of what lies beyond the last bound, that bound.
        """
        if not self.count:
            return None
        wanted, seen = share * self.count, 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            seen += count
            if seen >= wanted:
                return bound
        return self.bounds[-1]


class SignedErrors:
    """Errors (predicted minus observed) of either sign, apart, so that sums only ever grow."""

    __slots__ = ("over", "under")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.over = Histogram(bounds)
        """By how much more was predicted than observed, or just as much."""
        self.under = Histogram(bounds)
        """By how much less was predicted than observed."""

    @property
    def count(self) -> int:
        """Predictions that were compared."""
        return self.over.count + self.under.count

    @property
    def bias(self) -> float | None:
        """Mean error: above zero when too much is predicted; None without any."""
        return (self.over.sum - self.under.sum) / self.count if self.count else None

    def add(self, error: float) -> None:
        """Count one error."""
        if error >= 0.0:
            self.over.add(error)
        else:
            self.under.add(-error)


class ForgettingMean:
    """The mean of about the last 50 values, and of all of them before there were so many."""

    GAIN: ClassVar[float] = 0.02

    __slots__ = ("count", "value")

    def __init__(self) -> None:
        self.count = 0
        """Values so far."""
        self.value = 0.0

    @property
    def known(self) -> float | None:
        """The mean; None without values."""
        return self.value if self.count else None

    def add(self, value: float) -> None:
        """Take one value in."""
        self.count += 1
        self.value += max(self.GAIN, 1.0 / self.count) * (value - self.value)


class PredictionErrors:
    """How far predictions were off, of one endpoint or of all."""

    __slots__ = ("cached_tokens", "itl_error", "regret", "ttft", "ttft_error")

    def __init__(self) -> None:
        self.ttft = SignedErrors(_SECONDS)
        """Times to first token, predicted minus observed, in seconds."""
        self.ttft_error = ForgettingMean()
        """Mean absolute error of the time to first token, relative to what was observed."""
        self.itl_error = ForgettingMean()
        """The same of the mean time between tokens."""
        self.cached_tokens = SignedErrors(_TOKENS)
        """Cached prompt tokens: believed in (before any doubt) minus reported by the engine."""
        self.regret = Histogram((0.0, *_SECONDS))
        """Estimated regret in seconds, see `estimated_regret`."""


def observed_ttft(decision: Decision) -> float | None:
    """Seconds from sending to the first token; None when none was seen (yet, or not streamed)."""
    if decision.sent_at is None or decision.first_token_at is None or not decision.request.streamed:
        return None
    return decision.first_token_at - decision.sent_at


def observed_itl(decision: Decision) -> float | None:
    """Mean seconds between two tokens; None unless the whole answer was streamed and counted."""
    first, last, tokens = (
        decision.first_token_at,
        decision.finished_at,
        decision.reported_completion_tokens,
    )
    if first is None or last is None or tokens is None or tokens < 2:
        return None
    if decision.phase is not Phase.DONE or not decision.request.streamed:
        return None
    return (last - first) / (tokens - 1)


def relative_error(predicted: float, observed: float) -> float:
    """The absolute error as a share of what was observed, at most 10."""
    error = abs(predicted - observed) / max(observed, _LEAST_SECONDS)
    return error if error < _MOST_RELATIVE else _MOST_RELATIVE


def best_alternative(decision: Decision) -> Choice | None:
    """The ranked candidate, apart from the first, with the earliest predicted first token."""
    best: Choice | None = None
    least = 0.0
    for rank in range(1, len(decision.choices)):
        choice = decision.choices[rank]
        ttft = choice.predicted_ttft
        if ttft is not None and (best is None or ttft < least):
            best, least = choice, ttft
    return best


def estimated_regret(decision: Decision) -> float | None:
    """Seconds that the first token might have come earlier elsewhere, at least 0.

    The observed time to first token minus the earliest one that was predicted for another of
    the ranked candidates. None when there is nothing to compare: the policy predicts no times,
    ranked nobody else, the request was moved to another endpoint, or no first token was seen.

    It is an estimate of what can't be seen. Nobody went to the other endpoint, so its
    prediction was never tested, and one that errs low makes a regret of every choice. Endpoints
    that were not ranked don't appear. Bad luck after a right choice counts like a wrong choice.
    And it looks at this request's first token only: a policy that spares those who decode there,
    or keeps a cache warm for those who come next, pays for it in regret.
    """
    observed = observed_ttft(decision)
    if observed is None or decision.attempt:
        return None
    best = best_alternative(decision)
    if best is None or best.predicted_ttft is None:
        return None
    regret = observed - best.predicted_ttft
    return regret if regret > 0.0 else 0.0


def surprise(decision: Decision) -> float:
    """``ln(observed / predicted)`` of the time to first token: how far from expected it came.

    0 when there is nothing to compare, or the error is below 0.1 s. A request that ended before
    its first token counts with the time it waited, if that was longer than predicted.
    """
    predicted = decision.choices[0].predicted_ttft
    if predicted is None or decision.attempt or not decision.request.streamed:
        return 0.0
    sent, first, end = decision.sent_at, decision.first_token_at, decision.finished_at
    if sent is None:
        return 0.0
    if first is not None:
        observed = first - sent
    elif end is not None and end - sent > predicted:
        observed = end - sent
    else:
        return 0.0
    if abs(observed - predicted) < _MATTERS_SECONDS:
        return 0.0
    return log(max(observed, _LEAST_SECONDS) / max(predicted, _LEAST_SECONDS))
