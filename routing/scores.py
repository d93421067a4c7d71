"""Small maths that scoring policies share. A *place* is an index into the candidates."""

from collections.abc import Sequence
from heapq import nsmallest
from math import exp, inf
from random import Random

from routing.request import Request


def at_least(field: str, value: float, least: float) -> None:
    """Refuse a parameter that is below ``least`` or not finite: ValueError with its name."""
    if not least <= value < inf:
        raise ValueError(f"{field} must be a finite number of at least {least:g}, not {value}")


def prompt_blocks(request: Request) -> int:
    """Whole blocks of all prompts of the request together."""
    blocks = 0
    for chain in request.chains:
        blocks += len(chain)
    return blocks


def random_ties(random: Random, size: int) -> list[float]:
    """A number for each place that puts equal scores into random order."""
    return [random.random() for _ in range(size)]


def best_places(scores: Sequence[float], ties: Sequence[float], count: int) -> list[int]:
    """The places of the ``count`` lowest scores, lowest first.

    ``ties`` decides between equal scores (the lower comes first), then the place.
    """
    rows = zip(scores, ties, range(len(scores)), strict=True)
    return [place for _, _, place in nsmallest(count, rows)]


def lead_with(place: int, ranked: list[int], count: int) -> list[int]:
    """``ranked`` with ``place`` in front of the others, ``count`` at most."""
    others = [other for other in ranked if other != place]
    return [place, *others[: count - 1]]


def headroom(values: Sequence[float]) -> list[float]:
    """Each value's distance from the highest, scaled to 0 (highest) .. 1 (lowest).

    1 for all when all are equal.
    """
    low, high = min(values), max(values)
    width = high - low
    if width <= 0.0:
        return [1.0] * len(values)
    return [(high - value) / width for value in values]


def softmax_place(costs: Sequence[float], temperature: float, sample: float) -> int:
    """Draw a place with probability exp(-(cost - least) / (range x temperature)).

    ``sample``, uniform in [0, 1), is the luck. Equal costs have equal chances. Dividing by the
    range of the costs makes the temperature independent of their unit.
    """
    least = min(costs)
    width = max(costs) - least
    weights = [1.0] * len(costs)
    if width > 0.0:
        weights = [exp(-(cost - least) / (width * temperature)) for cost in costs]
    left = sample * sum(weights)
    for place, weight in enumerate(weights):
        left -= weight
        if left < 0.0:
            return place
    return len(costs) - 1


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of a whole population (not an estimate from a sample)."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    return mean, variance**0.5
