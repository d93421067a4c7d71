"""The Azure LLM inference traces: arrivals and lengths of a real service, without prompts.

CSV with the columns TIMESTAMP, ContextTokens and GeneratedTokens; source: AzurePublicDataset,
Patel et al., "Splitwise", ISCA 2024, CC-BY. Nothing tells which prompts share a beginning, so
every prompt is taken as unique: such a load shows balancing alone, no cache.
"""

import csv
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path

from bench.replay.workload import Arrival, Workload
from bench.replay.workloads.loaded import Loaded
from bench.traces.mooncake import TraceError

BLOCK_TOKENS = 512
COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def load_azure(text: str, path: Path, name: str, requests: int | None) -> Loaded:
    """The first ``requests`` rows of a trace, in the order of time. Raises `TraceError`."""
    rows = sorted(islice(_rows(text, path), requests))
    arrivals = []
    block = 0
    for at, prompt, output in rows:
        blocks = -(-prompt // BLOCK_TOKENS)
        arrivals.append(
            Arrival(at - rows[0][0], prompt, output, tuple(range(block, block + blocks)))
        )
        block += blocks
    return Loaded(
        Workload(name, tuple(arrivals), BLOCK_TOKENS),
        (f"{path.name} says nothing about shared prefixes: every prompt is taken as unique",),
    )


def _rows(text: str, path: Path) -> Iterator[tuple[float, int, int]]:
    """(seconds, prompt tokens, output tokens) of each row."""
    rows = csv.DictReader(text.splitlines())
    for column in COLUMNS:
        if column not in (rows.fieldnames or ()):
            raise TraceError(f"{path}, line 1: there is no column {column}")
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        try:
            at = datetime.fromisoformat((row["TIMESTAMP"] or "").strip()).timestamp()
        except ValueError:
            raise TraceError(f"{where}: TIMESTAMP is {row['TIMESTAMP']!r}, no time") from None
        yield at, _count(row, "ContextTokens", where), _count(row, "GeneratedTokens", where)


def _count(row: dict[str, str], column: str, where: str) -> int:
    """A number of tokens; an engine computes at least one of the prompt and one of the answer."""
    try:
        value = int(row[column])
    except (TypeError, ValueError):
        raise TraceError(f"{where}: {column} is {row[column]!r}, no whole number") from None
    if value < 0:
        raise TraceError(f"{where}: {column} is {value}, below 0")
    return max(1, value)
