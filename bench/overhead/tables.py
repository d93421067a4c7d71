"""The comparison for people."""

from collections.abc import Sequence

from rich.table import Table

from bench.overhead.comparison import Median
from bench.overhead.scenarios import Scenario
from bench.results import number

_COLUMNS: tuple[tuple[str, str, float], ...] = (
    ("req/s", "requests_per_second", 1.0),
    ("p50 ms", "latency_p50_ms", 1.0),
    ("p99 ms", "latency_p99_ms", 1.0),
    ("CPU us/req", "cpu_us_per_request", 1.0),
    ("CPU us/chunk", "cpu_us_per_chunk", 1.0),
    ("peak MB", "peak_rss_bytes", 1e-6),
    ("kB/stream", "bytes_per_stream", 1e-3),
    ("client us/req", "client_cpu_us_per_request", 1.0),
    ("client busy %", "client_busy", 100.0),
    ("servers", "servers_used", 1.0),
    ("changed", "bodies_changed", 1.0),
    ("errors", "errors", 1.0),
)
"""Heading, figure, and the factor from the figure's unit to the heading's."""


def table(scenario: Scenario, found: Sequence[Median]) -> Table:
    """One scenario's medians, a gateway a row; columns that nobody has are left out."""
    rows = [one for one in found if one.scenario == scenario.name]
    columns = [
        column for column in _COLUMNS if any(one.values[column[1]] is not None for one in rows)
    ]
    result = Table(title=f"{scenario.name}: {scenario.title}, {scenario.requests:,} requests")
    result.add_column("gateway")
    for heading, _, _ in columns:
        result.add_column(heading, justify="right")
    for one in rows:
        cells = []
        for _, figure, factor in columns:
            value = one.values[figure]
            cells.append(number(None if value is None else value * factor))
        result.add_row(one.gateway, *cells)
    return result
