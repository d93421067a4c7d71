"""The charts of the page. Each is markup; the parts of one policy carry ``data-policy``."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from bench.replay.checks import CLAIRVOYANT
from bench.replay.suite import Load
from bench.replay.summary import CURVE_POINTS, TTFT_OBJECTIVE, Median, Moment, Played
from bench.report.svg import Frame, Scale, element, path, text_of
from routing.policies import DEFAULT_POLICY

RIVAL_COLOURS = 3
"""Rivals that get a colour of their own; the rest are grey until they are pointed at."""

BALANCE_CUT = 2.0
"""Times the median policy's peak at which the balance over time is cut off."""

Styles = Mapping[str, str]
"""Policy -> the class that colours it."""


def styles(ranked: Sequence[str]) -> Styles:
    """Ours and the clairvoyant have fixed colours, the first rivals one each."""
    found: dict[str, str] = {}
    free = iter(range(1, RIVAL_COLOURS + 1))
    for policy in ranked:
        if policy == DEFAULT_POLICY:
            found[policy] = "ours"
        elif policy == CLAIRVOYANT:
            found[policy] = "exact"
        else:
            number = next(free, None)
            found[policy] = "other" if number is None else f"rival{number}"
    return found


def drawing_order(ranked: Sequence[str]) -> list[str]:
    """What matters is drawn last, on top: ours after all others."""
    return sorted(ranked, key=lambda policy: (policy == DEFAULT_POLICY, -ranked.index(policy)))


def legend(ranked: Sequence[str], style: Styles) -> str:
    """All policies of a section, in order, to point at."""
    items = [
        element(
            "li",
            element("i", class_=style[policy]) + text_of(policy),
            data_policy=policy,
            tabindex="0",
        )
        for policy in ranked
    ]
    return element("ul", "".join(items), class_="legend")


def curves(played: Iterable[Played]) -> dict[str, list[float]]:
    """Each policy's TTFT at every one of `CURVE_POINTS`: the median over its seeds."""
    groups: dict[str, list[tuple[float, ...]]] = {}
    for one in played:
        if one.ttft_curve:
            groups.setdefault(one.run.policy, []).append(one.ttft_curve)
    return {
        policy: [median(values) for values in zip(*group, strict=True)]
        for policy, group in groups.items()
    }


def ttft_distribution(found: Mapping[str, Sequence[float]], style: Styles) -> str:
    """Share of requests that had their first token within a time; the time is logarithmic."""
    frame = Frame(640, 330)
    values = [value for curve in found.values() for value in curve if value > 0]
    if not values:
        return ""
    low = max(min(values), max(values) / 1e5)
    x = Scale(low, max(*values, low * 10), *frame.across, logarithmic=True)
    y = Scale(0.0, 1.0, *frame.up)
    parts = [frame.x_axis(x, "time to first token (s)"), frame.y_axis(y, "", percent=True)]
    if x.low < TTFT_OBJECTIVE < x.high:
        place = x(TTFT_OBJECTIVE)
        bottom, top = frame.up
        parts.append(element("line", class_="objective", x1=place, x2=place, y1=bottom, y2=top))
    for policy in drawing_order([policy for policy in style if policy in found]):
        points = [
            (x(max(value, low)), y(share))
            for value, share in zip(found[policy], CURVE_POINTS, strict=True)
        ]
        parts.append(_line(policy, style, path(points)))
    return frame.picture("Distribution of the time to first token, a line a policy", *parts)


def goodput_by_intensity(
    loads: Sequence[Load], found: Sequence[Median], style: Styles, axis: str
) -> str:
    """Goodput of every policy against the intensity of loads that differ in nothing else."""
    frame = Frame(420, 330)
    places = sorted(load.intensity for load in loads)
    margin = (places[-1] - places[0]) * 0.08
    x = Scale(places[0] - margin, places[-1] + margin, *frame.across)
    y = Scale(0.0, 1.0, *frame.up)
    intensity = {load.name: load.intensity for load in loads}
    parts = [frame.x_axis(x, axis, places), frame.y_axis(y, "", percent=True)]
    for policy in drawing_order(list(style)):
        points = sorted(
            (x(intensity[one.load]), y(value))
            for one in found
            if one.policy == policy
            and one.load in intensity
            and (value := one.values.get("goodput")) is not None
        )
        if points:
            dots = "".join(element("circle", cx=cx, cy=cy, r=3) for cx, cy in points)
            parts.append(_line(policy, style, path(points), dots))
    return frame.picture(f"Goodput against {axis}, a line a policy", *parts)


def hit_ratios(rows: Sequence[Median], style: Styles) -> str:
    """A bar a policy, the longest first."""
    shown = [
        (value, one.policy) for one in rows if (value := one.values.get("hit_ratio")) is not None
    ]
    shown.sort(reverse=True)
    if not shown:
        return ""
    frame = Frame(420, 20.0 * len(shown) + 12, left=150, right=52, top=4, bottom=4)
    x = Scale(0.0, max(max(shown)[0], 1e-9), *frame.across)
    parts = []
    for place, (value, policy) in enumerate(shown):
        y = frame.top + 20.0 * place
        bar = (
            element("text", text_of(policy), x=frame.left - 6, y=y + 14, text_anchor="end")
            + element("rect", x=frame.left, y=y + 3, width=x(value) - frame.left, height=14, rx=2)
            + element("text", f"{value:.1%}", x=x(value) + 5, y=y + 14)
        )
        parts.append(element("g", bar, class_=f"bar {style[policy]}", data_policy=policy))
    return frame.picture("Share of prompt tokens found in a cache, a bar a policy", *parts)


def balances(found: Mapping[str, Sequence[Moment]], ranked: Sequence[str], style: Styles) -> str:
    """A small chart a policy: requests on the fullest, the average and the emptiest endpoint."""
    shown = [policy for policy in ranked if found.get(policy)]
    if not shown:
        return ""
    heights = [max(moment.most for moment in found[policy]) for policy in shown]
    # One policy that drowns an endpoint must not flatten all others: it is cut off.
    most = min(max(heights), BALANCE_CUT * median(heights))
    last = max(found[policy][-1].at for policy in shown)
    return "".join(_balance(policy, found[policy], most, last, style) for policy in shown)


def _balance(
    policy: str, moments: Sequence[Moment], most: float, last: float, style: Styles
) -> str:
    frame = Frame(230, 120, left=34, right=6, top=6, bottom=18)
    x = Scale(0.0, max(last, 1e-9), *frame.across)
    y = Scale(0.0, max(most, 1.0), *frame.up)
    upper = [(x(moment.at), y(moment.most)) for moment in moments]
    lower = [(x(moment.at), y(moment.least)) for moment in reversed(moments)]
    mean = [(x(moment.at), y(moment.mean)) for moment in moments]
    band = element("path", class_="band", d=path([*upper, *lower]) + "Z")
    bottom = frame.up[0]
    end = element("text", f"{last:,.0f} s", x=frame.across[1], y=bottom + 13, text_anchor="end")
    chart = frame.picture(
        f"Requests on an endpoint over time under {policy}",
        frame.y_axis(y, "", count=3),
        element("text", "0", x=frame.left, y=bottom + 13),
        end,
        band,
        element("path", class_="line", d=path(mean)),
    )
    caption = element("figcaption", text_of(policy))
    return element(
        "figure", caption + chart, class_=f"small policy {style[policy]}", data_policy=policy
    )


def _line(policy: str, style: Styles, d: str, marks: str = "") -> str:
    drawn = element("title", text_of(policy)) + element("path", class_="line", d=d) + marks
    return element("g", drawn, class_=f"policy {style[policy]}", data_policy=policy)
