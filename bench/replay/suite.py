"""What is replayed: loads with the bars of our default policy, and the runs of a plan."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from bench.replay.settings import DEFAULT_PRESET
from bench.replay.workloads import DEFAULT_RATE, SAMPLE_NAME, SHARED_PREFIX

DEFAULT_ENDPOINTS = 8
_DRAWN_REPEATS = 4
SHARED_PREFIX_PRESET = "32b-h100x2"
"""The engine of llm-d's 73-capacity benchmark, whose memory the load is made to fill."""


FAR_BEHIND = ("random", "round_robin", "consistent_hash", "chwbl", "preble")
"""Policies that are far behind on some load that has bars: one seed says so, more cost time."""


class Bars(Struct, frozen=True):
    """What our default must reach on a load, against the best of its rivals in each figure.

    ``goodput_lead``: percentage points of goodput that it must lead by; negative: may trail by.
    """

    ttft_p90: float = 1.03
    ttft_p99: float = 1.05
    goodput_lead: float = -1.0


class Load(Struct, frozen=True):
    """A workload at one intensity before engines of one kind (``preset``).

    ``family`` joins loads that differ in their intensity only. ``repeats``: seeds that are played
    for each that is asked for.
    """

    name: str
    family: str
    source: str
    endpoints: int
    speed: float = 1.0
    rate: float | None = None
    requests: int | None = None
    preset: str = DEFAULT_PRESET
    bars: Bars = Bars()
    repeats: int = 1

    @property
    def intensity(self) -> float:
        """What grows within a family: requests/s, or the speed of the arrivals."""
        return self.speed if self.rate is None else self.rate


class Run(Struct, frozen=True):
    """One policy on one load: all that a process needs to play it.

    ``events``: whether the router hears what engines report of their caches.
    """

    load: Load
    policy: str
    seed: int
    events: bool
    fault: str | None = None

    def __str__(self) -> str:
        parts = [self.load.name, self.policy, f"seed {self.seed}"]
        parts += [] if self.events else ["no events"]
        parts += [] if self.fault is None else [self.fault]
        return ", ".join(parts)


def recorded(
    source: str,
    endpoints: int,
    speed: float,
    *,
    requests: int | None = None,
    preset: str | None = None,
    family: str | None = None,
    bars: Bars | None = None,
) -> Load:
    """A recorded load, ``speed`` times as fast as it was."""
    family = family or Path(source).name.partition(".")[0]
    name = f"{family} {endpoints}w x{speed:g}"
    preset = preset or DEFAULT_PRESET
    return Load(name, family, source, endpoints, speed, None, requests, preset, bars or Bars())


def synthetic(
    endpoints: int,
    rate: float | None = None,
    *,
    requests: int | None = None,
    preset: str | None = None,
    bars: Bars | None = None,
    repeats: int = 1,
) -> Load:
    """The shared-prefix load at ``rate`` requests/s."""
    rate = DEFAULT_RATE if rate is None else rate
    name = f"{SHARED_PREFIX} {endpoints}w {rate:g}/s"
    return Load(
        name,
        SHARED_PREFIX,
        SHARED_PREFIX,
        endpoints,
        rate=rate,
        requests=requests,
        preset=preset or SHARED_PREFIX_PRESET,
        bars=bars or Bars(),
        repeats=repeats,
    )


def quick_loads(requests: int | None = None, preset: str | None = None) -> list[Load]:
    """Seconds of work: 400 real requests on four endpoints, and 1,500 that share prefixes.

    So few say less of quantiles, so the bars are wider.
    """
    bars = Bars(ttft_p90=1.1, ttft_p99=1.25, goodput_lead=-2.0)
    return [
        recorded(SAMPLE_NAME, 4, 0.6, requests=requests, preset=preset, bars=bars),
        synthetic(DEFAULT_ENDPOINTS, 9.0, requests=requests or 1_500, preset=preset, bars=bars),
    ]


def full_loads(trace: Path, requests: int | None = None, preset: str | None = None) -> list[Load]:
    """All loads that have bars; ``trace`` is Mooncake's conversation trace.

    Of each pair of intensities, the lighter asks that nobody is better, the heavier for a lead.
    All run on one kind of engine, whose cache holds the shared prefixes with room to spare;
    `SHARED_PREFIX_PRESET` has less room, and is for looking at that. Shared prefixes are another,
    short load with each seed, of whose p99 thirty requests decide: so more seeds are played.
    """
    lighter, heavier = Bars(goodput_lead=0.0), Bars(goodput_lead=4.0)
    conversation = [
        recorded(
            str(trace),
            endpoints,
            speed,
            requests=requests,
            preset=preset,
            family="conversation",
            bars=bars,
        )
        for endpoints, speed, bars in (
            (8, 1.0, lighter),
            (8, 1.5, heavier),
            (16, 2.0, lighter),
            (16, 3.0, heavier),
        )
    ]
    shared = [
        synthetic(
            DEFAULT_ENDPOINTS,
            rate,
            requests=requests,
            preset=preset or DEFAULT_PRESET,
            repeats=_DRAWN_REPEATS,
        )
        for rate in (9.0, 11.0)
    ]
    return [*conversation, *shared]


def runs(
    loads: Sequence[Load],
    policies: Sequence[str],
    *,
    seed: int,
    seeds: int,
    events: Iterable[bool],
    once: Collection[str] = (),
) -> Iterator[Run]:
    """Every policy on every load with ``seeds`` seeds from the first, ``seed``, on.

    With and without events as asked. Those of ``once`` with the first seed only.
    """
    events = list(events)
    for load in loads:
        for with_events in events:
            for place in range(seeds * load.repeats):
                for policy in policies:
                    if place == 0 or policy not in once:
                        yield Run(load, policy, seed + place, with_events)


def robustness_runs(
    load: Load, policies: Sequence[str], faults: Iterable[str], *, seed: int
) -> Iterator[Run]:
    """Every policy on one load under every fault."""
    for fault in faults:
        for policy in policies:
            yield Run(load, policy, seed, events=True, fault=fault)
