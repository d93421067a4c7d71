"""The report as one page of HTML that needs nothing else: no network, no fonts, no libraries."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean

import msgspec

from bench.replay.checks import CLAIRVOYANT
from bench.replay.report import charts
from bench.replay.report.columns import COLUMNS, Setting, best_text, by_setting
from bench.replay.suite import Load
from bench.replay.summary import TPOT_OBJECTIVE, TTFT_OBJECTIVE, Median, Played
from bench.report.html import cell, checks_table, document, figure, section, table, verdict
from bench.report.svg import element, text_of
from bench.results import Check, Results, number
from routing.policies import DEFAULT_POLICY


def page(
    found: Results, played: Sequence[Played], figures: Sequence[Median], loads: Sequence[Load]
) -> str:
    """The whole report of what was played; ``figures`` are the medians over the seeds."""
    calm = [one for one in figures if one.fault is None]
    style = charts.styles(_overall(calm))
    body = [
        _head(found, played, loads),
        _checks(found.checks),
        *_families(calm, loads, style),
        *(_setting(*one, played, style) for one in by_setting(calm).items()),
        _faults(figures),
        _parameters(found),
    ]
    return document("Replay: " + ", ".join(load.name for load in loads), body)


def _head(found: Results, played: Sequence[Played], loads: Sequence[Load]) -> str:
    requests = sum(one.figures.requests for one in played if one.figures is not None)
    policies = len({one.run.policy for one in played})
    notes = "".join(element("p", "Note: " + text_of(note)) for note in found.notes)
    return (
        "<h1>Routing policies on replayed traffic</h1>"
        f'<p class="soft">{text_of(found.finished_at)}: {policies} policies, {len(loads)} '
        f"load{'s' * (len(loads) != 1)}, {len(played)} runs, {requests:,} requests. The router is "
        "the real one; engines and time are simulated. Read differences, not seconds.</p>"
        f"{verdict(found.checks)}{notes}"
    )


def _checks(checks: Sequence[Check]) -> str:
    return section("Checks", checks_table(checks)) if checks else ""


def _families(
    figures: Sequence[Median], loads: Sequence[Load], style: charts.Styles
) -> Iterator[str]:
    """Goodput against intensity, wherever loads differ in that alone."""
    families: dict[tuple[str, int], list[Load]] = {}
    for load in loads:
        families.setdefault((load.family, load.endpoints), []).append(load)
    drawn = []
    for (family, endpoints), members in families.items():
        if len(members) < 2:
            continue
        names = {load.name for load in members}
        rows = [one for one in figures if one.load in names]
        events = any(one.events for one in rows)
        rows = [one for one in rows if one.events == events]
        axis = "speed of arrivals" if members[0].rate is None else "requests/s"
        chart = charts.goodput_by_intensity(members, rows, style, axis)
        caption = element("figcaption", text_of(f"{family}, {endpoints} endpoints"))
        drawn.append(element("figure", caption + chart, class_="narrow"))
    if drawn:
        yield section(
            "Goodput against load",
            charts.legend(list(style), style),
            element("div", "".join(drawn), class_="charts"),
        )


def _setting(
    setting: Setting, rows: Sequence[Median], played: Sequence[Played], style: charts.Styles
) -> str:
    """Everything about one load: its table and charts."""
    ranked = [one.policy for one in rows]
    runs = [
        one
        for one in played
        if Setting(one.run.load.name, one.run.events, one.run.fault) == setting
    ]
    balance = {one.run.policy: one.balance for one in reversed(runs)}  # of the first seed
    failures = sorted({failure for row in rows for failure in row.failures})
    return section(
        str(setting),
        *(element("p", text_of(failure), class_="failed") for failure in failures),
        element("div", _figures_table(rows, style), class_="scroll"),
        element("h3", "Time to first token, and prompt tokens found in a cache"),
        charts.legend(ranked, style),
        element(
            "div",
            figure("wide", charts.ttft_distribution(charts.curves(runs), style))
            + figure("narrow", charts.hit_ratios(rows, style)),
            class_="charts",
        ),
        element("h3", "Requests on the emptiest, average and fullest endpoint over time"),
        element("p", "All on one scale; peaks far above the others' are cut off.", class_="soft"),
        element("div", charts.balances(balance, ranked, style), class_="multiples"),
    )


def _figures_table(rows: Sequence[Median], style: charts.Styles) -> str:
    best = {column: best_text(column, rows) for column in COLUMNS}
    written = []
    for one in rows:
        cells = [element("td", text_of(_name(one.policy)))]
        for column in COLUMNS:
            text = column.text(one.values.get(column.figure))
            winner = text == best[column] and one.policy != CLAIRVOYANT
            cells.append(cell(text, "best" if winner else None))
        written.append(
            element("tr", "".join(cells), class_=style[one.policy], data_policy=one.policy)
        )
    headings = [f"{column.heading} {column.unit}".strip() for column in COLUMNS]
    return table(("policy", *headings), written)


def _faults(figures: Sequence[Median]) -> str:
    """One table: how every policy does under every fault."""
    loads = {one.load for one in figures if one.fault is not None}
    rows = [one for one in figures if one.load in loads and one.events]
    if not rows:
        return ""
    faults = list(dict.fromkeys(one.fault for one in rows))
    faults.sort(key=lambda fault: fault is not None)  # undisturbed first
    cells = {(one.policy, one.fault): one for one in rows}
    policies = list(dict.fromkeys(one.policy for one in rows))
    policies.sort(key=lambda policy: policy != DEFAULT_POLICY)
    written = [
        element(
            "tr",
            element("td", text_of(_name(policy)))
            + "".join(cell(_fault_text(cells.get((policy, fault)))) for fault in faults),
            class_="ours" if policy == DEFAULT_POLICY else None,
        )
        for policy in policies
    ]
    headings = ("policy", *(fault or "undisturbed" for fault in faults))
    return section(
        f"Under faults: {', '.join(sorted(loads))}",
        '<p class="soft">p90 TTFT in seconds, and goodput.</p>',
        element("div", table(headings, written), class_="scroll"),
    )


def _fault_text(one: Median | None) -> str:
    if one is None:
        return "-"
    ttft, goodput = one.values.get("ttft_p90"), one.values.get("goodput")
    return f"{number(ttft)} s, " + ("-" if goodput is None else f"{goodput:.1%}")


def _parameters(found: Results) -> str:
    machine = found.machine
    facts: Mapping[str, object] = {
        **found.parameters,
        "goodput": f"share of all requests, finished, TTFT <= {TTFT_OBJECTIVE:g} s and mean time "
        f"per output token <= {TPOT_OBJECTIVE * 1000:g} ms",
        "machine": f"{machine.processor}, {machine.cores} cores, {machine.python}",
    }
    items = "".join(
        element("dt", text_of(name.replace("_", " "))) + element("dd", text_of(_words(value)))
        for name, value in facts.items()
    )
    return section("Parameters", element("dl", items))


def _words(value: object) -> str:
    """A parameter as text; structured ones as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _overall(figures: Iterable[Median]) -> list[str]:
    """All policies, best first by their places in p90 TTFT, so that each keeps its colour."""
    places: dict[str, list[int]] = {}
    for rows in by_setting(figures).values():
        for place, one in enumerate(rows):
            places.setdefault(one.policy, []).append(place)
    return sorted(places, key=lambda policy: fmean(places[policy]))


def _name(policy: str) -> str:
    return f"{policy} (exact state)" if policy == CLAIRVOYANT else policy
