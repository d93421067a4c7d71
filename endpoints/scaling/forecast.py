"""A short look ahead: what will come when an endpoint that is started now is ready?

Four methods, each a few lines, and a back-test that picks among them: from many moments of the
recent past each forecasts what is known by now, and the one with the smallest mean absolute error
is believed. Its errors there also say how wrong it may be. Sources: Hyndman and Athanasopoulos,
Forecasting: Principles and Practice, 3rd ed., 5.2 (naive and seasonal naive), 8.2 (Holt, damped
trend), 5.10 (time-series cross-validation).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from endpoints.scaling.windows import quantile

Method = Callable[[Sequence[float], int, int], float | None]
"""(values, steps ahead, steps in a season) -> the value then; None: it can't tell."""

LEVEL_STEPS: Final = 4
TREND_STEPS: Final = 12
HOLT_STEPS: Final = 40
HOLT_LEVEL: Final = 0.3
HOLT_TREND: Final = 0.05
HOLT_DAMPING: Final = 0.95
FURTHEST: Final = 0.2
"""A forecast leaves the present level by at most this share, unless a season says so."""
MARGIN: Final = 0.15
"""And what may well be is at most this share above (or below) the forecast."""
FEWEST_MOMENTS: Final = 60
"""Moments below which nothing is said of jumps."""
FEWEST_ALIKE: Final = 10
"""The same of jumps from one level: five minutes of it, of which the worst is taken."""
ALIKE: Final = 0.8
"""Share of a level from which on another one is about as high."""
ORIGINS: Final = 24
"""Moments of the past from which is forecast to compare the methods."""
SMOOTHED: Final = 3
"""Steps around each season's value that are averaged, and those that truth is averaged over."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """``value`` by ``method``; ``errors``: mean absolute error of each method that could tell.

    ``low`` and ``high`` hold four fifths of what the method's past errors would make of it.
    """

    value: float
    low: float
    high: float
    method: str
    errors: Mapping[str, float]


def level(values: Sequence[float], ahead: int, season: int) -> float | None:
    """It stays as it was over the last few steps."""
    last = values[-LEVEL_STEPS:]
    return sum(last) / len(last) if last else None


def trend(values: Sequence[float], ahead: int, season: int) -> float | None:
    """It goes on along the straight line (least squares) through the last steps."""
    last = values[-TREND_STEPS:]
    count = len(last)
    if count < 4:
        return None
    middle, mean = (count - 1) / 2.0, sum(last) / count
    spread = count * (count * count - 1) / 12.0
    slope = sum((place - middle) * value for place, value in enumerate(last)) / spread
    return max(mean + slope * (middle + ahead), 0.0)


def holt(values: Sequence[float], ahead: int, season: int) -> float | None:
    """Holt's exponential smoothing with a damped trend."""
    last = values[-HOLT_STEPS:]
    if len(last) < 6:
        return None
    flat, slope = sum(last[:4]) / 4.0, 0.0
    for value in last[4:]:
        before = flat
        flat = HOLT_LEVEL * value + (1.0 - HOLT_LEVEL) * (flat + HOLT_DAMPING * slope)
        slope = HOLT_TREND * (flat - before) + (1.0 - HOLT_TREND) * HOLT_DAMPING * slope
    damped = HOLT_DAMPING * (1.0 - HOLT_DAMPING**ahead) / (1.0 - HOLT_DAMPING)
    return max(flat + damped * slope, 0.0)


def seasonal(values: Sequence[float], ahead: int, season: int) -> float | None:
    """It will be as it was a season ago, at today's level: scaled by the last steps' ratio."""
    place = len(values) - 1 + ahead - season
    if season < 2 or place - SMOOTHED < 0 or ahead > season:
        return None
    around = values[place - SMOOTHED : place + SMOOTHED + 1]
    then = values[max(len(values) - LEVEL_STEPS - season, 0) : len(values) - season]
    now = values[-LEVEL_STEPS:]
    if not around or not then:
        return None
    before, recent = sum(then) / len(then), sum(now) / len(now)
    ratio = min(max(recent / before, 0.5), 2.0) if before > 0.0 else 1.0
    return ratio * sum(around) / len(around)


METHODS: Mapping[str, Method] = MappingProxyType(
    {"level": level, "trend": trend, "holt": holt, "seasonal": seasonal}
)


def forecast(values: Sequence[float], ahead: int, season: int = 0) -> Forecast | None:
    """What the series will be ``ahead`` steps after its last value; None without values.

    ``season``: steps after which it repeats itself; 0: it does not.
    """
    if not values or ahead < 1:
        return None
    missed = {name: _backtest(method, values, ahead, season) for name, method in METHODS.items()}
    errors = {name: sum(map(abs, them)) / len(them) for name, them in missed.items() if them}
    told = {name: METHODS[name](values, ahead, season) for name in errors or METHODS}
    able = {name: value for name, value in told.items() if value is not None}
    if not able:
        return None
    best = min(able, key=lambda name: errors.get(name, 0.0))
    value, now = able[best], level(values, ahead, season) or 0.0
    if best != "seasonal":
        # The errors of the past hold the jumps that nobody could foresee: whoever plans for the
        # next one pays for it all day, and whoever draws its line on overshoots.
        value = min(max(value, (1.0 - FURTHEST) * now), (1.0 + FURTHEST) * now)
    over = max(quantile(missed[best], 0.9) or 0.0, 0.0)
    under = max(-(quantile(missed[best], 0.1) or 0.0), 0.0)
    return Forecast(
        value=value,
        low=value - min(under, MARGIN * value),
        high=value + min(over, MARGIN * value),
        method=best,
        errors=errors,
    )


def jumps(
    values: Sequence[float], ahead: int, share: float, from_level: float = 0.0
) -> float | None:
    """How far above its level traffic rises within ``ahead`` steps: a share of the level.

    That was enough in ``share`` of the moments of the series; None when there are fewer than
    `FEWEST_MOMENTS` of them. With ``from_level`` only those moments count that were about as high
    or higher (`ALIKE` of it), of which there must be `FEWEST_ALIKE`. A step counts together with
    the next one, so that chance does not.
    """
    if len(values) - ahead - LEVEL_STEPS < FEWEST_MOMENTS:
        return None
    found = []
    for place in range(LEVEL_STEPS, len(values) - ahead):
        before = sum(values[place - LEVEL_STEPS : place]) / LEVEL_STEPS
        if before < ALIKE * from_level:
            continue
        pairs = zip(
            values[place : place + ahead], values[place + 1 : place + ahead + 1], strict=False
        )
        highest = max(one + other for one, other in pairs) / 2.0
        if before > 0.0:
            found.append(highest / before - 1.0)
    if len(found) < (FEWEST_ALIKE if from_level > 0.0 else FEWEST_MOMENTS):
        return None
    most = quantile(found, share)
    return None if most is None else max(most, 0.0)


def _backtest(method: Method, values: Sequence[float], ahead: int, season: int) -> list[float]:
    """Truth minus forecast from each of the latest origins that has a truth by now."""
    missed = []
    last = len(values) - ahead
    for origin in range(max(last - ORIGINS + 1, TREND_STEPS), last + 1):
        told = method(values[:origin], ahead, season)
        if told is None:
            continue
        place = origin - 1 + ahead
        truth = values[max(place - 1, 0) : place + 2]
        missed.append(sum(truth) / len(truth) - told)
    return missed
