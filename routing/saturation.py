"""Whether a pool is so busy that requests which may be shed should be.

An endpoint's saturation is the larger of its waiting requests over `QUEUE` and its KV usage over
`KV_USAGE`; one whose state is unknown or stale counts as 1. A pool's is the mean of its endpoints',
and from 1 on it is saturated; so is a pool without any.

Source: llm-d's and GIE's ``utilization-detector`` (defaults 5 and 0.8), where freshness is 0.2 s
for scrapes every 0.05 s; here it is that of our scrapes.
"""

from collections.abc import Sequence
from typing import Final

from routing.endpoint import SCRAPE_FRESH_SECONDS, EndpointState

QUEUE: Final = 5.0
KV_USAGE: Final = 0.8


def saturation(endpoints: Sequence[EndpointState], now: float) -> float:
    """The mean over a pool's endpoints; 1 for none."""
    if not endpoints:
        return 1.0
    return sum([_of(state, now) for state in endpoints]) / len(endpoints)


def _of(state: EndpointState, now: float) -> float:
    load = state.load
    if load is None or load.age(now) > SCRAPE_FRESH_SECONDS:
        return 1.0
    waiting = load.waiting or 0.0
    usage = load.kv_usage or 0.0
    return max(waiting / QUEUE, usage / KV_USAGE)
