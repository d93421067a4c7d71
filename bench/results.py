"""What every bench gives: machine, parameters, raw rounds, medians and checks, as JSON too."""

import importlib.metadata
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil
from msgspec import Struct
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_LIBRARIES = ("inferway", "uvloop", "httptools", "msgspec", "xxhash")


class Check(Struct, frozen=True):
    """One bar: ``value`` may be at most ``limit``. A value that is missing (None) is not ok."""

    name: str
    value: float | None
    limit: float
    unit: str
    ok: bool


def at_most(name: str, value: float | None, limit: float, unit: str) -> Check:
    """The check that ``value`` is measured and at most ``limit``."""
    return Check(name, value, limit, unit, ok=value is not None and value <= limit)


def at_least(name: str, value: float | None, limit: float, unit: str) -> Check:
    """The check that ``value`` is measured and at least ``limit``."""
    return Check(name, value, limit, unit, ok=value is not None and value >= limit)


class Machine(Struct, frozen=True):
    """Where it was measured; ``memory_bytes`` is what the machine has."""

    processor: str
    cores: int
    memory_bytes: int
    system: str
    python: str
    libraries: dict[str, str]


def this_machine() -> Machine:
    """Facts of this machine."""
    return Machine(
        processor=_processor(),
        cores=psutil.cpu_count() or 0,
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        libraries={name: importlib.metadata.version(name) for name in _LIBRARIES},
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


class Results(Struct, frozen=True, kw_only=True):
    """One bench, complete. ``notes`` say whatever a reader of the figures must know."""

    bench: str
    finished_at: str
    machine: Machine
    parameters: Mapping[str, object]
    notes: Sequence[str]
    rounds: Sequence[Mapping[str, object]]
    medians: Sequence[Mapping[str, object]]
    checks: Sequence[Check]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)


def results(
    bench: str,
    *,
    parameters: Mapping[str, object],
    rounds: Iterable[Mapping[str, object]],
    medians: Iterable[Mapping[str, object]],
    checks: Iterable[Check],
    notes: Iterable[str] = (),
) -> Results:
    """What a bench found, with machine and time."""
    return Results(
        bench=bench,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=this_machine(),
        parameters={**parameters, "command": sys.argv},
        notes=list(notes),
        rounds=list(rounds),
        medians=list(medians),
        checks=list(checks),
    )


def write_json(found: Results, file: Path) -> None:
    """Write them as indented JSON. Raises OSError."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")


def print_checks(found: Results, console: Console) -> None:
    """The notes, and the checks as a table."""
    for note in found.notes:
        console.print(f"[yellow]note:[/yellow] {escape(note)}")
    if not found.checks:
        console.print("no bar applies to what was measured")
        return
    table = Table(title="checks")
    for heading in ("check", "value", "limit", "unit", ""):
        table.add_column(heading, justify="right" if heading in {"value", "limit"} else "left")
    for check in found.checks:
        verdict = "[green]ok[/green]" if check.ok else "[red]FAILED[/red]"
        table.add_row(check.name, number(check.value), number(check.limit), check.unit, verdict)
    console.print(table)


def figures_table(
    title: str, rows: Sequence[Mapping[str, float | str | None]], omit: Sequence[str] = ()
) -> Table:
    """Rows of equal figures, a column each, headed by their names; texts as they are."""
    names = [name for name in rows[0] if name not in omit]
    table = Table(title=title)
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        values = (row[name] for name in names)
        table.add_row(*(one if isinstance(one, str) else number(one) for one in values))
    return table


def number(value: float | None) -> str:
    """A figure for people: three significant digits or whole; a dash when it is missing."""
    if value is None:
        return "-"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
