from typing import Any

import pytest

from endpoints.events.feed import Feed, Replayed
from routing.prefix.residency import Residency
from routing.prefix.tokens import blocks_of, token_salt
from tests.support.event_messages import SIZE, batch, removed, stored, tokens_of

NOW = 1000.0


class Publisher:
    """Message number *n* stores block *n + 1*, a prompt of its own."""

    def __init__(self, started: float = 1.0) -> None:
        self.started = started

    def message(self, number: int, *events: Any) -> tuple[int, bytes, float]:
        return number, batch(*(events or (stored([number + 1]),)), ts=self.started + number), NOW


class Followed:
    def __init__(self, **options: bool) -> None:
        self.view = Residency(1 << 24)
        self.feed = Feed("pod", self.view, **options)
        self.health = self.feed.health

    def has(self, *numbers: int) -> bool:
        """Whether it is exactly these messages that the view shows."""
        held = [number for number in range(100) if self._found(number + 1)]
        return held == list(numbers) and self.view.blocks("pod") == len(numbers)

    def _found(self, block: int) -> bool:
        chain = blocks_of(token_salt(None, None), tokens_of(block), SIZE)
        return "pod" in self.view.look({SIZE: chain})


@pytest.fixture
def followed() -> Followed:
    return Followed()


def test_messages_in_order_are_applied_once(followed: Followed) -> None:
    publisher = Publisher()
    for number in (0, 1, 1, 2):
        assert followed.feed.live(*publisher.message(number))
    assert followed.has(0, 1, 2)
    assert followed.health.duplicates == 1
    assert followed.health.sequence == 2
    assert followed.health.messages == 3
    assert followed.health.lag == NOW - 3.0
    assert not followed.view.incomplete("pod")


def test_a_gap_is_filled_by_a_replay(followed: Followed) -> None:
    publisher, feed = Publisher(), followed.feed
    feed.live(*publisher.message(0))
    assert not feed.live(*publisher.message(3))
    assert followed.has(0)
    assert feed.replay_from() == 1
    for number in (1, 2, 3, 4):
        assert feed.replayed(*publisher.message(number)) is Replayed.TAKEN
    assert feed.replay_ended(NOW) is Replayed.TAKEN
    feed.accept(*publisher.message(3))
    assert feed.live(*publisher.message(4))
    assert feed.live(*publisher.message(5))
    assert followed.has(0, 1, 2, 3, 4, 5)
    assert (followed.health.gaps, followed.health.lost) == (1, 0)
    assert not followed.view.incomplete("pod")


def test_what_no_replay_brings_is_lost_and_marked(followed: Followed) -> None:
    publisher, feed = Publisher(), followed.feed
    feed.live(*publisher.message(0))
    assert not feed.live(*publisher.message(3))
    feed.accept(*publisher.message(3))
    assert followed.has(0, 3)
    assert followed.health.lost == 2
    assert followed.view.incomplete("pod")


def test_a_loss_may_wipe_the_view() -> None:
    followed = Followed(keep_after_loss=False)
    publisher, feed = Publisher(), followed.feed
    feed.live(*publisher.message(0))
    assert not feed.live(*publisher.message(3))
    feed.accept(*publisher.message(3))
    assert followed.has(3)
    assert followed.view.incomplete("pod")


def test_coming_late_asks_for_everything(followed: Followed) -> None:
    publisher, feed = Publisher(), followed.feed
    feed.connected()
    assert not feed.live(*publisher.message(7))
    assert followed.health.gaps == 0
    assert feed.replay_from() == 0
    for number in range(8):
        feed.replayed(*publisher.message(number))
    feed.replay_ended(NOW)
    feed.accept(*publisher.message(7))
    assert followed.has(*range(8))
    assert not followed.view.incomplete("pod")


def test_publishers_may_count_from_one(followed: Followed) -> None:
    feed = followed.feed
    feed.replay_from()
    feed.replayed(*Publisher().message(1))
    assert followed.health.lost == 0
    assert not followed.view.incomplete("pod")


def test_a_replay_that_reaches_back_no_further_leaves_the_view_incomplete(
    followed: Followed,
) -> None:
    publisher, feed = Publisher(), followed.feed
    feed.replay_from()
    for number in (5, 6):
        assert feed.replayed(*publisher.message(number)) is Replayed.TAKEN
    assert followed.has(5, 6)
    assert followed.health.lost == 5
    assert followed.view.incomplete("pod")


def test_a_replay_with_a_hole_is_asked_for_again_from_there(followed: Followed) -> None:
    publisher, feed = Publisher(), followed.feed
    assert feed.replay_from() == 0
    assert feed.replayed(*publisher.message(0)) is Replayed.TAKEN
    assert feed.replayed(*publisher.message(2)) is Replayed.HOLE
    assert feed.replay_from() == 1
    for number in (1, 2):
        assert feed.replayed(*publisher.message(number)) is Replayed.TAKEN
    assert followed.has(0, 1, 2)


def test_counting_backwards_is_a_restart(followed: Followed) -> None:
    feed = followed.feed
    for number in range(5):
        feed.live(*Publisher().message(number))
    anew = Publisher(started=50.0)
    assert feed.live(*anew.message(0))
    assert followed.has(0)
    assert followed.health.restarts == 1
    assert not followed.view.incomplete("pod")
    assert not feed.live(*anew.message(2))
    assert feed.replay_from() == 1


def test_live_messages_that_a_replay_brought_before_are_no_restart(followed: Followed) -> None:
    publisher, feed = Publisher(), followed.feed
    feed.live(*publisher.message(0))
    feed.live(*publisher.message(3))
    feed.replay_from()
    for number in range(1, 9):
        feed.replayed(*publisher.message(number))
    feed.accept(*publisher.message(3))
    for number in range(4, 10):
        assert feed.live(*publisher.message(number))
    assert followed.health.restarts == 0
    assert followed.has(*range(10))


def test_the_same_process_proves_itself_after_a_broken_connection(followed: Followed) -> None:
    publisher, feed = Publisher(), followed.feed
    for number in range(3):
        feed.live(*publisher.message(number))
    feed.connected()
    assert feed.replay_from() == 2
    for number in (2, 3):
        assert feed.replayed(*publisher.message(number)) is Replayed.TAKEN
    assert feed.replay_ended(NOW) is Replayed.TAKEN
    assert followed.has(0, 1, 2, 3)
    assert followed.health.restarts == 0


def test_another_process_is_found_out_even_when_it_counted_past_ours(followed: Followed) -> None:
    feed, anew = followed.feed, Publisher(started=50.0)
    for number in range(3):
        feed.live(*Publisher().message(number))
    feed.connected()
    assert feed.replay_from() == 2
    assert feed.replayed(*anew.message(2)) is Replayed.RESTARTED
    assert followed.has()
    assert feed.replay_from() == 0
    for number in range(6):
        assert feed.replayed(*anew.message(number, stored([number + 50]))) is Replayed.TAKEN
    assert followed.has(*range(49, 55))
    assert feed.live(*anew.message(6))


def test_another_process_that_has_not_counted_as_far_is_found_out(followed: Followed) -> None:
    feed = followed.feed
    for number in range(3):
        feed.live(*Publisher().message(number))
    feed.connected()
    feed.replay_from()
    assert feed.replay_ended(NOW) is Replayed.RESTARTED
    assert followed.has()
    assert feed.replay_from() == 0
    assert feed.replay_ended(NOW) is Replayed.TAKEN
    assert followed.view.covers("pod")


def test_without_a_replay_a_jump_after_a_broken_connection_wipes_the_view(
    followed: Followed,
) -> None:
    publisher, feed = Publisher(), followed.feed
    for number in range(3):
        feed.live(*publisher.message(number))
    feed.connected()
    assert feed.live(*publisher.message(3))
    feed.connected()
    assert not feed.live(*publisher.message(9))
    feed.accept(*publisher.message(9))
    assert followed.has(9)
    assert followed.view.incomplete("pod")


def test_a_failed_verification_leaves_the_doubt(followed: Followed) -> None:
    publisher, feed = Publisher(), followed.feed
    for number in range(3):
        feed.live(*publisher.message(number))
    feed.connected()
    feed.replay_from()
    feed.replay_failed("no answer")
    assert followed.has(0, 1, 2)
    assert followed.health.last_problem == "no answer"
    assert feed.replay_from() == 2


def test_a_restart_told_by_others_wipes_once(followed: Followed) -> None:
    feed, anew = followed.feed, Publisher(started=50.0)
    for number in range(3):
        feed.live(*Publisher().message(number))
    feed.live(*anew.message(0))
    feed.restarted(NOW + 5)
    assert followed.has(0)  # the stream itself showed it a moment ago
    feed.restarted(NOW + 500)
    assert followed.has()


def test_an_empty_publisher_is_known_to_hold_nothing(followed: Followed) -> None:
    assert not followed.view.covers("pod")
    followed.feed.replay_from()
    followed.feed.replay_ended(NOW)
    assert followed.view.covers("pod")


def test_what_cannot_be_read_is_counted_and_marks_the_view(followed: Followed) -> None:
    feed = followed.feed
    assert feed.live(0, b"\xc1", NOW)
    assert feed.live(1, batch(stored([2]), ["What"], {"type": "BlockRemoved"}), NOW)
    assert followed.health.undecodable == 1
    assert followed.health.unknown_tags == {"What": 1}
    assert followed.health.malformed_events == 1
    assert followed.view.incomplete("pod")
    assert followed.has(1)
    feed.broken(2)
    assert followed.health.undecodable == 2
    assert "2 frames" in (followed.health.last_problem or "")


def test_events_of_a_message_apply_in_order(followed: Followed) -> None:
    followed.feed.live(*Publisher().message(0, stored([1]), removed([1]), stored([1], tokens=[])))
    assert followed.view.blocks("pod") == 0
