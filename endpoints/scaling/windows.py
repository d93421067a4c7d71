"""Statistics over a stretch of time: rates from totals, quantiles, peaks. No clocks: times come in.

Each window is bounded by its span and by a number of entries, and says None when it has seen too
little to say anything: no number is better than a wrong one.
"""

from collections import deque
from collections.abc import Sequence
from math import ceil
from typing import Final

MOST_ENTRIES: Final = 20_000
FEWEST_VALUES: Final = 5
"""Values below which a quantile says nothing."""


def quantile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank quantile (``share`` in 0..1]; None below `FEWEST_VALUES` values."""
    if len(values) < FEWEST_VALUES:
        return None
    ordered = sorted(values)
    return ordered[min(max(ceil(share * len(ordered)) - 1, 0), len(ordered) - 1)]


class Totals:
    """A counter as it was at several moments, for rates over any stretch within ``span`` s.

    A counter that went back was restarted: it counts from there. A clock that goes back begins
    the window anew.
    """

    def __init__(self, span: float) -> None:
        self._span = span
        self._seen: deque[tuple[float, float]] = deque(maxlen=MOST_ENTRIES)
        self._raw = 0.0
        self._sum = 0.0

    def add(self, now: float, total: float) -> None:
        """The counter stands at ``total``."""
        if self._seen and now < self._seen[-1][0]:
            self._seen.clear()
        if not self._seen:
            self._raw = total
        self._sum += total - self._raw if total >= self._raw else total
        self._raw = total
        if self._seen and now == self._seen[-1][0]:
            self._seen.pop()
        self._seen.append((now, self._sum))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._span:
            self._seen.popleft()

    def change(self, now: float, seconds: float) -> tuple[float, float] | None:
        """By how much it grew over about the last ``seconds``, and the seconds it was seen for.

        None with fewer than two moments in that stretch.
        """
        if len(self._seen) < 2:
            return None
        last_at, last = self._seen[-1]
        first_at, first = last_at, last
        for at, total in reversed(self._seen):
            first_at, first = at, total
            if at <= now - seconds:
                break
        if first_at >= last_at:
            return None
        return last - first, last_at - first_at

    def rate(self, now: float, seconds: float) -> float | None:
        """Its growth a second over about the last ``seconds``; None when that isn't known."""
        change = self.change(now, seconds)
        return None if change is None else change[0] / change[1]


class Bins:
    """A rate in equal steps of time, oldest first: what forecasts are made from.

    A step that nobody looked at (the process slept) gets its share of the growth since.
    """

    def __init__(self, step: float, most: int) -> None:
        if not step > 0.0 or most < 2:
            raise ValueError(f"bins of {step} s, {most} of them: both must be positive")
        self.step = step
        """Seconds of each."""
        self.rates: deque[float] = deque(maxlen=most)
        """A second, of the complete steps."""
        self._began = 0.0
        self._at: float | None = None
        self._total = 0.0
        self._grown = 0.0

    def add(self, now: float, total: float) -> None:
        """The counter stands at ``total``."""
        if self._at is None or now < self._at or total < self._total:
            if self._at is not None and now < self._at:
                self.rates.clear()
            self._at, self._began, self._grown, self._total = now, now, 0.0, total
            return
        grown, seconds = total - self._total, now - self._at
        if seconds > self.step * (self.rates.maxlen or 0):  # asleep for longer than all is kept
            self.rates.clear()
            self._began, self._grown = now, 0.0
        elif seconds > 0.0:
            pace, at = grown / seconds, self._at
            while now >= self._began + self.step:
                end = self._began + self.step
                self.rates.append((self._grown + pace * (end - at)) / self.step)
                self._began, at, self._grown = end, end, 0.0
            self._grown += pace * (now - at)
        else:
            self._grown += grown
        self._at, self._total = now, total


class Peak:
    """The largest value of the last ``span`` seconds."""

    def __init__(self, span: float) -> None:
        self._span = span
        self._falling: deque[tuple[float, float]] = deque(maxlen=MOST_ENTRIES)  # values descend

    def add(self, now: float, value: float) -> None:
        """It was ``value`` now."""
        if self._falling and now < self._falling[-1][0]:
            self._falling.clear()
        while self._falling and self._falling[-1][1] <= value:
            self._falling.pop()
        self._falling.append((now, value))

    def most(self, now: float) -> float | None:
        """The largest; None when nothing was seen in the span."""
        while self._falling and self._falling[0][0] < now - self._span:
            self._falling.popleft()
        return self._falling[0][1] if self._falling else None
