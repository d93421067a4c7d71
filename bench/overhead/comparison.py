"""Rounds of all gateways, their medians, and the bars that ours has to clear."""

from collections.abc import Callable, Iterator, Sequence
from statistics import median

from msgspec import Struct
from msgspec.structs import asdict

from bench.overhead.control import HelperError
from bench.overhead.gateways import DIRECT, GATEWAYS, INFERWAY, Gateway
from bench.overhead.measure import Figures, Servers, run
from bench.overhead.programs import AbsentError
from bench.overhead.scenarios import Scenario
from bench.results import Check, at_most

_BY_NAME = {gateway.name: gateway for gateway in GATEWAYS}
_COMPARED = tuple(gateway.name for gateway in GATEWAYS if gateway.compared)

MEDIAN_FIGURES = tuple(
    name
    for name in Figures.__struct_fields__
    if name not in {"requests", "error_kinds", "errors", "bodies_changed"}
)
SUMMED_FIGURES = ("errors", "bodies_changed")
"""A fault in one round is a fault: these add up, no median hides them."""


class Run(Struct, frozen=True):
    """One gateway in one scenario of one round; no figures when it did not end, and why."""

    round: int
    gateway: str
    scenario: str
    figures: Figures | None
    failure: str | None = None


class Median(Struct, frozen=True):
    """One gateway in one scenario over all rounds; a value is None when no round has it."""

    gateway: str
    scenario: str
    values: dict[str, float | None]
    failures: tuple[str, ...] = ()


def order(names: Sequence[str], number: int) -> list[str]:
    """The gateways in the order of a round: rotated, so that none is always first."""
    shift = number % len(names)
    return [*names[shift:], *names[:shift]]


def play(
    names: Sequence[str],
    scenarios: Sequence[Scenario],
    rounds: int,
    servers: Servers,
    progress: Callable[[str], object],
    ours: Gateway = INFERWAY,
) -> Iterator[Run]:
    """Every round runs every gateway once in every scenario; one that is absent once is left out.

    An absent gateway gives one run with its reason, so that nobody takes silence for a result.
    """
    absent: set[str] = set()
    for number in range(rounds):
        for scenario in scenarios:
            for name in order(names, number):
                if name in absent:
                    continue
                progress(f"round {number + 1}/{rounds}: {scenario.name}, {name}")
                gateway = None if name == DIRECT else (_BY_NAME | {ours.name: ours})[name]
                try:
                    measured = run(gateway, scenario, servers)
                except AbsentError as error:
                    absent.add(name)
                    yield Run(number, name, scenario.name, None, f"absent: {error}")
                except HelperError as error:
                    yield Run(number, name, scenario.name, None, f"the run failed: {error}")
                else:
                    yield Run(number, name, scenario.name, measured)


def medians(runs: Sequence[Run]) -> list[Median]:
    """Over the rounds, in the order in which scenarios and gateways first ran."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for one in runs:
        groups.setdefault((one.scenario, one.gateway), []).append(one)
    return [
        Median(
            gateway,
            scenario,
            _values([one.figures for one in group if one.figures is not None]),
            tuple(one.failure for one in group if one.failure is not None),
        )
        for (scenario, gateway), group in groups.items()
    ]


def _values(measured: Sequence[Figures]) -> dict[str, float | None]:
    rows = [asdict(figures) for figures in measured]
    values: dict[str, float | None] = {}
    for name in MEDIAN_FIGURES:
        numbers = [row[name] for row in rows if row[name] is not None]
        values[name] = median(numbers) if numbers else None
    for name in SUMMED_FIGURES:
        values[name] = sum(row[name] for row in rows) if rows else None
    return values


def ratio(found: Sequence[Median], scenario: str, figure: str) -> float | None:
    """Ours over the best of the compared routers; None when either is missing."""
    ours = _value(found, INFERWAY.name, scenario, figure)
    theirs = [_value(found, name, scenario, figure) for name in _COMPARED]
    best = min((value for value in theirs if value is not None), default=None)
    return None if ours is None or not best else ours / best


def _value(found: Sequence[Median], gateway: str, scenario: str, figure: str) -> float | None:
    for one in found:
        if (one.gateway, one.scenario) == (gateway, scenario):
            return one.values[figure]
    return None


RATIO_BARS: dict[str, tuple[tuple[str, str, float], ...]] = {
    "unary-4k-c1": (("cpu_us_per_request", "CPU per request", 0.5),),
    "unary-4k-c32": (("cpu_us_per_request", "CPU per request", 0.5),),
    "streams-100": (("cpu_us_per_chunk", "CPU per chunk", 0.75),),
    "long-220k-c20": (
        ("cpu_us_per_request", "CPU per request", 0.4),
        ("latency_p50_ms", "p50 latency", 1.0),
    ),
    "long-220k-c150": (
        ("cpu_us_per_request", "CPU per request", 0.4),
        ("latency_p50_ms", "p50 latency", 1.0),
    ),
}
_STREAM_BYTES = 20_000


def checks(
    found: Sequence[Median], names: Sequence[str], scenarios: Sequence[Scenario]
) -> list[Check]:
    """The bars for ours. Ratios are asked for when a Rust router was, even if it was absent."""
    if INFERWAY.name not in names:
        return []
    made = []
    for scenario in scenarios:
        if any(name in names for name in _COMPARED):
            made += [
                at_most(
                    f"{scenario.name}: {what}, of the better Rust router's",
                    ratio(found, scenario.name, figure),
                    limit,
                    "ratio",
                )
                for figure, what, limit in RATIO_BARS.get(scenario.name, ())
            ]
        for figure, what in (
            ("errors", "errors"),
            ("bodies_changed", "bodies changed on the way"),
        ):
            value = _value(found, INFERWAY.name, scenario.name, figure)
            made.append(at_most(f"{scenario.name}: {what}", value, 0, "requests"))
        failed = sum(
            len(one.failures)
            for one in found
            if (one.gateway, one.scenario) == (INFERWAY.name, scenario.name)
        )
        if failed:
            made.append(at_most(f"{scenario.name}: runs that failed", failed, 0, "runs"))
        if scenario.hold:
            value = _value(found, INFERWAY.name, scenario.name, "bytes_per_stream")
            made.append(
                at_most(f"{scenario.name}: memory per stream", value, _STREAM_BYTES, "bytes")
            )
    return made
