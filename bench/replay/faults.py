"""What goes wrong in a replay, by name: for each a policy should degrade, none may it break.

Moments are shares of the time between the first arrival and the last.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

from bench.replay.workload import Arrival, Workload


@dataclass(frozen=True, slots=True)
class Fault:
    """What is not as it should be; the defaults are a fleet without any fault.

    - ``lost_events``, ``reordered_events``: share of the reports of caches that never arrive, or
      only up to a second later than others;
    - ``clear_at``: when the first endpoint's cache is wiped, and reported as such;
    - ``restart_at``: when the first endpoint's engine restarts at its address: its requests fail,
      its cache is empty, and the router learns of it from the next scrape only;
    - ``wrong_tokens``: the gateway's tokenizer is not the engines': no block is recognised;
    - ``frozen_at``, ``frozen_seconds``: since when and for how long scrapes repeat old values;
    - ``slow``: everything takes the first endpoint so many times as long, unknown to the router;
    - ``fast_half``: every other endpoint is so many times as fast, and labelled as such;
    - ``wrong_times``: the router's initial times are too long by this factor;
    - ``siblings``: so many requests with one new long prefix come at once, every
      ``siblings_every`` seconds.
    """

    description: str
    lost_events: float = 0.0
    reordered_events: float = 0.0
    clear_at: float | None = None
    restart_at: float | None = None
    wrong_tokens: bool = False
    frozen_at: float | None = None
    frozen_seconds: float = 60.0
    slow: float = 1.0
    fast_half: float = 1.0
    wrong_times: float = 1.0
    siblings: int = 0
    siblings_every: float = 120.0


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "lost_events": Fault("1 % of the cache events are lost", lost_events=0.01),
        "reordered_events": Fault(
            "5 % of the cache events come up to a second late", reordered_events=0.05
        ),
        "cleared_cache": Fault("one endpoint's cache is wiped", clear_at=0.5),
        "restart": Fault("one engine restarts at its address", restart_at=0.5),
        "wrong_tokenizer": Fault("the tokenizer is not the engines'", wrong_tokens=True),
        "frozen_metrics": Fault("scrapes repeat old values for a minute", frozen_at=0.5),
        "slow_endpoint": Fault("one endpoint takes three times as long", slow=3.0),
        "mixed_hardware": Fault("every other endpoint is twice as fast", fast_half=2.0),
        "wrong_times": Fault("initial times are three times too long", wrong_times=3.0),
        "sibling_bursts": Fault("64 requests share a new prefix, every two minutes", siblings=64),
    }
)
"""Name -> fault."""

NO_FAULT = Fault("none")

_SIBLING_BLOCKS = 12
_SIBLING_TAIL_TOKENS = 200
_SIBLING_OUTPUT_TOKENS = 200
_SIBLING_IDS = 1 << 62  # far from any trace's block ids


def fault(name: str) -> Fault:
    """The fault of that name; ValueError that lists the names when there is none."""
    try:
        return FAULTS[name]
    except KeyError:
        raise ValueError(f"unknown fault {name!r}: choose {', '.join(FAULTS)}") from None


def with_siblings(workload: Workload, count: int, every: float, seed: int) -> Workload:
    """Every ``every`` seconds, ``count`` further requests at once that share a new prefix.

    An agent's fan-out: 12 whole blocks of prefix, 200 tokens of an own question behind it and
    200 of answer.
    """
    if count < 1 or every <= 0.0:
        raise ValueError(f"siblings ({count}) and their interval ({every:g} s) must be positive")
    dice = Random(seed)
    end = workload.arrivals[-1].at if workload.arrivals else 0.0
    bursts: list[Arrival] = []
    at = every * dice.uniform(0.5, 1.0)
    identity = _SIBLING_IDS
    while at < end:
        prefix = tuple(range(identity, identity + _SIBLING_BLOCKS))
        identity += _SIBLING_BLOCKS
        for _ in range(count):
            tokens = _SIBLING_BLOCKS * workload.block_tokens + _SIBLING_TAIL_TOKENS
            bursts.append(Arrival(at, tokens, _SIBLING_OUTPUT_TOKENS, (*prefix, identity)))
            identity += 1
        at += every
    arrivals = sorted((*workload.arrivals, *bursts), key=lambda one: one.at)
    return Workload(workload.name, tuple(arrivals), workload.block_tokens)
