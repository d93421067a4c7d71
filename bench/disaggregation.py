"""When splitting requests pays: the same requests before the same number of engines, by every mode.

Two loads at three intensities each, the last one more than the fleet can sustain: recorded
conversations (long prompts, short answers, shared prefixes) and a decode-heavy one. Every arm has
eight engines: ``never``, ``always``, ``threshold``, ``dynamo`` and ``adaptive`` may use each of
them for both, ``2P+6D`` and ``4P+4D`` always split over fixed roles. The decisions are the
router's, engines, links and time are simulated (`bench.replay`).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from math import exp
from statistics import fmean, median

from msgspec import Struct
from msgspec.structs import asdict

from bench.replay.outcome import Replay
from bench.replay.settings import ReplaySettings
from bench.replay.simulation import replay
from bench.replay.summary import ended_at, is_good, quantile, waited
from bench.replay.workload import Workload
from bench.replay.workloads import SAMPLE_NAME, load
from bench.replay.workloads.decode_heavy import DecodeHeavy, decode_heavy
from bench.results import Check, at_least, at_most
from routing.disaggregation import DisaggregationSettings
from routing.policies import DEFAULT_POLICY
from routing.router import RouterSettings

ENDPOINTS = 8
CONVERSATION = "conversation"
HEAVY = "decode-heavy"
SPEEDS = (1.0, 1.5, 1.8)
"""Of the recorded arrivals."""
RATES = (10.0, 18.0, 24.0)
"""Requests a second of the decode-heavy load."""
REQUESTS = 2_500
"""Of each load, at most."""
SEEDS = 2
"""Of loads of `REQUESTS`; a shorter trace is played with more, until as many requests were."""

WORSE = 1.03
"""Adaptive may take so many times the end-to-end time of the better of never and always."""
GOOD = 0.97
"""And must reach so much of the better one's goodput."""
ITL_GAIN = 0.7
"""And have at most so much of never's ITL p99 on the decode-heavy load."""


class Arm(Struct, frozen=True):
    """A way to use the engines: the mode, and the role of each."""

    name: str
    mode: str
    prefill: int = 0
    """Engines that only prefill, the others only decode; 0: each may do both."""

    @property
    def roles(self) -> tuple[str, ...]:
        """The role of each engine."""
        if not self.prefill:
            return ("both",) * ENDPOINTS
        return ("prefill",) * self.prefill + ("decode",) * (ENDPOINTS - self.prefill)


NEVER = Arm("never", "never")
ADAPTIVE = Arm("adaptive", "adaptive")
ALWAYS = (
    Arm("always", "always"),
    Arm("always 2P+6D", "always", 2),
    Arm("always 4P+4D", "always", 4),
)
ARMS = (
    NEVER,
    *ALWAYS,
    Arm("threshold (llm-d)", "threshold"),
    Arm("dynamo", "dynamo"),
    ADAPTIVE,
)


class Case(Struct, frozen=True):
    """One arm on one load: all that a process needs to play it."""

    family: str
    intensity: float
    arm: Arm
    seed: int
    trace: str
    requests: int

    @property
    def load(self) -> str:
        """What is played, for people."""
        if self.family == HEAVY:
            return f"{HEAVY} {self.intensity:g}/s"
        return f"{CONVERSATION} x{self.intensity:g}"

    def __str__(self) -> str:
        return f"{self.load}, {self.arm.name}, seed {self.seed}"


class Figures(Struct, frozen=True):
    """One run, or medians over seeds. Seconds and shares; None where nothing was measured.

    ``itl``: between two tokens of a sequence, over all tokens; ``tpot``: a request's mean of that;
    ``moved_gb``: KV that moved between engines; ``expired``: of which it was dropped unread.
    """

    e2e_mean: float | None
    goodput: float | None
    ttft_mean: float | None
    ttft_p90: float | None
    ttft_p99: float | None
    itl_p50: float | None
    itl_p99: float | None
    tpot_p99: float | None
    split: float | None
    moved_gb: float | None
    hits: float | None
    expired: float | None
    completion: float | None
    wall_seconds: float | None


class Played(Struct, frozen=True):
    """A case, what came of it, and how often each reason was given."""

    case: Case
    figures: Figures
    reasons: dict[str, int]


def plan(trace: str, requests: int, seeds: int) -> list[Case]:
    """Every arm on every load with every seed; a load's arms one after the other.

    Raises what `bench.replay.workloads.load` does.
    """
    recorded = len(workload_of(Case(CONVERSATION, 1.0, NEVER, 0, trace, requests)).arrivals)
    enough = {HEAVY: seeds, CONVERSATION: seeds * max(1, round(requests / recorded))}
    intensities = [(CONVERSATION, speed) for speed in SPEEDS] + [(HEAVY, rate) for rate in RATES]
    return [
        Case(family, intensity, arm, seed, trace, requests)
        for family, intensity in intensities
        for arm in ARMS
        for seed in range(enough[family])
    ]


def overloads() -> list[str]:
    """The loads that no arm can sustain for long."""
    worst = ((CONVERSATION, SPEEDS[-1]), (HEAVY, RATES[-1]))
    return [Case(family, most, NEVER, 0, "", 1).load for family, most in worst]


def workload_of(case: Case) -> Workload:
    """The requests of a case. Raises what `bench.replay.workloads.load` does."""
    if case.family == HEAVY:
        return decode_heavy(DecodeHeavy(case.intensity, case.requests), case.seed)
    count = None if case.trace == SAMPLE_NAME else case.requests
    return load(case.trace, requests=count).workload


def settings_of(case: Case) -> ReplaySettings:
    """The fleet of a case; the router knows the model and the links as configured."""
    plain = ReplaySettings()
    return ReplaySettings(
        endpoints=ENDPOINTS,
        speed=1.0 if case.family == HEAVY else case.intensity,
        seed=case.seed,
        roles=case.arm.roles,
        router=RouterSettings(
            receipts=16,
            disaggregation=DisaggregationSettings(
                mode=case.arm.mode,
                bytes_per_token=plain.kv_bytes,
                bandwidth=plain.link_rate,
                latency=plain.link_latency,
            ),
        ),
    )


def play(case: Case) -> Played:
    """Play one case."""
    played = replay(workload_of(case), DEFAULT_POLICY, settings_of(case))
    reasons = Counter(one.split_reason for one in played.requests)
    return Played(case, figures(played, ReplaySettings().kv_bytes), dict(reasons))


def figures(played: Replay, kv_bytes: float) -> Figures:
    """The figures of one replay; who did not finish counts as having taken until its end."""
    requests, end = played.requests, ended_at(played)
    count = len(requests)
    waits = sorted(waited(played))
    tpots = sorted(one.tpot for one in requests if one.tpot is not None)
    whole = [
        (end if one.finished_at is None else one.finished_at) - one.arrived_at for one in requests
    ]
    prompts = sum(one.prompt_tokens for one in requests)
    return Figures(
        e2e_mean=fmean(whole),
        goodput=sum(map(is_good, requests)) / count,
        ttft_mean=fmean(waits),
        ttft_p90=quantile(waits, 0.9),
        ttft_p99=quantile(waits, 0.99),
        itl_p50=gap_quantile(played.gaps, 0.5),
        itl_p99=gap_quantile(played.gaps, 0.99),
        tpot_p99=quantile(tpots, 0.99) if tpots else None,
        split=sum(one.prefill_endpoint >= 0 for one in requests) / count,
        moved_gb=sum(one.moved_tokens for one in requests) * kv_bytes / 1e9,
        hits=sum(one.cached for one in requests) / prompts,
        expired=float(sum(one.expired for one in requests)),
        completion=sum(one.finished_at is not None for one in requests) / count,
        wall_seconds=played.wall_seconds,
    )


def for_people(arm: str, figures: Figures) -> dict[str, float | str | None]:
    """One row of a table: seconds, shares in percent, times between tokens in milliseconds."""

    def times(factor: float, value: float | None) -> float | None:
        return None if value is None else round(factor * value, 2)

    return {
        "arm": arm,
        "end_to_end": figures.e2e_mean,
        "goodput_%": times(100.0, figures.goodput),
        "TTFT": figures.ttft_mean,
        "TTFT_p90": figures.ttft_p90,
        "TTFT_p99": figures.ttft_p99,
        "ITL_p50_ms": times(1e3, figures.itl_p50),
        "ITL_p99_ms": times(1e3, figures.itl_p99),
        "split_%": times(100.0, figures.split),
        "moved_GB": figures.moved_gb,
        "hits_%": times(100.0, figures.hits),
        "expired": figures.expired,
    }


def gap_quantile(gaps: dict[int, int], share: float) -> float | None:
    """The time between two tokens that ``share`` of all tokens don't exceed; buckets of 1 %."""
    wanted, seen = share * sum(gaps.values()), 0
    for bucket in sorted(gaps):
        seen += gaps[bucket]
        if seen >= wanted:
            return exp(bucket / 100.0)
    return None


def medians(played: Sequence[Played]) -> dict[str, dict[str, Figures]]:
    """Load -> arm -> medians over the seeds, in the order of the plan."""
    groups: dict[str, dict[str, list[Figures]]] = {}
    for one in sorted(played, key=_place):
        arms = groups.setdefault(one.case.load, {})
        arms.setdefault(one.case.arm.name, []).append(one.figures)
    return {
        name: {arm: _median(rows) for arm, rows in arms.items()} for name, arms in groups.items()
    }


def _place(one: Played) -> tuple[str, float, int, int]:
    case = one.case
    return case.family, case.intensity, ARMS.index(case.arm), case.seed


def _median(rows: Sequence[Figures]) -> Figures:
    values: dict[str, float | None] = {}
    for name in Figures.__struct_fields__:
        known = [value for row in map(asdict, rows) if (value := row[name]) is not None]
        values[name] = median(known) if known else None
    return Figures(**values)


def checks(found: dict[str, dict[str, Figures]]) -> list[Check]:
    """Adaptive against the better of never and always (the best of its fleets) on every load."""
    bars: list[Check] = []
    for name, arms in found.items():
        ours, never = arms[ADAPTIVE.name], arms[NEVER.name]
        rivals = [never, *(arms[arm.name] for arm in ALWAYS)]
        fastest = _best(rivals, lambda one: one.e2e_mean, min)
        best = _best(rivals, lambda one: one.goodput, max)
        bars.append(
            at_most(
                f"{name}: mean end-to-end time over the better of never and always",
                _ratio(ours.e2e_mean, fastest),
                WORSE,
                "x",
            )
        )
        bars.append(
            at_least(
                f"{name}: goodput over the better of never and always",
                _ratio(ours.goodput, best),
                GOOD,
                "x",
            )
        )
        if name.startswith(HEAVY):
            bars.append(
                at_most(
                    f"{name}: ITL p99 over never's",
                    _ratio(ours.itl_p99, never.itl_p99),
                    ITL_GAIN,
                    "x",
                )
            )
    return bars


def _best(
    rivals: Sequence[Figures],
    figure: Callable[[Figures], float | None],
    better: Callable[[Sequence[float]], float],
) -> float | None:
    known = [value for one in rivals if (value := figure(one)) is not None]
    return better(known) if known else None


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    if ours is None or theirs is None:
        return None
    if theirs == 0.0:  # nobody had any: nothing was lost
        return 1.0
    return ours / theirs
