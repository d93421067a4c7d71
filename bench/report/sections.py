"""A section for each bench: what it found, as charts and a table."""

from collections.abc import Callable, Iterable, Mapping
from typing import cast

from bench.report import charts
from bench.report.figures import Row, columns, command_of, flat, heading, shown
from bench.report.html import cell, checks_table, figure, row, section, table, verdict
from bench.report.svg import element, text_of
from bench.results import Results

_TITLES = {
    "overhead": "What the gateway costs, beside others",
    "decide": "A decision",
    "index": "The prefix index",
    "events": "Following cache events",
    "exactness": "How exact the exact view is",
    "chaos": "Faults under load",
    "soak": "Endurance",
    "lab": "Before real engines",
    "replay": "Policies on replayed traffic",
    "extproc": "The external processor",
}


def of(found: Results) -> str:
    """The section of one bench."""
    draw = _CHARTS.get(found.bench)
    machine = found.machine
    facts = (
        f"{found.finished_at}, on {machine.processor}, {machine.cores} cores, "
        f"{machine.memory_bytes / (1 << 30):.0f} GiB, {machine.system}, {machine.python}"
    )
    rows = [flat(one) for one in found.medians]
    return section(
        _TITLES.get(found.bench, found.bench),
        element("p", text_of(facts), class_="soft"),
        element("p", element("code", text_of(command_of(found)))),
        *(element("p", "Note: " + text_of(note)) for note in found.notes),
        verdict(found.checks),
        "" if draw is None else draw(found),
        element("div", _table(rows), class_="scroll"),
        _folded("Checks", checks_table(found.checks)) if found.checks else "",
    )


def _table(rows: list[dict[str, object]]) -> str:
    names = columns(rows)
    texts = {heading(name) for name in names if any(isinstance(one.get(name), str) for one in rows)}
    return table(
        [heading(name) for name in names],
        [
            row(
                *(
                    cell(
                        shown(name, one.get(name)),
                        "left" if isinstance(one.get(name), str) else None,
                    )
                    for name in names
                )
            )
            for one in rows
        ],
        left=texts,
    )


def _folded(title: str, content: str) -> str:
    return element("details", element("summary", text_of(title)) + content)


def _number(one: Row, name: str) -> float | None:
    value = one.get(name)
    return float(value) if isinstance(value, int | float) else None


def _numbers(rows: Iterable[Row], name: str, label: str) -> dict[str, float]:
    """One figure of all rows that have it, by their ``label``."""
    return {str(one[label]): value for one in rows if (value := _number(one, name)) is not None}


def _charts(*figures: str) -> str:
    return element("div", "".join(figures), class_="charts")


def _soak(found: Results) -> str:
    """Memory and descriptors over time."""

    def line(name: str, factor: float = 1.0) -> list[tuple[float, float]]:
        return [
            (at / 60, value * factor)
            for one in found.rounds
            if (at := _number(one, "at")) is not None and (value := _number(one, name)) is not None
        ]

    return _charts(
        figure("wide", charts.over_time(line("rss_bytes", 1e-6), "minutes", "memory, MB")),
        figure(
            "wide",
            charts.over_time(line("descriptors"), "minutes", "descriptors", from_zero=True),
        ),
    )


def _lab(found: Results) -> str:
    """Times to first token and cache hits, a pair of charts a workload."""
    gateways = list(dict.fromkeys(str(one["gateway"]) for one in found.medians))
    style = charts.styles(gateways)
    parts = [charts.legend(style)]
    for workload in dict.fromkeys(str(one["workload"]) for one in found.medians):
        curves: dict[str, list[float]] = {}
        for one in found.rounds:
            if one["workload"] == workload:
                curves.setdefault(str(one["gateway"]), []).extend(cast("list[float]", one["ttfts"]))
        same = [one for one in found.medians if one["workload"] == workload]
        parts.append(element("h3", text_of(workload)))
        parts.append(
            _charts(
                figure("wide", charts.distribution(curves, style, "time to first token (s)")),
                figure(
                    "narrow",
                    charts.bars(_numbers(same, "mean_ttft", "gateway"), style, "mean", "{:,.2f} s")
                    + charts.bars(
                        _numbers(same, "hit_ratio", "gateway"), style, "cache hits", "{:.0%}"
                    ),
                    "Mean time to first token, and prompt tokens found in the engines' caches",
                ),
            )
        )
    return "".join(parts)


def _overhead(found: Results) -> str:
    """CPU of a request, a chart a scenario."""
    style = charts.styles(list(dict.fromkeys(str(one["gateway"]) for one in found.medians)))
    drawn = []
    for scenario in dict.fromkeys(str(one["scenario"]) for one in found.medians):
        same = [flat(one) for one in found.medians if one["scenario"] == scenario]
        per_chunk = _numbers(same, "cpu_us_per_chunk", "gateway")
        figures = per_chunk or _numbers(same, "cpu_us_per_request", "gateway")
        what = "CPU us per chunk" if per_chunk else "CPU us per request"
        caption = f"{scenario}: {what}"
        drawn.append(figure("narrow", charts.bars(figures, style, caption, "{:,.0f}"), caption))
    return _charts(*drawn)


def _chaos(found: Results) -> str:
    """How long each fault was felt, and what kinds of errors there were."""
    felt = _numbers(found.medians, "felt", "fault")
    back = _numbers(found.medians, "returned", "fault")
    grey = dict.fromkeys((*felt, *back), "ours")
    kinds = [
        row(cell(str(one["fault"])), cell(str(one["what"]), "left"), cell(_kinds(one), "left"))
        for one in found.medians
    ]
    headings = ("fault", "what", "errors by kind")
    return _charts(
        figure(
            "narrow",
            charts.bars(felt, grey, "felt", "{:.1f} s"),
            "From the fault's beginning to the last request that did not go well",
        ),
        figure(
            "narrow",
            charts.bars(back, grey, "used again", "{:.1f} s"),
            "From its end until the victim gave a right answer again",
        ),
    ) + element("div", table(headings, kinds, left=headings), class_="scroll")


def _kinds(one: Row) -> str:
    counted: dict[str, int] = {}
    for name in ("error_kinds", "bad_kinds"):
        value = one.get(name)
        if isinstance(value, Mapping):
            counted.update(cast("Mapping[str, int]", value))
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counted.items())) or "-"


_CHARTS: Mapping[str, Callable[[Results], str]] = {
    "soak": _soak,
    "lab": _lab,
    "overhead": _overhead,
    "chaos": _chaos,
}
