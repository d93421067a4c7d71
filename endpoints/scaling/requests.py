"""What a pool's requests are like: how many, how long, how far apart, and what is to come.

`RequestWindows` takes differences of a router's running sums, over a minute for rates and ten for
means, and keeps the arrivals of hours for the forecast.
"""

from collections import deque
from dataclasses import dataclass
from itertools import islice
from math import sqrt
from typing import Final

from endpoints.scaling.forecast import Forecast, forecast, jumps, level
from endpoints.scaling.settings import ScalingSettings
from endpoints.scaling.windows import Bins, Totals, quantile
from routing.traffic import Traffic

RATE_SECONDS: Final = 60.0
"""The stretch over which the present arrival rate is taken."""
JUMP_SECONDS: Final = 15.0
"""The stretch over which a jump of the arrival rate is noticed."""
JUMP_SIGMAS: Final = 3.0
JUMP_SHARE: Final = 0.95
"""Share of the moments for which the margin against jumps was enough."""
SHAPE_SECONDS: Final = 600.0
"""The stretch over which the mean request is taken."""
GAP_SECONDS: Final = 180.0
"""The stretch over which times between tokens are compared with each other."""
BIN_SECONDS: Final = 30.0
"""A forecast's step."""
MOST_BINS: Final = 6_000
_SUMS: Final = (
    *("arrivals", "routed", "prompt_tokens", "own_tokens", "own_squares", "own_context"),
    *("completed", "output_tokens", "reported_prompt_tokens", "cached_tokens"),
)
FEWEST_TIMES: Final = 20
"""Observed times below which nothing is said of their distribution."""


@dataclass(frozen=True, slots=True)
class Gaps:
    """Times between tokens, as they were lately: the fastest twentieth, the median, the tail."""

    fastest: float
    median: float
    tail: float

    @classmethod
    def of(cls, times: deque[tuple[float, float]], share: float, now: float) -> "Gaps | None":
        """From what was observed over `GAP_SECONDS`; None when that is too little."""
        recent = _since(times, now - GAP_SECONDS)
        if len(recent) < FEWEST_TIMES:
            return None
        fastest, median, most = (quantile(recent, one) for one in (0.05, 0.5, share))
        mean = sum(recent) / len(recent)
        if fastest is None or median is None or most is None or not mean > 0.0:
            return None
        return cls(fastest, median, most / mean)


@dataclass(frozen=True, slots=True)
class PoolRequests:
    """What is the same for all roles of a pool; None: not known."""

    arrival_rate: float | None = None
    forecast_rate: float | None = None
    forecast_high: float | None = None
    usual_rate: float | None = None
    jumps: float | None = None
    jumps_here: float | None = None
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    hit_ratio: float | None = None
    own_tokens: float | None = None
    own_spread: float | None = None
    own_context: float | None = None
    shape_rate: float | None = None
    ttft: float | None = None
    itl: float | None = None
    gaps: Gaps | None = None


class RequestWindows:
    """The windows of one pool's traffic."""

    def __init__(self, settings: ScalingSettings) -> None:
        self._settings = settings
        longest = max(SHAPE_SECONDS, settings.down.window)
        self._sums = {name: Totals(longest) for name in _SUMS}
        self._bins = Bins(BIN_SECONDS, MOST_BINS)
        self._forecast: Forecast | None = None
        self._forecast_bins = -1
        self._jumps: float | None = None
        self._jumps_here: float | None = None

    def look(self, traffic: Traffic, now: float) -> PoolRequests:
        """What they are like now."""
        for name, totals in self._sums.items():
            totals.add(now, float(getattr(traffic, name)))
        self._bins.add(now, float(traffic.arrivals))
        rate = self._rate(now)
        self._look_ahead()
        ahead = self._forecast
        own = self._mean("own_tokens", "routed", now)
        spread = None
        squares = self._mean("own_squares", "routed", now)
        if own and squares is not None:
            spread = max(squares / (own * own) - 1.0, 0.0)
        percentile = self._settings.objective.percentile
        return PoolRequests(
            arrival_rate=rate,
            forecast_rate=None if ahead is None else ahead.value,
            forecast_high=None if ahead is None else ahead.high,
            usual_rate=quantile(self._usual_bins(), 0.5),
            jumps=self._jumps,
            jumps_here=self._jumps_here,
            prompt_tokens=self._mean("prompt_tokens", "routed", now),
            output_tokens=self._mean("output_tokens", "completed", now),
            hit_ratio=self._mean("cached_tokens", "reported_prompt_tokens", now),
            own_tokens=own,
            own_spread=spread,
            own_context=self._mean("own_context", "routed", now),
            shape_rate=self._sums["routed"].rate(now, SHAPE_SECONDS),
            ttft=_recent(traffic.waits, percentile, now),
            itl=_recent(traffic.gaps, percentile, now),
            gaps=Gaps.of(traffic.gaps, percentile, now),
        )

    def _rate(self, now: float) -> float | None:
        """Arrivals a second over the last minute; on a jump, where it is going to.

        A Poisson process exceeds its mean by `JUMP_SIGMAS` deviations about once in 500 times. So
        that is a jump, and most likely seen on its way up: it is taken to go on as far again. What
        is asked for a step too late costs a start-up time of missed objectives; what was asked for
        too much makes the first of them come sooner, and goes once enough are ready.
        """
        arrivals = self._sums["arrivals"]
        rate = arrivals.rate(now, RATE_SECONDS)
        latest = arrivals.change(now, JUMP_SECONDS)
        if rate is None or latest is None:
            return rate
        came, seconds = latest
        expected = rate * seconds
        if came > expected + JUMP_SIGMAS * sqrt(max(expected, 1.0)):
            return max(2.0 * came / seconds - rate, rate)
        return rate

    def _mean(self, part: str, whole: str, now: float) -> float | None:
        """One sum over another, over the stretch in which means are taken."""
        parts = self._sums[part].change(now, SHAPE_SECONDS)
        wholes = self._sums[whole].change(now, SHAPE_SECONDS)
        if parts is None or wholes is None or wholes[0] <= 0.0:
            return None
        return parts[0] / wholes[0]

    def _usual_bins(self) -> list[float]:
        """The steps within the settings' memory, oldest first."""
        count = max(round(self._settings.usual_memory / BIN_SECONDS), 1)
        return list(islice(reversed(self._bins.rates), count))[::-1]

    def _look_ahead(self) -> None:
        """Forecast anew whenever a step is complete."""
        bins = self._bins
        if not bins.rates:
            return
        stamp = hash((len(bins.rates), bins.rates[-1]))
        if stamp == self._forecast_bins:
            return
        self._forecast_bins = stamp
        season = self._settings.season
        ahead = max(round((self._settings.startup + self._settings.interval) / bins.step), 1)
        self._forecast = forecast(
            list(bins.rates), ahead, 0 if season is None else round(season / bins.step)
        )
        usual = self._usual_bins()
        here = level(usual, ahead, 0)
        self._jumps = jumps(usual, ahead, JUMP_SHARE)
        self._jumps_here = jumps(usual, ahead, JUMP_SHARE, here) if here else None


def _recent(times: deque[tuple[float, float]], share: float, now: float) -> float | None:
    """The quantile of what was observed lately; None when that was too little."""
    return quantile(_since(times, now - RATE_SECONDS), share)


def _since(times: deque[tuple[float, float]], begin: float) -> list[float]:
    """What was observed from then on, latest first."""
    recent = []
    for at, seconds in reversed(times):
        if at < begin:
            break
        recent.append(seconds)
    return recent
