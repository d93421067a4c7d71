"""The work that each picker is given behind Envoy."""

from collections.abc import Iterable

from msgspec.structs import replace

from bench.overhead.scenarios import SCENARIOS as OVERHEAD
from bench.overhead.scenarios import Scenario

_BY_NAME = {scenario.name: scenario for scenario in OVERHEAD}
OPEN_STREAMS = 5_000
_EVENTS = (10, 100)

SHORT = replace(_BY_NAME["unary-4k-c32"], name="4k")
LONG = replace(_BY_NAME["long-220k-c20"], name="220k")
LONG_MANY = replace(_BY_NAME["long-220k-c150"], name="220k-c150")
FEW_EVENTS, MANY_EVENTS = (
    replace(
        _BY_NAME["streams-100"],
        name=f"events-{events}",
        title=f"100 streams x {events} chunks, 10 ms apart",
        requests=1_000,
        chunks=events,
    )
    for events in _EVENTS
)
HELD = replace(
    _BY_NAME["streams-10000"],
    name=f"streams-{OPEN_STREAMS}",
    title=f"{OPEN_STREAMS:,} streams open at once",
    connections=OPEN_STREAMS,
    requests=OPEN_STREAMS,
)

SCENARIOS = (SHORT, LONG, LONG_MANY, FEW_EVENTS, MANY_EVENTS, HELD)


def chosen(names: Iterable[str]) -> tuple[Scenario, ...]:
    """The scenarios of these names, all when there is none; ValueError for an unknown one."""
    names = tuple(names)
    known = {scenario.name: scenario for scenario in SCENARIOS}
    for name in names:
        if name not in known:
            raise ValueError(f"no scenario {name!r}; there are {', '.join(known)}")
    return tuple(known[name] for name in names) or SCENARIOS
