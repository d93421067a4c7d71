"""The bars: nobody is better on both attainment and cost, and no HPA comes near the cost.

An HPA is a rule that somebody has written down: its target is the same under spikes and over a
day, attainment is that of all requests, cost the sum. What an HPA would cost whose target was
chosen afterwards, for one pattern and those seeds, is told beside what knowing all arrivals saves
(`hindsight`), without a bar: nobody can choose so, and over a day the future itself is worth less
than the bar. Targets between those played are taken to lie on the line between them.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from msgspec import Struct

from bench.results import Check, at_least, at_most
from bench.scaling.contenders import HPA, MARK, OURS
from bench.scaling.figures import Curve, Figures
from bench.scaling.scenes import SYNTHETIC

TIE_POINTS = 0.002
"""Attainment (share of requests) within which two are equal."""
TIE_COST = 0.01
"""The same of endpoint-hours, relative."""
SAVED = 0.15
"""Share of the endpoint-hours of the best HPA that ours must save."""


class Run(Struct, frozen=True):
    """One contender on one pattern with one seed."""

    pattern: str
    seed: int
    contender: str
    family: str
    figures: Figures
    curves: list[Curve]


class Mean(Struct, frozen=True):
    """Figures that the checks look at, means over the seeds."""

    pattern: str
    contender: str
    family: str
    attainment: float
    endpoint_hours: float
    goodput_per_hour: float
    failed: float
    turns: float
    ttft_p90: float | None
    ttft_p99: float | None
    tpot_p90: float | None
    requests: float = 1.0


def means(runs: Sequence[Run]) -> list[Mean]:
    """Over the seeds, in the order of the runs."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.pattern, run.contender), []).append(run)
    return [
        Mean(
            pattern=pattern,
            contender=contender,
            family=group[0].family,
            attainment=_mean(run.figures.attainment for run in group),
            endpoint_hours=_mean(run.figures.endpoint_hours for run in group),
            goodput_per_hour=_mean(run.figures.goodput_per_hour for run in group),
            failed=_mean(run.figures.failed for run in group),
            turns=_mean(run.figures.turns for run in group),
            ttft_p90=_mean_of(run.figures.ttft_p90 for run in group),
            ttft_p99=_mean_of(run.figures.ttft_p99 for run in group),
            tpot_p90=_mean_of(run.figures.tpot_p90 for run in group),
            requests=_mean(float(run.figures.requests) for run in group),
        )
        for (pattern, contender), group in groups.items()
    ]


def checks(found: Sequence[Mean]) -> list[Check]:
    """All bars that apply to what was played; none without ours or without a rival."""
    made: list[Check] = []
    for pattern in dict.fromkeys(one.pattern for one in found):
        group = [one for one in found if one.pattern == pattern]
        ours = next((one for one in group if one.contender == OURS), None)
        rivals = [one for one in group if one.family not in {OURS, MARK}]
        if ours is not None and rivals:
            made += _pattern(pattern, ours, rivals)
    return [*made, *_one_rule(found)]


def better_on_both(one: Mean, other: Mean) -> bool:
    """Whether ``one`` attains more for less, beyond ties."""
    more = one.attainment > other.attainment + TIE_POINTS
    no_less = one.attainment >= other.attainment - TIE_POINTS
    cheaper = one.endpoint_hours < other.endpoint_hours * (1.0 - TIE_COST)
    no_dearer = one.endpoint_hours <= other.endpoint_hours * (1.0 + TIE_COST)
    return (more and no_dearer) or (cheaper and no_less and more)


def cost_at(hpas: Sequence[Mean], attainment: float) -> float | None:
    """Endpoint-hours at which some HPA would attain as much, between its targets by a line.

    Of the rules that nobody of the group beats on both. When none attains so much, those of the
    one that attains the most: then ours is better there as well. When the cheapest attains more,
    its own.
    """
    front = sorted(
        (one for one in hpas if not any(better_on_both(other, one) for other in hpas)),
        key=lambda one: one.attainment,
    )
    if not front:
        return None
    if attainment >= front[-1].attainment:
        return front[-1].endpoint_hours
    for low, high in pairwise(front):
        if low.attainment <= attainment <= high.attainment:
            span = high.attainment - low.attainment
            share = (attainment - low.attainment) / span if span else 0.0
            return low.endpoint_hours + share * (high.endpoint_hours - low.endpoint_hours)
    return front[0].endpoint_hours


def _pattern(pattern: str, ours: Mean, rivals: Sequence[Mean]) -> Iterator[Check]:
    beating = [one.contender for one in rivals if better_on_both(one, ours)]
    named = f" ({', '.join(beating)})" if beating else ""
    yield at_most(
        f"{pattern}: rivals better on attainment and endpoint-hours{named}",
        float(len(beating)),
        0.0,
        "rivals",
    )
    yield at_most(f"{pattern}: requests of ours that failed", ours.failed, 0.0, "requests")


def hindsight(found: Sequence[Mean]) -> Iterator[str]:
    """For each synthetic pattern, what other targets and the future itself would save."""
    for pattern in SYNTHETIC:
        group = [one for one in found if one.pattern == pattern]
        ours = next((one for one in group if one.contender == OURS), None)
        hpas = [one for one in group if one.family == HPA]
        cost = None if ours is None else cost_at(hpas, ours.attainment)
        if ours is None or cost is None:
            continue
        words = (
            f"{pattern}: for the {ours.attainment:.1%} of ours an HPA whose target was chosen "
            f"afterwards, for this pattern alone, needs {cost:.1f} endpoint-hours; ours "
            f"{_fewer(ours.endpoint_hours, cost)}"
        )
        best = cost_at([one for one in group if one.family == MARK], ours.attainment)
        yield words if best is None else f"{words}, who knows all arrivals {_fewer(best, cost)}"


def _fewer(hours: float, cost: float) -> str:
    return f"{hours:.1f} ({1.0 - hours / cost:.1%} fewer)"


def together(found: Sequence[Mean]) -> list[Mean]:
    """Each contender over all synthetic patterns: attainment of all requests, sums of the rest.

    Of those that were played on all of them; none when there is but one pattern.
    """
    groups: dict[str, list[Mean]] = {}
    for one in found:
        if one.pattern in SYNTHETIC:
            groups.setdefault(one.contender, []).append(one)
    made = []
    for contender, group in groups.items():
        if {one.pattern for one in group} != set(SYNTHETIC):
            continue
        requests = sum(one.requests for one in group)
        hours = sum(one.endpoint_hours for one in group)
        good = sum(one.attainment * one.requests for one in group)
        made.append(
            Mean(
                pattern=" and ".join(SYNTHETIC),
                contender=contender,
                family=group[0].family,
                attainment=good / requests,
                endpoint_hours=hours,
                goodput_per_hour=good / hours if hours else 0.0,
                failed=sum(one.failed for one in group),
                turns=sum(one.turns for one in group),
                ttft_p90=None,
                ttft_p99=None,
                tpot_p90=None,
                requests=requests,
            )
        )
    return made


def _one_rule(found: Sequence[Mean]) -> Iterator[Check]:
    joint = together(found)
    ours = next((one for one in joint if one.contender == OURS), None)
    hpas = [one for one in joint if one.family == HPA]
    if ours is None or not hpas:
        return
    cost = cost_at(hpas, ours.attainment)
    yield at_least(
        f"{ours.pattern}: endpoint-hours saved, by the best HPA",
        None if cost is None else 100.0 * (1.0 - ours.endpoint_hours / cost),
        100.0 * SAVED,
        "%",
    )


def _mean(values: Iterable[float]) -> float:
    kept = list(values)
    return sum(kept) / len(kept)


def _mean_of(values: Iterable[float | None]) -> float | None:
    kept = [value for value in values if value is not None]
    return sum(kept) / len(kept) if kept else None
