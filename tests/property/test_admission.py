"""Whatever comes, is let go, leaves or runs out of patience: nobody is lost, bounds hold."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from routing.admission.entry import Entry, LaneKey
from routing.admission.queue import AdmissionQueue, BandBounds, QueueBounds

LANES = [LaneKey("m", None), LaneKey("m", frozenset({"a"})), LaneKey("n", None)]
TENANTS = st.sampled_from(["a", "b", "c", "d"])


class AnyRush(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.waiting: set[Entry] = set()
        self.arrived: dict[Entry, int] = {}

    @initialize(
        requests=st.integers(1, 8), size=st.integers(20, 200), every=st.sampled_from([0, 1, 3])
    )
    def begin(self, requests: int, size: int, every: int) -> None:
        self.queue = AdmissionQueue(
            QueueBounds(
                requests=requests,
                bytes=size,
                patience=10.0,
                oldest_every=every,
                bands={-2: BandBounds(requests=2), 2: BandBounds(bytes=50)},
                weights={"d": 4.0},
            )
        )

    @rule(
        lane=st.sampled_from(LANES),
        priority=st.integers(-2, 2),
        tenant=TENANTS,
        cost=st.floats(1.0, 100.0),
        size=st.integers(0, 100),
    )
    def offer(self, lane: LaneKey, priority: int, tenant: str, cost: float, size: int) -> None:
        before = set(self.waiting)
        entry, evicted = self.queue.offer(
            lane, priority, tenant, cost=cost, size=size, now=self.now
        )
        assert set(evicted) <= before
        self.waiting -= set(evicted)
        if entry is None:
            assert not evicted
            assert before
            same = [one for one in before if one.priority == priority]
            full = len(before) >= self.queue.bounds.requests or (priority == -2 and len(same) >= 2)
            too_large = sum(one.size for one in before) + size > self.queue.bounds.bytes
            band_too_large = priority == 2 and sum(one.size for one in same) + size > 50
            assert full or too_large or band_too_large
        else:
            self.waiting.add(entry)
            self.arrived[entry] = len(self.arrived)
            for one in evicted:
                assert one.priority < priority or (
                    one.priority == priority and one.tenant != tenant
                )

    @rule(lane=st.sampled_from(LANES))
    def let_go(self, lane: LaneKey) -> None:
        entry = self.queue.next(lane)
        there = [one for one in self.waiting if one.lane == lane]
        assert (entry is None) == (not there)
        if entry is None:
            return
        best = max(one.priority for one in there)
        oldest = min(one.since for one in there)
        assert entry.priority == best or (self.queue.bounds.oldest_every and entry.since == oldest)
        self.queue.take(entry, self.now)
        self.waiting.remove(entry)

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.waiting:
            place = data.draw(st.integers(0, len(self.waiting) - 1))
            entry = sorted(self.waiting, key=self.arrived.__getitem__)[place]
            assert self.queue.drop(entry)
            assert not self.queue.drop(entry)
            self.waiting.remove(entry)

    @rule(seconds=st.floats(0, 8))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        late = self.queue.expire(self.now)
        assert set(late) == {one for one in self.waiting if one.deadline <= self.now}
        self.waiting -= set(late)

    @invariant()
    def books_are_right(self) -> None:
        if not hasattr(self, "queue"):
            return
        queue, bounds = self.queue, self.queue.bounds
        assert len(queue) == len(self.waiting) <= bounds.requests
        assert queue.bytes == sum(one.size for one in self.waiting)
        assert queue.bytes <= bounds.bytes or len(self.waiting) == 1
        lowest = [one for one in self.waiting if one.priority == -2]
        highest = [one for one in self.waiting if one.priority == 2]
        assert len(lowest) <= 2
        assert sum(one.size for one in highest) <= 50 or len(highest) == 1
        assert set(queue.lanes()) == {one.lane for one in self.waiting}
        assert sum(row[3] for row in queue.backlogs()) == len(self.waiting)
        oldest = queue.oldest
        assert (oldest is None) == (not self.waiting)
        if oldest is not None:
            assert oldest.since == min(one.since for one in self.waiting)


AnyRush.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyRush = AnyRush.TestCase
