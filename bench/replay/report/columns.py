"""The columns of every table of results, on a terminal as on a page."""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from bench.replay.checks import CLAIRVOYANT
from bench.replay.summary import Median


class Column(Struct, frozen=True):
    """A heading, the figure below it, and the factor from the figure's unit to the heading's.

    ``good``: -1 when less is better, 1 when more is, 0 when neither is. ``main``: shown also
    where there is little room.
    """

    heading: str
    unit: str
    figure: str
    factor: float = 1.0
    digits: int = 2
    good: int = -1
    main: bool = False

    def text(self, value: float | None) -> str:
        """A value in the heading's unit; a dash when it is missing."""
        return "-" if value is None else f"{value * self.factor:,.{self.digits}f}"


COLUMNS: Sequence[Column] = (
    Column("TTFT mean", "s", "ttft_mean", main=True),
    Column("TTFT p50", "s", "ttft_p50", main=True),
    Column("TTFT p90", "s", "ttft_p90", main=True),
    Column("TTFT p99", "s", "ttft_p99", main=True),
    Column("longest wait", "s", "longest_wait", digits=1),
    Column("TPOT p50", "ms", "tpot_p50", 1000.0, 1),
    Column("TPOT p90", "ms", "tpot_p90", 1000.0, 1, main=True),
    Column("TPOT p99", "ms", "tpot_p99", 1000.0, 1),
    Column("goodput", "%", "goodput", 100.0, 1, 1, main=True),
    Column("hits", "%", "hit_ratio", 100.0, 1, 1, main=True),
    Column("done", "%", "completion", 100.0, 1, 1, main=True),
    Column("requests spread", "", "request_spread"),
    Column("prefill spread", "", "prefill_spread"),
    Column("TTFT error", "%", "ttft_error", 100.0, 0),
    Column("cached error", "%", "cached_error", 100.0, 1),
    Column("decision", "us", "decision_us", 1.0, 0, 0),
)


class Setting(Struct, frozen=True):
    """What the rows of one table have in common."""

    load: str
    events: bool
    fault: str | None

    def __str__(self) -> str:
        parts = [self.load]
        parts += [] if self.events else ["no cache events"]
        parts += [] if self.fault is None else [f"fault: {self.fault}"]
        return ", ".join(parts)


def by_setting(found: Iterable[Median]) -> dict[Setting, list[Median]]:
    """The rows of each table, best p90 TTFT first; what has none comes last."""
    groups: dict[Setting, list[Median]] = {}
    for one in found:
        groups.setdefault(Setting(one.load, one.events, one.fault), []).append(one)
    for group in groups.values():
        group.sort(key=_place)
    return groups


def _place(one: Median) -> tuple[bool, float]:
    value = one.values.get("ttft_p90")
    return value is None, value or 0.0


def best_text(column: Column, rows: Iterable[Median]) -> str | None:
    """How the best value of a column reads, the clairvoyant's apart; None when none is better."""
    values = [
        value
        for one in rows
        if one.policy != CLAIRVOYANT and (value := one.values.get(column.figure)) is not None
    ]
    if not column.good or len({column.text(value) for value in values}) < 2:
        return None
    return column.text(max(values) if column.good > 0 else min(values))
