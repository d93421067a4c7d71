"""Telling that an engine is not the process it was: its cache is empty now."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from endpoints.engines.engine import PROCESS_START
from endpoints.engines.exposition import Scrape


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The marks of one process in its metrics.

    ``started`` is its start in Unix seconds, None when not told (servers that gather the
    metrics of several processes don't). ``counters`` are the sums, by name, of
    metrics that only grow.
    """

    started: float | None
    counters: Mapping[str, float]

    @classmethod
    def read(cls, scrape: Scrape, counters: Iterable[str]) -> "Lifetime":
        """The marks in a scrape, given the names of the engine's counters."""
        times = (sample.value for sample in scrape.samples.get(PROCESS_START, ()))
        starts = [time for time in times if math.isfinite(time)]
        sums = {
            name: sum(sample.value for sample in scrape.samples[name])
            for name in counters
            if name in scrape.samples
        }
        return cls(max(starts, default=None), sums)


def restart_sign(before: Lifetime, after: Lifetime, *, was_refused: bool) -> str | None:
    """Why ``after`` is another process than ``before``, in words; None when it is the same.

    The start time settles it when both tell it. Else a counter that went backwards is
    proof, and so counts an interval in which connections were refused.
    """
    if before.started is not None and after.started is not None:
        changed = before.started != after.started
        return "its process start time changed" if changed else None
    for name, value in before.counters.items():
        if after.counters.get(name, value) < value:
            return f"its counter {name} went backwards"
    return "it refused connections for a while" if was_refused else None
