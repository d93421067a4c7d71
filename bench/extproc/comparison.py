"""Rounds of all pickers, their medians, and the bars that ours has to clear."""

from collections.abc import Callable, Iterator, Sequence
from statistics import median

from msgspec import Struct
from msgspec.structs import asdict
from rich.table import Table

from bench.extproc import envoy
from bench.extproc.measure import Measured, run
from bench.extproc.scenarios import FEW_EVENTS, HELD, LONG, LONG_MANY, MANY_EVENTS, SHORT
from bench.overhead.control import HelperError
from bench.overhead.measure import Servers
from bench.overhead.programs import AbsentError
from bench.overhead.scenarios import Scenario
from bench.results import Check, at_least, at_most, number

OURS = "inferway"

CASES: dict[str, tuple[tuple[str, str], ...]] = {
    SHORT.name: (
        (OURS, envoy.RECOMMENDED),
        (OURS, envoy.DUPLEX),
        (OURS, envoy.PROTOCOL),
        ("grpc.aio raw", envoy.RECOMMENDED),
        ("grpc.aio raw", envoy.PROTOCOL),
        ("grpc.aio typed", envoy.PROTOCOL),
    ),
    LONG.name: (
        (OURS, envoy.RECOMMENDED),
        (OURS, envoy.DUPLEX),
        ("grpc.aio raw", envoy.RECOMMENDED),
        ("grpc.aio raw", envoy.DUPLEX),
        ("grpc.aio typed", envoy.DUPLEX),
    ),
    LONG_MANY.name: (
        (OURS, envoy.RECOMMENDED),
        (OURS, envoy.DUPLEX),
        ("grpc.aio raw", envoy.DUPLEX),
    ),
    FEW_EVENTS.name: ((OURS, envoy.RECOMMENDED), (OURS, envoy.PROTOCOL)),
    MANY_EVENTS.name: ((OURS, envoy.RECOMMENDED), (OURS, envoy.PROTOCOL)),
    HELD.name: ((OURS, envoy.RECOMMENDED),),
}
"""Scenario -> pickers and modes of Envoy's filter that are worth knowing about in it."""

_COLUMNS: tuple[tuple[str, str, float], ...] = (
    ("req/s", "requests_per_second", 1.0),
    ("p50 ms", "latency_p50_ms", 1.0),
    ("p99 ms", "latency_p99_ms", 1.0),
    ("CPU us/req", "cpu_us_per_request", 1.0),
    ("Envoy us/req", "envoy_cpu_us", 1.0),
    ("kB/stream", "bytes_per_stream", 1e-3),
    ("client busy %", "client_busy", 100.0),
    ("changed", "bodies_changed", 1.0),
    ("errors", "errors", 1.0),
)
_FAULTS = frozenset({"errors", "bodies_changed"})


class Run(Struct, frozen=True):
    """One picker in one scenario of one round; nothing measured when it did not end, and why."""

    round: int
    picker: str
    mode: str
    scenario: str
    measured: Measured | None
    failure: str | None = None


class Median(Struct, frozen=True):
    """Over all rounds; faults add up, a value is None when no round has it."""

    picker: str
    mode: str
    scenario: str
    values: dict[str, float | None]
    failures: tuple[str, ...] = ()


def play(
    scenarios: Sequence[Scenario],
    pickers: Sequence[str],
    rounds: int,
    servers: Servers,
    progress: Callable[[str], object],
) -> Iterator[Run]:
    """Every case in every round; one that can't be started gives a run with the reason."""
    for turn in range(rounds):
        for scenario in scenarios:
            for picker, mode in CASES[scenario.name]:
                if picker not in pickers:
                    continue
                progress(f"round {turn + 1}/{rounds}: {scenario.name}, {picker}, {mode}")
                measured, failure = None, None
                try:
                    measured = run(picker, mode, scenario, servers)
                except (AbsentError, HelperError) as error:
                    failure = str(error)
                yield Run(turn, picker, mode, scenario.name, measured, failure)


def medians(runs: Sequence[Run]) -> list[Median]:
    """In the order in which cases first ran."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for one in runs:
        groups.setdefault((one.scenario, one.picker, one.mode), []).append(one)
    return [
        Median(
            picker,
            mode,
            scenario,
            _values([one.measured for one in group if one.measured is not None]),
            tuple(one.failure for one in group if one.failure is not None),
        )
        for (scenario, picker, mode), group in groups.items()
    ]


def _values(measured: Sequence[Measured]) -> dict[str, float | None]:
    rows = [
        {
            **asdict(one.figures),
            "envoy_cpu_us": one.envoy_cpu_us,
            "asked_cpu_us": one.asked_cpu_us,
        }
        for one in measured
    ]
    values: dict[str, float | None] = {}
    for name in (*(column[1] for column in _COLUMNS), "asked_cpu_us"):
        found = [row[name] for row in rows if row[name] is not None]
        values[name] = (sum(found) if name in _FAULTS else median(found)) if found else None
    return values


def table(scenario: Scenario, found: Sequence[Median]) -> Table:
    """One scenario's medians; columns that nobody has are left out."""
    rows = [one for one in found if one.scenario == scenario.name]
    columns = [
        column for column in _COLUMNS if any(one.values[column[1]] is not None for one in rows)
    ]
    result = Table(title=f"{scenario.name}: {scenario.title}, {scenario.requests:,} requests")
    result.add_column("picker")
    result.add_column("Envoy's filter")
    for heading, _, _ in columns:
        result.add_column(heading, justify="right")
    for one in rows:
        values = [(one.values[name], factor) for _, name, factor in columns]
        cells = [number(None if value is None else value * factor) for value, factor in values]
        result.add_row(one.picker, one.mode, *cells)
    return result


def chunk_cpu(found: Sequence[Median], mode: str) -> float | None:
    """CPU of the picker for each further streamed chunk, microseconds.

    From streams of equal number and unequal length: what a request costs cancels out. What the
    picker uses while nobody asks is left out, as longer streams take longer.
    """
    few = _value(found, FEW_EVENTS.name, mode, "asked_cpu_us")
    many = _value(found, MANY_EVENTS.name, mode, "asked_cpu_us")
    if few is None or many is None:
        return None
    return (many - few) / (MANY_EVENTS.chunks - FEW_EVENTS.chunks)


def _value(found: Sequence[Median], scenario: str, mode: str, figure: str) -> float | None:
    for one in found:
        if (one.scenario, one.picker, one.mode) == (scenario, OURS, mode):
            return one.values[figure]
    return None


_CPU_BARS = {SHORT.name: 250.0, LONG.name: 1_300.0}
_FREE_CHUNK_US = 1.0
"""What measuring can't tell from nothing: a chunk that passes through us costs ten times more."""


def checks(found: Sequence[Median], scenarios: Sequence[Scenario]) -> list[Check]:
    """The bars for ours, of the scenarios that ran."""
    made: list[Check] = []
    names = {scenario.name for scenario in scenarios}
    for name, bar in _CPU_BARS.items():
        for mode in (envoy.RECOMMENDED, envoy.DUPLEX) if name in names else ():
            value = _value(found, name, mode, "cpu_us_per_request")
            made.append(at_most(f"{name}, {mode}: CPU per request", value, bar, "us"))
    if SHORT.name in names:
        value = _value(found, SHORT.name, envoy.RECOMMENDED, "requests_per_second")
        made.append(at_least(f"{SHORT.name}: requests per second", value, 2_500, "1/s"))
    if LONG_MANY.name in names:
        value = _value(found, LONG_MANY.name, envoy.RECOMMENDED, "latency_p50_ms")
        made.append(at_most(f"{LONG_MANY.name}: p50 latency", value, 300, "ms"))
    if {FEW_EVENTS.name, MANY_EVENTS.name} <= names:
        value = chunk_cpu(found, envoy.RECOMMENDED)
        made.append(at_most("CPU of a streamed chunk", value, _FREE_CHUNK_US, "us"))
    for one in found:
        if one.picker == OURS:
            for figure in sorted(_FAULTS):
                what = f"{one.scenario}, {one.mode}: {figure.replace('_', ' ')}"
                made.append(at_most(what, one.values[figure], 0, "requests"))
            if one.failures:
                what = f"{one.scenario}, {one.mode}: runs that failed"
                made.append(at_most(what, len(one.failures), 0, "runs"))
    return made
