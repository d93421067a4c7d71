"""The report: for each pattern a table, and demand, endpoints and TTFT over time."""

from collections.abc import Iterator, Sequence

from bench.report.html import cell, checks_table, document, figure, row, section, table, verdict
from bench.report.svg import Frame, Scale, element, path, text_of
from bench.results import Results, number
from bench.scaling.checks import Mean, Run
from bench.scaling.contenders import OURS
from endpoints.scaling.settings import Objective

_TTFT_CUT = 20.0
"""Seconds of TTFT at which the picture ends."""


def page(
    found: Results,
    runs: Sequence[Run],
    means: Sequence[Mean],
    objectives: dict[str, Objective],
) -> str:
    """The whole report as one page of HTML that needs nothing else."""
    notes = "".join(element("p", "Note: " + text_of(note)) for note in found.notes)
    head = (
        "<h1>Scaling policies on hours of traffic</h1>"
        '<p class="soft">Router, collector and policies are the real ones; engines and time are '
        "simulated. An endpoint costs from its start to its end.</p>"
        f"{verdict(found.checks)}{notes}"
    )
    patterns = dict.fromkeys(run.pattern for run in runs)
    parts = [
        section(
            f"{pattern}: {_words(objectives[pattern])}",
            element("div", _table([one for one in means if one.pattern == pattern])),
            *_pictures([run for run in runs if run.pattern == pattern], objectives[pattern]),
        )
        for pattern in patterns
    ]
    checks = section("Checks", checks_table(found.checks)) if found.checks else ""
    return document("Scaling policies", [head, checks, *parts])


def _words(goal: Objective) -> str:
    return (
        f"a first token within {goal.ttft:g} s, further ones every {goal.itl * 1000:g} ms, "
        f"for {goal.percentile:.0%}"
    )


def _table(means: Sequence[Mean]) -> str:
    rows = [
        row(
            cell(one.contender, "ours" if one.contender == OURS else None),
            cell(f"{one.attainment:.1%}"),
            cell(number(one.endpoint_hours)),
            cell(number(one.goodput_per_hour)),
            cell(number(one.failed)),
            cell(number(one.turns)),
            cell(number(one.ttft_p90)),
            cell(number(one.ttft_p99)),
        )
        for one in sorted(means, key=lambda mean: -mean.attainment)
    ]
    headings = (
        "policy",
        "attained",
        "endpoint-hours",
        "good requests per endpoint-hour",
        "failed",
        "changes of direction",
        "TTFT p90 s",
        "TTFT p99 s",
    )
    return table(headings, rows)


def _pictures(runs: Sequence[Run], goal: Objective) -> Iterator[str]:
    """One picture a contender, of the first seed; all on the same scales."""
    first = min(run.seed for run in runs)
    shown = [run for run in runs if run.seed == first and run.curves]
    if not shown:
        return
    demand = max(curve.demand for run in shown for curve in run.curves)
    size = max(max(curve.paid, curve.wanted) for run in shown for curve in run.curves)
    hours = max(run.curves[-1].at for run in shown) / 3_600.0
    for run in shown:
        yield figure("wide", picture(run, goal, demand, size, hours), run.contender)


def picture(run: Run, goal: Objective, demand: float, size: float, hours: float) -> str:
    """Demand (grey), endpoints paid and ready, and TTFT p90 below, over hours."""
    frame = Frame(900, 260, bottom=104)
    lower = Frame(900, 260, top=172)
    across = Scale(0.0, max(hours, 1e-6), *frame.across)
    requests = Scale(0.0, max(demand, 1e-6), *frame.up)
    endpoints = Scale(0.0, max(size, 1.0), *frame.up)
    seconds = Scale(0.0, _TTFT_CUT, *lower.up)
    points = [(across(one.at / 3_600.0), one) for one in run.curves]
    ground = frame.up[0]
    area = [(points[0][0], ground), *((x, requests(one.demand)) for x, one in points)]
    area.append((points[-1][0], ground))
    limit = seconds(goal.ttft)
    return frame.picture(
        f"{run.contender} on {run.pattern}: demand, endpoints and TTFT over time",
        frame.y_axis(endpoints, "endpoints", count=4),
        lower.x_axis(across, "hours; grey: requests/s, bold: ready, thin: paid; below: TTFT p90 s"),
        lower.y_axis(seconds, "", count=2),
        element("path", d=path(area), fill="var(--other)", fill_opacity=0.45),
        _line([(x, endpoints(one.paid)) for x, one in points], "var(--rival1)", 1.0),
        _line([(x, endpoints(one.ready)) for x, one in points], "var(--ours)", 2.0),
        element(
            "line",
            x1=frame.across[0],
            x2=frame.across[1],
            y1=limit,
            y2=limit,
            stroke="var(--good)",
            stroke_dasharray="4 3",
        ),
        _line(
            [(x, seconds(one.ttft)) for x, one in points if one.ttft is not None],
            "var(--bad)",
            1.2,
        ),
    )


def _line(points: Sequence[tuple[float, float]], colour: str, width: float) -> str:
    if not points:
        return ""
    return element("path", d=path(points), fill="none", stroke=colour, stroke_width=width)
