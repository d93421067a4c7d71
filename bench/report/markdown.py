"""The same tables as Markdown, for the README and docs."""

from collections.abc import Sequence

from bench.report.figures import columns, command_of, flat, heading, shown
from bench.results import Results, number


def tables(found: Sequence[Results]) -> str:
    """For each bench its command, its checks and its figures."""
    parts = []
    for one in found:
        parts.append(f"### {one.bench}\n\n`{command_of(one)}`, {one.finished_at}\n")
        if one.checks:
            rows = [
                (
                    check.name,
                    f"{number(check.value)} {check.unit}",
                    number(check.limit),
                    "holds" if check.ok else "**does not hold**",
                )
                for check in one.checks
            ]
            parts.append(_table(("check", "value", "bar", ""), rows))
        figures = [flat(row) for row in one.medians]
        names = columns(figures)
        parts.append(
            _table(
                [heading(name) for name in names],
                [[shown(name, row.get(name)) for name in names] for row in figures],
            )
        )
    return "\n".join(parts)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
