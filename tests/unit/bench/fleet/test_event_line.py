"""What happens to batches between the publisher and its subscribers."""

from collections import Counter

import pytest

from bench.fleet.events.line import Line
from bench.fleet.settings import EventFaults


def arrived(faults: EventFaults, count: int = 1000) -> list[int]:
    """The sequence numbers that get through, in order."""
    line = Line(faults, seed=1)
    sent = [number for index in range(count) for number, _ in line.pass_on((index, b""))]
    return sent + [number for number, _ in line.release()]


def test_everything_arrives_in_order_by_default() -> None:
    assert arrived(EventFaults()) == list(range(1000))


def test_a_share_of_the_batches_is_lost_and_the_seed_repeats_which() -> None:
    left = arrived(EventFaults(lose_rate=0.3))
    assert left == arrived(EventFaults(lose_rate=0.3))
    assert left == sorted(left)
    assert len(left) == pytest.approx(700, abs=60)


def test_a_share_comes_twice() -> None:
    counts = Counter(arrived(EventFaults(duplicate_rate=0.2)))
    assert len(counts) == 1000
    assert sum(count == 2 for count in counts.values()) == pytest.approx(200, abs=50)


def test_a_late_batch_comes_after_its_successor() -> None:
    assert arrived(EventFaults(reorder_rate=1.0), 6) == [1, 0, 3, 2, 5, 4]
    some = arrived(EventFaults(reorder_rate=0.1))
    assert sorted(some) == list(range(1000))
    assert some != sorted(some)


def test_what_was_held_back_is_released_once() -> None:
    line = Line(EventFaults(reorder_rate=1.0), seed=0)
    assert line.pass_on((0, b"x")) == ()
    assert line.release() == ((0, b"x"),)
    assert line.release() == ()


def test_a_silent_publisher_sends_nothing() -> None:
    assert arrived(EventFaults(silent=True)) == []
