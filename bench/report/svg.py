"""Drawing by hand: scales, axes and marks as SVG text. Every word of others is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape
from math import ceil, floor, log10

from msgspec import Struct


def element(tag: str, content: str = "", /, **attributes: object) -> str:
    """One element. Attribute names: ``class_`` is class, ``stroke_width`` is stroke-width.

    Attribute values are escaped; ``content`` is markup: escape text with `text_of` first.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return f"<{tag}{written}>{content}</{tag}>"


def text_of(value: object) -> str:
    """Any value as markup that shows it."""
    return escape(str(value))


def _value(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


class Scale(Struct, frozen=True):
    """From values to places on the page, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Where a value stands; what lies outside stands at the edge."""
        low, high = self.low, self.high
        value = min(max(value, low), high)
        if self.logarithmic:
            low, high, value = log10(low), log10(high), log10(value)
        share = (value - low) / (high - low) if high > low else 0.0
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values within the scale: 1, 2 and 5 times powers of ten."""
        if self.logarithmic:
            powers = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
            wide = self.high / self.low > 1e3
            steps = (1,) if wide else (1, 2, 5)
            values = [step * 10.0**power for power in powers for step in steps]
            return [value for value in values if self.low <= value <= self.high]
        if self.high <= self.low:
            return [self.low]
        rough = (self.high - self.low) / count
        power = 10.0 ** floor(log10(rough))
        step = next(one * power for one in (1, 2, 5, 10) if one * power >= rough)
        first = ceil(self.low / step)
        return [step * n for n in range(first, floor(self.high / step + 1e-9) + 1)]


class Frame(Struct, frozen=True):
    """The box between the axes of a chart, in pixels of its view box."""

    width: float
    height: float
    left: float = 46
    right: float = 12
    top: float = 10
    bottom: float = 34

    @property
    def across(self) -> tuple[float, float]:
        """Where the horizontal axis starts and ends."""
        return self.left, self.width - self.right

    @property
    def up(self) -> tuple[float, float]:
        """Where the vertical axis starts (below) and ends."""
        return self.height - self.bottom, self.top

    def picture(self, label: str, *parts: str) -> str:
        """The whole chart; ``label`` says what it shows to whoever can't see it."""
        return element(
            "svg",
            element("title", text_of(label)) + "".join(parts),
            viewBox=f"0 0 {self.width:g} {self.height:g}",
            role="img",
        )

    def x_axis(self, scale: Scale, title: str, ticks: Sequence[float] | None = None) -> str:
        """Ticks with grid lines, and the title below."""
        bottom, top = self.up
        parts = []
        for value in scale.ticks() if ticks is None else ticks:
            x = scale(value)
            parts.append(element("line", class_="grid", x1=x, x2=x, y1=bottom, y2=top))
            parts.append(element("text", f"{value:g}", x=x, y=bottom + 14, text_anchor="middle"))
        middle = sum(self.across) / 2
        parts.append(
            element("text", text_of(title), x=middle, y=self.height - 4, text_anchor="middle")
        )
        return "".join(parts)

    def y_axis(self, scale: Scale, title: str, percent: bool = False, count: int = 5) -> str:
        """Ticks with grid lines, and the title along the axis."""
        left, right = self.across
        parts = []
        for value in scale.ticks(count):
            y = scale(value)
            words = f"{value:.0%}" if percent else f"{value:g}"
            parts.append(element("line", class_="grid", x1=left, x2=right, y1=y, y2=y))
            parts.append(element("text", words, x=left - 5, y=y + 4, text_anchor="end"))
        if title:
            y = sum(self.up) / 2
            parts.append(
                element(
                    "text",
                    text_of(title),
                    x=11,
                    y=y,
                    text_anchor="middle",
                    transform=f"rotate(-90 11 {y:g})",
                )
            )
        return "".join(parts)


def path(points: Iterable[tuple[float, float]]) -> str:
    """The ``d`` of a line through the points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
