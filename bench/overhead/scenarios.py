"""The work that every gateway is given."""

import resource
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace


class Scenario(Struct, frozen=True, kw_only=True):
    """One kind of work: a closed loop of a fixed number of requests.

    A fixed number and not a fixed time, so that CPU per request compares equal work. Each
    prompt has ``prompt_bytes`` of text: one of ``prefixes`` shared beginnings, all but
    ``tail_bytes`` of it, and a tail that occurs once. ``chunks`` is the number of streamed
    events, ``gap`` seconds apart; no chunks: an answer in one piece. With ``hold`` every stream
    stops after its first event until all are open.
    """

    name: str
    title: str
    connections: int
    requests: int
    prompt_bytes: int
    tail_bytes: int
    prefixes: int
    chunks: int = 0
    gap: float = 0.0
    hold: bool = False

    @property
    def streamed(self) -> bool:
        """Whether answers come as events."""
        return self.chunks > 0

    @property
    def warm_up(self) -> int:
        """Requests sent first and not counted: they open connections and warm the prefixes."""
        if self.streamed:  # a stream takes its time; one on each connection is enough
            return 0 if self.hold else self.connections
        return 2 * max(self.connections, self.prefixes)

    def scaled(self, scale: float) -> "Scenario":
        """The same with a share of the requests; open streams are connections, so these too."""
        requests = max(1, round(self.requests * scale))
        connections = min(self.connections, requests)
        return replace(self, requests=requests, connections=connections)


_SHORT, _SHORT_TAIL, _SHORT_PREFIXES = 4_096, 1_024, 64
_LONG, _LONG_TAIL, _LONG_PREFIXES = 220_000, 4_096, 50
OPEN_STREAMS = 10_000

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="unary-4k-c1",
        title="4 KB prompts, 1 connection",
        connections=1,
        requests=4_000,
        prompt_bytes=_SHORT,
        tail_bytes=_SHORT_TAIL,
        prefixes=_SHORT_PREFIXES,
    ),
    Scenario(
        name="unary-4k-c32",
        title="4 KB prompts, 32 connections",
        connections=32,
        requests=20_000,
        prompt_bytes=_SHORT,
        tail_bytes=_SHORT_TAIL,
        prefixes=_SHORT_PREFIXES,
    ),
    Scenario(
        name="streams-100",
        title="100 streams x 100 chunks, 10 ms apart",
        connections=100,
        requests=400,
        chunks=100,
        gap=0.010,
        prompt_bytes=_SHORT,
        tail_bytes=_SHORT_TAIL,
        prefixes=_SHORT_PREFIXES,
    ),
    Scenario(
        name="long-220k-c20",
        title="220 KB prompts, 20 connections",
        connections=20,
        requests=1_500,
        prompt_bytes=_LONG,
        tail_bytes=_LONG_TAIL,
        prefixes=_LONG_PREFIXES,
    ),
    Scenario(
        name="long-220k-c150",
        title="220 KB prompts, 150 connections",
        connections=150,
        requests=1_500,
        prompt_bytes=_LONG,
        tail_bytes=_LONG_TAIL,
        prefixes=_LONG_PREFIXES,
    ),
    Scenario(
        name="streams-10000",
        title="10,000 streams open at once",
        connections=OPEN_STREAMS,
        requests=OPEN_STREAMS,
        chunks=4,
        gap=1.0,
        hold=True,
        prompt_bytes=_SHORT,
        tail_bytes=_SHORT_TAIL,
        prefixes=_SHORT_PREFIXES,
    ),
)


def chosen(names: Iterable[str]) -> tuple[Scenario, ...]:
    """The scenarios with these names or beginnings of names; all when there is none.

    Raises ValueError for a name that fits none.
    """
    names = tuple(names)
    for name in names:
        if not any(_fits(scenario, name) for scenario in SCENARIOS):
            known = ", ".join(scenario.name for scenario in SCENARIOS)
            raise ValueError(f"no scenario {name!r}; there are {known}")
    return tuple(
        scenario
        for scenario in SCENARIOS
        if not names or any(_fits(scenario, name) for name in names)
    )


def _fits(scenario: Scenario, name: str) -> bool:
    return scenario.name == name or scenario.name.startswith(name + "-")


def descriptor_limit() -> int:
    """Raise the soft limit of open descriptors to the hard one, for us and our children."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def fit_descriptors(scenario: Scenario, limit: int) -> Scenario:
    """The scenario with no more connections than a gateway has descriptors for.

    A stream takes two of the gateway's, towards the client and towards the endpoint; a few
    hundred are left for everything else.
    """
    most = max(1, (limit - 300) // 2)
    if scenario.connections <= most:
        return scenario
    requests = min(scenario.requests, most) if scenario.hold else scenario.requests
    return replace(scenario, requests=requests, connections=most)
