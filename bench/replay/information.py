"""What reaches the router of the engines, and when: scrapes, and reports of their caches.

Both come late, and some don't come: that is what tells a policy that works in theory from one
that works.
"""

from array import array
from enum import Enum
from random import Random

from bench.fleet.engine.cache import Tier as CacheTier
from bench.replay.engine import Engine
from bench.replay.faults import Fault
from bench.replay.timeline import Timeline
from routing.endpoint import Load
from routing.prefix.residency import Residency, Tier

_TIERS = {CacheTier.GPU: Tier.GPU, CacheTier.CPU: Tier.CPU}
_MOST_LATE = 1.0  # seconds by which a reordered report is late


class _Change(Enum):
    STORED = "stored"
    REMOVED = "removed"
    CLEARED = "cleared"


class CacheReports:
    """One engine's cache as it is reported: what a step changed as one batch, ``lag`` s later."""

    def __init__(
        self,
        endpoint: str,
        block_tokens: int,
        residency: Residency,
        timeline: Timeline,
        lag: float,
        fault: Fault,
        dice: Random,
    ) -> None:
        self._endpoint = endpoint
        self._block_tokens = block_tokens
        self._residency = residency
        self._timeline = timeline
        self._lag = lag
        self._fault = fault
        self._dice = dice
        self._batch: list[tuple[_Change, Tier, array[int]]] = []
        self._closed = False
        residency.follow(endpoint)

    def stored(self, block: int, tier: CacheTier) -> None:
        """The block can be found in a tier where it was not before."""
        self._add(_Change.STORED, _TIERS[tier], block)

    def removed(self, block: int, tier: CacheTier) -> None:
        """The block left a tier."""
        self._add(_Change.REMOVED, _TIERS[tier], block)

    def cleared(self) -> None:
        """Nothing can be found any more."""
        self._batch.append((_Change.CLEARED, Tier.GPU, array("Q")))

    def publish(self) -> None:
        """Send what changed since the last time; at the end of every segment, as engines do."""
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        lag, fault = self._lag, self._fault
        if fault.lost_events and self._dice.random() < fault.lost_events:
            return
        if fault.reordered_events and self._dice.random() < fault.reordered_events:
            lag += self._dice.uniform(0.0, _MOST_LATE)
        self._timeline.at(self._timeline.now + lag, self._deliver, batch)

    def close(self) -> None:
        """The engine is gone: what is on its way is lost."""
        self._closed = True

    def _add(self, change: _Change, tier: Tier, block: int) -> None:
        if self._batch:
            last, where, blocks = self._batch[-1]
            if last is change and where is tier:
                blocks.append(block)
                return
        self._batch.append((change, tier, array("Q", (block,))))

    def _deliver(self, batch: "list[tuple[_Change, Tier, array[int]]]") -> None:
        if self._closed:
            return
        residency, endpoint = self._residency, self._endpoint
        for change, tier, blocks in batch:
            if change is _Change.STORED:
                residency.stored(endpoint, self._block_tokens, blocks, tier)
            elif change is _Change.REMOVED:
                residency.removed(endpoint, blocks, tier)
            else:
                residency.cleared(endpoint)


def scrape(engine: Engine, now: float, queried: int, hit: int) -> Load:
    """What the engine says of itself; prompt tokens looked for and found in its cache, ever."""
    cache = engine.cache
    return Load(
        now,
        running=float(len(engine.running)),
        waiting=float(len(engine.waiting)),
        kv_usage=cache.usage,
        cache_block_tokens=engine.block_tokens,
        cache_blocks=cache.capacity,
        prefix_queried_tokens=float(queried),
        prefix_hit_tokens=float(hit),
        preemptions=float(engine.preemptions),
    )


def frozen(load: Load, now: float) -> Load:
    """An old scrape told again as if it were of now."""
    return Load(
        now,
        running=load.running,
        waiting=load.waiting,
        kv_usage=load.kv_usage,
        cache_block_tokens=load.cache_block_tokens,
        cache_blocks=load.cache_blocks,
        prefix_queried_tokens=load.prefix_queried_tokens,
        prefix_hit_tokens=load.prefix_hit_tokens,
        preemptions=load.preemptions,
    )
