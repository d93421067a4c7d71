"""Charts of any bench: lines over time, distributions, bars. Each series has a colour class."""

from collections.abc import Mapping, Sequence

from bench.report.svg import Frame, Scale, element, path, text_of

OURS = "inferway"
_COLOURS = ("rival1", "rival2", "rival3")

Styles = Mapping[str, str]
"""Series -> the class that colours it."""


def styles(names: Sequence[str]) -> Styles:
    """Ours has its colour, the first others one each, the rest are grey."""
    free = iter(_COLOURS)
    return {name: "ours" if name == OURS else next(free, "other") for name in names}


def legend(style: Styles) -> str:
    """All series, to point at."""
    items = [
        element("li", element("i", class_=colour) + text_of(name), data_policy=name, tabindex="0")
        for name, colour in style.items()
    ]
    return element("ul", "".join(items), class_="legend")


def over_time(
    points: Sequence[tuple[float, float]], x_title: str, y_title: str, *, from_zero: bool = False
) -> str:
    """One line."""
    if len(points) < 2:
        return ""
    frame = Frame(560, 240, left=58)
    values = [value for _, value in points]
    low, high = (0.0 if from_zero else min(values)), max(values)
    room = (high - low) * 0.15 or max(abs(high), 1.0) * 0.1
    x = Scale(points[0][0], points[-1][0], *frame.across)
    y = Scale(max(low - (0 if from_zero else room), 0.0), high + room, *frame.up)
    drawn = path((x(at), y(value)) for at, value in points)
    line = element("g", element("path", class_="line", d=drawn), class_="policy ours")
    return frame.picture(
        f"{y_title} over {x_title}", frame.x_axis(x, x_title), frame.y_axis(y, y_title), line
    )


def distribution(found: Mapping[str, Sequence[float]], style: Styles, x_title: str) -> str:
    """The share of values up to each value, a line a series; the values' axis is logarithmic."""
    values = [value for series in found.values() for value in series if value > 0]
    if not values:
        return ""
    frame = Frame(560, 300)
    x = Scale(min(values), max(*values, min(values) * 2), *frame.across, logarithmic=True)
    y = Scale(0.0, 1.0, *frame.up)
    parts = [frame.x_axis(x, x_title), frame.y_axis(y, "", percent=True)]
    for name in sorted(found, key=lambda name: name == OURS):  # ours on top
        ordered = sorted(value for value in found[name] if value > 0)
        points = [(x(value), y((place + 1) / len(ordered))) for place, value in enumerate(ordered)]
        if points:
            drawn = element("title", text_of(name)) + element("path", class_="line", d=path(points))
            parts.append(element("g", drawn, class_=f"policy {style[name]}", data_policy=name))
    return frame.picture(f"Distribution of {x_title}, a line a series", *parts)


def bars(found: Mapping[str, float], style: Styles, label: str, form: str = "{:,.2f}") -> str:
    """A bar a series, in the order given."""
    if not found:
        return ""
    frame = Frame(420, 22.0 * len(found) + 10, left=130, right=62, top=4, bottom=4)
    x = Scale(0.0, max(*found.values(), 1e-9), *frame.across)
    parts = []
    for place, (name, value) in enumerate(found.items()):
        y = frame.top + 22.0 * place
        bar = (
            element("text", text_of(name), x=frame.left - 6, y=y + 15, text_anchor="end")
            + element("rect", x=frame.left, y=y + 4, width=x(value) - frame.left, height=14, rx=2)
            + element("text", form.format(value), x=x(value) + 5, y=y + 15)
        )
        parts.append(element("g", bar, class_=f"bar {style[name]}", data_policy=name))
    return frame.picture(label, *parts)
