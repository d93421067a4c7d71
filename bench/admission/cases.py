"""What is played: senders, loads, manners; and the figures of each."""

from collections.abc import Sequence
from random import Random
from statistics import fmean, median

from msgspec import Struct

from bench.admission.simulation import AdmittedSimulation, Manner, Sender
from bench.replay.outcome import RequestOutcome
from bench.replay.settings import ReplaySettings
from bench.replay.summary import is_good, quantile
from bench.replay.workloads import SAMPLE_NAME, load

PRIORITIES = "priorities"
TENANTS = "tenants"
URGENT, NORMAL, BATCH = "urgent", "normal", "batch"
FLOOD, CALM = "flood", "calm"
ALL = "all"
ENDPOINTS = 8
FITS, TOO_MUCH = 1.0, 3.0
"""How fast the recorded arrivals come: what the pool can take, and more than that."""
SEEDS = 2
REQUESTS = 3_000

_CLASSES = ((URGENT, 10, 0.15), (NORMAL, 0, 0.55), (BATCH, -10, 0.30))
_FLOODED = 0.8  # the share of requests that one tenant sends


class Case(Struct, frozen=True):
    """All that a process needs to play it."""

    scene: str
    speed: float
    manner: Manner
    seed: int
    trace: str
    requests: int

    def __str__(self) -> str:
        return f"{self.scene} x{self.speed:g}, {self.manner.value}, seed {self.seed}"


class Group(Struct, frozen=True):
    """How one kind of sender fared: seconds to the first token, shares of its requests."""

    ttft_mean: float | None
    ttft_p50: float | None
    ttft_p90: float | None
    good: float | None
    """In time to the first token and between tokens (`bench.replay.summary.is_good`)."""
    answered: float | None


class Played(Struct, frozen=True):
    """A case, and its figures by kind of sender. ``span``: until the last answer, in seconds."""

    case: Case
    groups: dict[str, Group]
    span: float


def plan(trace: str, requests: int, seeds: int, overload: float = TOO_MUCH) -> list[Case]:
    """Every manner on every load with every seed."""
    return [
        Case(scene, speed, manner, seed, trace, requests)
        for scene in (PRIORITIES, TENANTS)
        for speed in (FITS, overload)
        for manner in Manner
        if not (scene == TENANTS and manner is Manner.SHED)  # all have one priority
        for seed in range(seeds)
    ]


def senders(scene: str, count: int, seed: int) -> tuple[list[Sender], list[str]]:
    """Who sends each request, and the kind that each sender is of."""
    dice = Random(f"{scene} {seed}")
    found, kinds = [], []
    for _ in range(count):
        if scene == TENANTS:
            kind = FLOOD if dice.random() < _FLOODED else CALM
            found.append(Sender(kind if kind == FLOOD else f"calm {dice.randrange(4)}", 0))
        else:
            kind, priority, _ = dice.choices(_CLASSES, [share for _, _, share in _CLASSES])[0]
            found.append(Sender("one", priority))
        kinds.append(kind)
    return found, kinds


def play(case: Case) -> Played:
    """Play one case."""
    count = None if case.trace == SAMPLE_NAME else case.requests
    workload = load(case.trace, requests=count).workload
    settings = ReplaySettings(endpoints=ENDPOINTS, speed=case.speed, seed=case.seed)
    sent, kinds = senders(case.scene, len(workload.arrivals), case.seed)
    simulation = AdmittedSimulation(workload, sent, case.manner, settings)
    simulation.run()
    outcomes = simulation.result(0.0).requests
    groups = {ALL: group(outcomes)}
    for kind in sorted(set(kinds)):
        groups[kind] = group([one for one, of in zip(outcomes, kinds, strict=True) if of == kind])
    return Played(case, groups, max((one.finished_at or 0.0 for one in outcomes), default=0.0))


def group(outcomes: Sequence[RequestOutcome]) -> Group:
    """How some of the requests fared. Times are of those that were answered."""
    waits = sorted(one.ttft for one in outcomes if one.ttft is not None)
    count = len(outcomes)
    return Group(
        ttft_mean=fmean(waits) if waits else None,
        ttft_p50=quantile(waits, 0.5) if waits else None,
        ttft_p90=quantile(waits, 0.9) if waits else None,
        good=sum(map(is_good, outcomes)) / count if count else None,
        answered=len(waits) / count if count else None,
    )


class Fared(Struct, frozen=True):
    """How everybody fared on one load in one manner: medians over seeds."""

    scene: str
    speed: float
    manner: Manner
    groups: dict[str, Group]
    span: float


def medians(played: Sequence[Played]) -> list[Fared]:
    """By load and manner, in the order of the plan."""
    rounds: dict[tuple[str, float, Manner], list[Played]] = {}
    for one in played:
        rounds.setdefault((one.case.scene, one.case.speed, one.case.manner), []).append(one)
    return [
        Fared(
            scene,
            speed,
            manner,
            {kind: _median([one.groups[kind] for one in ones]) for kind in ones[0].groups},
            median(one.span for one in ones),
        )
        for (scene, speed, manner), ones in rounds.items()
    ]


def _median(groups: Sequence[Group]) -> Group:
    def of(values: Sequence[float | None]) -> float | None:
        there = [value for value in values if value is not None]
        return median(there) if len(there) == len(values) else None

    return Group(
        ttft_mean=of([one.ttft_mean for one in groups]),
        ttft_p50=of([one.ttft_p50 for one in groups]),
        ttft_p90=of([one.ttft_p90 for one in groups]),
        good=of([one.good for one in groups]),
        answered=of([one.answered for one in groups]),
    )
