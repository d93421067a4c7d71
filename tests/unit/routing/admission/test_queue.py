"""Bounds, priorities and patience of the queue before a pool."""

import pytest

from routing.admission.entry import Entry, LaneKey
from routing.admission.queue import AdmissionQueue, BandBounds, QueueBounds

LANE = LaneKey("m", None)
OTHER = LaneKey("other", None)


def offer(
    queue: AdmissionQueue,
    priority: int = 0,
    tenant: str = "t",
    *,
    size: int = 10,
    now: float = 0.0,
    lane: LaneKey = LANE,
    cost: float = 1.0,
) -> Entry:
    entry, _ = queue.offer(lane, priority, tenant, cost=cost, size=size, now=now)
    assert entry is not None
    return entry


def take(queue: AdmissionQueue, now: float = 0.0, lane: LaneKey = LANE) -> Entry:
    entry = queue.next(lane)
    assert entry is not None
    queue.take(entry, now)
    return entry


def test_higher_priorities_go_first() -> None:
    queue = AdmissionQueue(QueueBounds(oldest_every=0))
    low, normal, high = offer(queue, -1), offer(queue), offer(queue, 100)
    assert [take(queue), take(queue), take(queue)] == [high, normal, low]
    assert (len(queue), queue.bytes, queue.waits_in(LANE)) == (0, 0, False)


def test_no_priority_waits_for_ever() -> None:
    queue = AdmissionQueue(QueueBounds(requests=10_000, oldest_every=10))
    low = offer(queue, -1, now=0.0)
    turns = 0
    while low in queue:
        offer(queue, 5, now=1.0 + turns)
        take(queue)
        turns += 1
    assert turns == 10


def test_lanes_do_not_wait_for_each_other() -> None:
    queue = AdmissionQueue(QueueBounds())
    first, second = offer(queue), offer(queue, lane=OTHER)
    assert queue.next(OTHER) is second
    assert queue.next(LANE) is first
    assert set(queue.lanes()) == {LANE, OTHER}
    assert queue.next(LaneKey("m", frozenset("a"))) is None


def test_a_full_queue_turns_the_youngest_of_the_lowest_priority_away() -> None:
    queue = AdmissionQueue(QueueBounds(requests=3))
    offer(queue, -5)
    youngest = offer(queue, -5, lane=OTHER)
    offer(queue, 0)
    entry, evicted = queue.offer(LANE, 1, "t", cost=1.0, size=10, now=0.0)
    assert entry is not None
    assert evicted[0].priority == -5
    assert evicted == [youngest] or evicted[0].lane == LANE
    assert len(queue) == 3
    refused, nobody = queue.offer(LANE, -6, "t", cost=1.0, size=10, now=0.0)
    assert (refused, nobody) == (None, [])


def test_bytes_are_bounded_and_as_many_make_way_as_must() -> None:
    queue = AdmissionQueue(QueueBounds(bytes=100))
    for _ in range(9):
        offer(queue, 0)
    entry, evicted = queue.offer(LANE, 1, "t", cost=1.0, size=35, now=0.0)
    assert entry is not None
    assert len(evicted) == 3
    assert queue.bytes == 95
    # What could not fit even then must not cost anybody's place.
    refused, nobody = queue.offer(LANE, 1, "t", cost=1.0, size=90, now=0.0)
    assert (refused, nobody, queue.bytes) == (None, [], 95)


def test_one_may_always_wait_however_large() -> None:
    queue = AdmissionQueue(QueueBounds(bytes=1_024))
    offer(queue, size=1 << 30)
    assert queue.offer(LANE, 0, "t", cost=1.0, size=1, now=0.0)[0] is None


def test_whoever_floods_makes_way_for_the_others() -> None:
    queue = AdmissionQueue(QueueBounds(requests=10))
    for _ in range(8):
        offer(queue, tenant="flood")
    offer(queue, tenant="flood", lane=OTHER)
    offer(queue, tenant="calm")
    entry, evicted = queue.offer(OTHER, 0, "calm", cost=1.0, size=10, now=0.0)
    assert entry is not None
    assert [one.tenant for one in evicted] == ["flood"]
    assert queue.offer(LANE, 0, "flood", cost=1.0, size=10, now=0.0) == (None, [])


def test_a_larger_share_may_have_more_waiting() -> None:
    queue = AdmissionQueue(QueueBounds(requests=4, weights={"gold": 3.0}))
    offer(queue, tenant="plain")
    offer(queue, tenant="plain")
    offer(queue, tenant="gold")
    offer(queue, tenant="gold")
    _, evicted = queue.offer(LANE, 0, "gold", cost=1.0, size=1, now=0.0)
    assert [one.tenant for one in evicted] == ["plain"]


def test_a_priority_may_have_bounds_of_its_own() -> None:
    bounds = QueueBounds(
        bands={-1: BandBounds(requests=0), 5: BandBounds(bytes=25)},
        other_bands=BandBounds(requests=2),
    )
    queue = AdmissionQueue(bounds)
    assert queue.offer(LANE, -1, "t", cost=1.0, size=1, now=0.0) == (None, [])
    offer(queue, 5, size=100)  # one may always wait
    assert queue.offer(LANE, 5, "t", cost=1.0, size=1, now=0.0) == (None, [])
    offer(queue, 0, "flood")
    offer(queue, 0, "flood")
    entry, evicted = queue.offer(LANE, 0, "calm", cost=1.0, size=10, now=0.0)
    assert entry is not None
    assert [one.tenant for one in evicted] == ["flood"]
    # Its own priority is full: those of lower ones do not have to go for it.
    offer(queue, -7)
    assert queue.offer(LANE, 0, "calm", cost=9.0, size=10, now=0.0) == (None, [])
    assert len(queue) == 4


def test_patience_ends_in_order_of_arrival() -> None:
    queue = AdmissionQueue(QueueBounds(patience=10.0))
    first, second = offer(queue, now=0.0), offer(queue, 7, now=1.0)
    assert queue.expire(9.9) == []
    assert queue.expire(10.0) == [first]
    assert queue.expire(11.0) == [second]
    assert not queue.drop(first)


def test_how_long_it_takes_is_told_by_its_pace() -> None:
    queue = AdmissionQueue(QueueBounds())
    for _ in range(120):
        offer(queue)
    assert queue.wait_seconds(0.0) is None
    for number in range(100):
        take(queue, now=number / 10.0)  # ten a second
    seconds = queue.wait_seconds(10.0)
    assert seconds is not None
    assert seconds == pytest.approx(20 / 10.0, rel=0.6)
    assert queue.wait_seconds(1_000.0) is None
