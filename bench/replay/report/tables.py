"""Results on a terminal."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from bench.replay.checks import CLAIRVOYANT
from bench.replay.report.columns import COLUMNS, Setting, best_text
from bench.replay.summary import Median
from routing.policies import DEFAULT_POLICY

WIDE = 150
"""Characters from which on all columns fit."""


def table(setting: Setting, rows: Sequence[Median], width: int = WIDE) -> Table:
    """One setting, a policy a row; columns that nobody has are left out, the best is bold."""
    columns = [
        column
        for column in COLUMNS
        if (column.main or width >= WIDE)
        and any(one.values.get(column.figure) is not None for one in rows)
    ]
    seeds = max((one.seeds for one in rows), default=0)
    result = Table(title=escape(f"{setting}, {seeds} seed{'s' * (seeds != 1)}"))
    result.add_column("policy", no_wrap=True)
    for column in columns:
        result.add_column(f"{column.heading} {column.unit}".strip(), justify="right")
    best = {column: best_text(column, rows) for column in columns}
    for one in rows:
        cells = []
        for column in columns:
            text = column.text(one.values.get(column.figure))
            bold = text == best[column] and one.policy != CLAIRVOYANT
            cells.append(f"[bold]{text}[/bold]" if bold else text)
        result.add_row(_name(one.policy), *cells)
    return result


def _name(policy: str) -> str:
    if policy == DEFAULT_POLICY:
        return f"[bold]{policy}[/bold]"
    return f"[dim]{policy} (exact state)[/dim]" if policy == CLAIRVOYANT else escape(policy)
