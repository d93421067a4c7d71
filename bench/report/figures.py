"""What benches wrote, read back: files, rows of figures, and the command that made them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from bench.results import Results, number

Row = Mapping[str, object]
_HIDDEN = frozenset({"what", "error_kinds", "bad_kinds", "ttfts", "one_victim"})


class ReportError(ValueError):
    """A file that is no bench's; the message names it."""


def read(file: Path) -> Results:
    """A bench's JSON. Raises `ReportError`."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Results)
    except (OSError, msgspec.MsgspecError) as error:
        raise ReportError(f"{file}: {error}") from error


def command_of(found: Results) -> str:
    """How to do it again: the command line, without where its program and its JSON lay."""
    argv = found.parameters.get("command")
    if not isinstance(argv, list) or not argv:
        return ""
    words = [Path(str(argv[0])).name, *map(str, argv[1:])]
    if words[0] == "__main__.py":
        words[:1] = ["inferway", "bench"]
    if "--json" in words[:-1]:
        place = words.index("--json")
        words[place + 1] = Path(words[place + 1]).name
    return " ".join(words)


def flat(row: Row) -> dict[str, object]:
    """A row without rows in it: those of ``values`` join it, long ones are left out."""
    found: dict[str, object] = {}
    for name, value in row.items():
        if name in _HIDDEN:
            continue
        if isinstance(value, Mapping):
            found.update(flat(value))
        elif not isinstance(value, Sequence) or isinstance(value, str):
            found[name] = value
    return found


def shown(name: str, value: object) -> str:
    """A figure for people; bytes in megabytes."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-" if value is None else str(value)
    return number(value / 1e6 if is_bytes(name) else value)


def heading(name: str) -> str:
    """A figure's name for people."""
    words = name.replace("_", " ")
    return words.replace("rss", "memory").replace(" bytes", "") + " MB" * is_bytes(name)


def is_bytes(name: str) -> bool:
    """Whether a figure is in bytes."""
    return name.endswith("_bytes") or name.startswith("rss_")


def columns(rows: Sequence[Row]) -> list[str]:
    """The names of all figures that any row has, in their order."""
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(name for name, value in row.items() if value is not None))
    return list(names)
