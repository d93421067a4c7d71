"""Who is compared: ours, and others' rules as their documentation has them, at several targets.

A rule whose target its documentation leaves to the user is there with more than one, so that it
is not its target that loses. An HPA's are swept the widest: its best is what ours must beat.
Beside them stand marks: scalers that know all arrivals, to tell what there is to save at all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bench.replay.workload import Workload
from bench.scaling.foresight import Foresight
from endpoints.scaling.policies.apa import Apa
from endpoints.scaling.policies.dynamo_load import DynamoLoad
from endpoints.scaling.policies.hpa import Hpa
from endpoints.scaling.policies.kpa import Kpa
from endpoints.scaling.policies.objective import ForObjective
from endpoints.scaling.policies.policy import ScalingPolicy
from endpoints.scaling.policies.wva_saturation import WvaSaturation

OURS = "objective"
HPA = "hpa"
MARK = "mark"
"""The family of those who know the future: nobody's rivals."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A configured policy. ``interval``: seconds between its decisions, as upstream has it.

    ``make`` gets what will be played, which only marks may look at.
    ``duty``: its ``busy`` is the share of time in which anything was computed, rather than the
    work done in it. ``quick``: whether it is in the default run. ``family``: what it is.
    """

    name: str
    family: str
    make: Callable[[Workload], ScalingPolicy]
    interval: float
    words: str
    duty: bool = False
    quick: bool = True


def _blind(make: Callable[[], ScalingPolicy]) -> Callable[[Workload], ScalingPolicy]:
    """Makes a policy that knows nothing of what is to come."""
    return lambda _: make()


def _knowing(pace: float) -> Callable[[Workload], ScalingPolicy]:
    return lambda workload: Foresight(workload, pace)


CONTENDERS: tuple[Contender, ...] = (
    Contender(OURS, OURS, _blind(ForObjective), 15.0, "ours, default settings"),
    *(
        Contender(
            f"hpa work {target:.0%}",
            HPA,
            _blind(partial(Hpa, "busy", target)),
            15.0,
            "HPA on utilisation that grows with the work done, as a CPU's does",
        )
        for target in (0.2, 0.3, 0.4, 0.5, 0.6)
    ),
    Contender(
        "hpa duty 80%",
        HPA,
        _blind(partial(Hpa, "busy", 0.8)),
        15.0,
        "HPA on utilisation as accelerators report it",
        duty=True,
        quick=False,
    ),
    Contender(
        "hpa queue 2",
        HPA,
        _blind(partial(Hpa, "waiting", 2.0)),
        15.0,
        "HPA on requests waiting in the engines, 2 each (guidance: 2 to 5)",
    ),
    Contender(
        "hpa queue 5",
        HPA,
        _blind(partial(Hpa, "waiting", 5.0)),
        15.0,
        "the same, 5 each",
        quick=False,
    ),
    Contender(
        "kpa 5",
        "kpa",
        _blind(partial(Kpa, 5.0, down_delay=300.0)),
        2.0,
        "Knative's defaults on requests in flight, 5 each, scale-down-delay 5 min",
    ),
    Contender(
        "kpa aibrix 6",
        "kpa",
        _blind(partial(Kpa, 6.0, 180.0, 60.0, 2.0, 2.0, 2.0, 300.0)),
        10.0,
        "AIBrix's windows and rates, 6 requests in flight each",
        quick=False,
    ),
    Contender(
        "apa 50%",
        "apa",
        _blind(Apa),
        10.0,
        "AIBrix's APA on KV usage, 0.5 as its samples",
        quick=False,
    ),
    Contender(
        "wva",
        "wva",
        _blind(WvaSaturation),
        30.0,
        "llm-d WVA saturation, recommended thresholds",
        quick=False,
    ),
    Contender(
        "wva strict",
        "wva",
        _blind(partial(WvaSaturation, 0.7, 3.0, 0.1, 2.0)),
        30.0,
        "llm-d WVA saturation, thresholds for strict latency objectives",
    ),
    Contender(
        "dynamo sla",
        "dynamo",
        _blind(DynamoLoad),
        5.0,
        "Dynamo's load rule, by objective",
        quick=False,
    ),
    Contender(
        "dynamo latency",
        "dynamo",
        _blind(partial(DynamoLoad, "latency")),
        5.0,
        "Dynamo's load rule, its thresholds for latency",
    ),
    *(
        Contender(
            f"foresight {pace:g}",
            MARK,
            _knowing(pace),
            15.0,
            "knows all arrivals, and counts on so many requests/s of an endpoint",
        )
        for pace in (0.65, 0.75, 0.85)
    ),
)


def chosen(names: list[str] | None, *, full: bool) -> list[Contender]:
    """Those of the names, or of the default or full run. ValueError for an unknown name."""
    if not names:
        return [one for one in CONTENDERS if full or one.quick]
    known = {one.name: one for one in CONTENDERS}
    for name in names:
        if name not in known:
            raise ValueError(f"no contender {name!r}; there are {', '.join(known)}")
    return [known[name] for name in names]
