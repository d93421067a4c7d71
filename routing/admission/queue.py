"""Everybody who waits to be admitted to one pool, with bounds on how many, how much, how long.

Requests that can go to the same endpoints (the same model, the same subset) stand in one *lane*;
each lane has room or not by itself, so one model's rush does not hold up another one. Within a
lane the highest priority goes first, and within a priority each tenant gets its share. So that no
priority waits for ever, every so many turns of a lane belong to whoever has waited longest there.

A full queue turns somebody away: the youngest of the lowest priority below the newcomer's, else
the youngest of the tenant with most work waiting in the newcomer's own priority, else the newcomer.
Where its own priority is full, only the latter two.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final

from routing.admission.entry import Entry, LaneKey
from routing.admission.fairqueue import FairQueue

_RATE_SECONDS: Final = 10.0  # over which the pace of admission is averaged


@dataclass(frozen=True, slots=True)
class BandBounds:
    """How much of one priority may wait, within the bounds of the whole; None: no bound more."""

    requests: int | None = None
    bytes: int | None = None


_UNBOUNDED: Final = BandBounds()


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """How much may wait. ``requests`` whose bodies have ``bytes``, each ``patience`` seconds."""

    requests: int = 1_000
    bytes: int = 256 << 20
    patience: float = 60.0
    oldest_every: int = 20
    """Of so many turns one is that of whoever has waited longest; 0: none is."""
    bands: Mapping[int, BandBounds] = field(default_factory=dict)
    """Of priorities that have bounds of their own; 0 requests: none of it waits."""
    other_bands: BandBounds = _UNBOUNDED
    """Of all other priorities."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Shares of tenants that have another one than 1."""


class Lane:
    """Those who wait for the same endpoints."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._bands: dict[int, FairQueue] = {}  # by priority; none is empty
        self._turns = 0

    def __bool__(self) -> bool:
        return bool(self._bands)

    def next(self, oldest_every: int) -> Entry | None:
        """Whose turn it is. It stays until it is taken."""
        if not self._bands:
            return None
        if oldest_every and self._turns % oldest_every == oldest_every - 1:
            oldest = [band.oldest for band in self._bands.values()]
            return min((one for one in oldest if one is not None), key=lambda one: one.since)
        return self._bands[max(self._bands)].head

    def push(self, entry: Entry) -> None:
        """Stand in line."""
        band = self._bands.get(entry.priority)
        if band is None:
            band = self._bands[entry.priority] = FairQueue(self._weights)
        band.push(entry)

    def take(self, entry: Entry) -> None:
        """It is admitted."""
        self._turns += 1
        band = self._bands[entry.priority]
        band.take(entry)
        if not band:
            del self._bands[entry.priority]

    def drop(self, entry: Entry) -> None:
        """It left."""
        band = self._bands[entry.priority]
        band.drop(entry)
        if not band:
            del self._bands[entry.priority]

    def bands(self) -> Mapping[int, FairQueue]:
        """Those that hold somebody, by priority."""
        return self._bands


class AdmissionQueue:
    """The lanes of one pool. Every method is O(log n) but `offer` to a full queue."""

    def __init__(self, bounds: QueueBounds) -> None:
        self.bounds = bounds
        self.bytes = 0
        """Held by those who wait."""
        self._lanes: dict[LaneKey, Lane] = {}
        self._by_age: OrderedDict[Entry, None] = OrderedDict()
        self._held: dict[int, tuple[int, int]] = {}  # requests and bytes, by priority
        self._rate = 0.0
        self._rate_at = -inf

    def __len__(self) -> int:
        return len(self._by_age)

    def __contains__(self, entry: Entry) -> bool:
        return entry in self._by_age

    @property
    def oldest(self) -> Entry | None:
        """Who has waited longest."""
        return next(iter(self._by_age), None)

    def waits_in(self, lane: LaneKey) -> bool:
        """Whether somebody stands in a lane, whom a newcomer must not overtake."""
        return lane in self._lanes

    def lanes(self) -> Iterator[LaneKey]:
        """Those that hold somebody, as of now."""
        return iter(tuple(self._lanes))

    def offer(
        self, lane: LaneKey, priority: int, tenant: str, *, cost: float, size: int, now: float
    ) -> tuple[Entry | None, list[Entry]]:
        """Stand in line; who made way for it has left. None: there is no room for it.

        ``cost``: its work, in any unit, above 0; ``size``: bytes held for it.
        """
        evicted = self._make_room(priority, tenant, cost, size)
        if evicted is None:
            return None, []
        entry = Entry(
            lane,
            priority,
            tenant,
            cost=cost,
            size=size,
            since=now,
            deadline=now + self.bounds.patience,
        )
        place = self._lanes.get(lane)
        if place is None:
            place = self._lanes[lane] = Lane(self.bounds.weights)
        place.push(entry)
        self._by_age[entry] = None
        self._hold(priority, 1, size)
        return entry, evicted

    def next(self, lane: LaneKey) -> Entry | None:
        """Whose turn it is in a lane; None: nobody is there."""
        place = self._lanes.get(lane)
        return None if place is None else place.next(self.bounds.oldest_every)

    def take(self, entry: Entry, now: float) -> None:
        """It was admitted."""
        self._observe(now)
        self._lanes[entry.lane].take(entry)
        self._forget(entry)

    def drop(self, entry: Entry) -> bool:
        """It leaves unserved; False when it is not there any more."""
        if entry not in self._by_age:
            return False
        self._lanes[entry.lane].drop(entry)
        self._forget(entry)
        return True

    def expire(self, now: float) -> list[Entry]:
        """Those whose patience is over; they have left."""
        late: list[Entry] = []
        while (oldest := self.oldest) is not None and oldest.deadline <= now:
            self.drop(oldest)
            late.append(oldest)
        return late

    def wait_seconds(self, now: float) -> float | None:
        """How long the queue takes at the pace of the last seconds; None: nothing moves."""
        rate = self._decayed(now) / _RATE_SECONDS
        return len(self._by_age) / rate if rate > 1e-3 else None

    def backlogs(self) -> Iterator[tuple[LaneKey, int, str, int, float]]:
        """What waits: lane, priority, tenant, requests, work."""
        for key, lane in self._lanes.items():
            for priority, band in lane.bands().items():
                for tenant, (requests, work) in band.backlogs().items():
                    yield key, priority, tenant, requests, work

    # --- within --------------------------------------------------------------------------------

    def _make_room(self, priority: int, tenant: str, cost: float, size: int) -> list[Entry] | None:
        """Who has to go for a newcomer and went; None: it can't have room."""
        evicted: list[Entry] = []
        fits_band = self._fits_band(priority, size, 0, 0)
        if fits_band and self._fits(size):
            return evicted
        if not fits_band or not self._could_fit(priority, size):
            victim = self._heavier(priority, tenant, cost)
            if (
                victim is None
                or self.bytes - victim.size + size > self.bounds.bytes
                or not self._fits_band(priority, size, 1, victim.size)
            ):
                return None
            self.drop(victim)
            return [victim]
        while not self._fits(size):
            victim = self._lowest_below(priority)
            assert victim is not None  # `_could_fit` counted them
            self.drop(victim)
            evicted.append(victim)
        return evicted

    def _fits(self, size: int) -> bool:
        if not self._by_age:
            return True  # whatever its size: it is the only one
        bounds = self.bounds
        return len(self._by_age) < bounds.requests and self.bytes + size <= bounds.bytes

    def _fits_band(self, priority: int, size: int, fewer: int, less: int) -> bool:
        """Whether its priority has room, without so many requests and bytes of it."""
        bounds = self.bounds.bands.get(priority, self.bounds.other_bands)
        requests, held = self._held.get(priority, (0, 0))
        requests -= fewer
        if bounds.requests is not None and requests >= bounds.requests:
            return False
        return bounds.bytes is None or requests == 0 or held - less + size <= bounds.bytes

    def _could_fit(self, priority: int, size: int) -> bool:
        """Whether there would be room without anybody of a lower priority."""
        requests, held = 0, 0
        for other, (count, size_there) in self._held.items():
            if other >= priority:
                requests += count
                held += size_there
        if requests == 0:
            return True
        return requests < self.bounds.requests and held + size <= self.bounds.bytes

    def _lowest_below(self, priority: int) -> Entry | None:
        found: FairQueue | None = None
        for lane in self._lanes.values():
            lowest = min(lane.bands())
            if lowest < priority:
                priority = lowest
                found = lane.bands()[lowest]
        return None if found is None else found.youngest()

    def _heavier(self, priority: int, tenant: str, cost: float) -> Entry | None:
        """The youngest of the tenant with most work waiting, each for its weight; None: it is
        ``tenant`` with its newcomer.

        O(tenants), but only a full queue asks.
        """
        work: dict[str, float] = {}
        bands = [band for lane in self._lanes.values() if (band := lane.bands().get(priority))]
        for band in bands:
            for name, (_, backlog) in band.backlogs().items():
                work[name] = work.get(name, 0.0) + backlog
        work[tenant] = work.get(tenant, 0.0) + cost
        weights = self.bounds.weights
        shares = {name: backlog / weights.get(name, 1.0) for name, backlog in work.items()}
        heaviest = max(shares, key=shares.__getitem__)
        if shares[heaviest] <= shares[tenant]:
            return None
        theirs = [band.youngest_of(heaviest) for band in bands]
        return max((one for one in theirs if one is not None), key=lambda one: one.since)

    def _forget(self, entry: Entry) -> None:
        del self._by_age[entry]
        self._hold(entry.priority, -1, -entry.size)
        if not self._lanes[entry.lane]:
            del self._lanes[entry.lane]

    def _hold(self, priority: int, requests: int, size: int) -> None:
        self.bytes += size
        count, held = self._held.get(priority, (0, 0))
        if count + requests:
            self._held[priority] = (count + requests, held + size)
        else:
            del self._held[priority]

    def _observe(self, now: float) -> None:
        self._rate = self._decayed(now) + 1.0
        self._rate_at = now

    def _decayed(self, now: float) -> float:
        age = max(now - self._rate_at, 0.0)
        return self._rate * max(1.0 - age / _RATE_SECONDS, 0.0) if age < _RATE_SECONDS else 0.0
