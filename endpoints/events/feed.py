"""One publisher's stream of messages, turned into the view of its endpoint's cache. No sockets.

Live messages go through `Feed.live`. When it finds that some are missing, the caller fetches
them if it can, hands them to `Feed.replayed`, and then the message itself to `Feed.accept`,
which takes it whatever is still missing. Unknown state is kept apart from known: whenever
messages are lost for good, the endpoint's view is marked incomplete, and wiped when the
publisher may be another process or the settings ask for it.

Whether it is the same process after a broken connection is found out by asking for the last
message that we applied once more: only the same process can send the same bytes.
"""

from enum import Enum
from math import inf

from xxhash import xxh3_64_intdigest

from endpoints.events.decoding import decode
from endpoints.events.health import FeedHealth, count_name
from endpoints.events.sequence import Sequence, Verdict
from endpoints.events.translation import Translator
from routing.prefix.residency import Residency

_FIRST = 1
"""The highest number that a publisher begins with."""
_SAME_RESTART = 60.0
"""Seconds within which two signs of a restart mean the same one."""


class Replayed(Enum):
    """What a replayed message led to."""

    TAKEN = "taken"  # applied, or known before
    HOLE = "hole"  # the replay left messages out: ask again, from `Feed.replay_from`
    RESTARTED = "restarted"  # it is another process: the view is wiped, ask again


class Feed:
    """The stream of one data-parallel rank of ``endpoint`` (``alone``: its only one).

    ``keep_after_loss``: messages lost for good leave the view incomplete; else they wipe it.
    All times are Unix seconds, passed in as ``now``.
    """

    def __init__(
        self,
        endpoint: str,
        residency: Residency,
        *,
        alone: bool = True,
        keep_after_loss: bool = True,
    ) -> None:
        self.endpoint = endpoint
        self.health = FeedHealth()
        self._residency = residency
        self._translator = Translator(endpoint, residency, self.health, alone=alone)
        self._keep_after_loss = keep_after_loss
        self._sequence = Sequence()
        self._last = 0  # the fingerprint of the message applied last
        self._verifying = False
        self._replay_began = False
        self._restarted_at = -inf

    # -- live ------------------------------------------------------------------------------

    def live(self, number: int, payload: bytes, now: float) -> bool:
        """Take a live message; False when others are missing before it, and it was not applied."""
        verdict = self._sequence.judge(number)
        if verdict is Verdict.RESTARTED:
            self._restart(now)
            verdict = self._sequence.judge(number)
        if verdict is Verdict.NEXT:
            self._apply(number, payload, now)
        elif verdict is Verdict.DUPLICATE:
            self.health.duplicates += 1
        else:
            self.health.gaps += self._sequence.applied is not None
            return False
        return True

    def accept(self, number: int, payload: bytes, now: float) -> None:
        """Take a live message, whatever is missing before it is lost."""
        applied = self._sequence.applied
        if applied is not None and number <= applied:
            return
        self._skip_to(number)
        self._apply(number, payload, now)

    def broken(self, frames: int) -> None:
        """A message came that has no number and payload, so its events are lost."""
        self._undecodable(f"a message of {frames} frames; expected topic, number, payload")

    # -- the connection --------------------------------------------------------------------

    def connected(self) -> None:
        """A connection to the publisher was made; messages before it may have been missed."""
        self.health.connections += 1
        self.doubt()

    def doubt(self) -> None:
        """Another process may publish now; a replay, or the next message's number, will tell."""
        self._sequence.doubtful = True

    def restarted(self, now: float) -> None:
        """Somebody else saw that the engine is another process: nothing of its cache is left.

        Ignored when the stream showed it itself a moment ago: what came since is true.
        """
        if now - self._restarted_at > _SAME_RESTART:
            self._restart(now)

    # -- replay ----------------------------------------------------------------------------

    def replay_from(self) -> int:
        """Begin a replay: the first number to ask for.

        The last applied message comes first when the process must prove to be the same.
        """
        self.health.replays += 1
        sequence = self._sequence
        self._verifying = sequence.doubtful and sequence.applied is not None
        sequence.doubtful = False
        self._replay_began = False
        return sequence.next - 1 if self._verifying else sequence.next

    def replayed(self, number: int, payload: bytes, now: float) -> Replayed:
        """Take a replayed message."""
        first, self._replay_began = not self._replay_began, True
        if self._verifying:
            self._verifying = False
            if number == self._sequence.applied and self._fingerprint(payload) == self._last:
                return Replayed.TAKEN
            self._restart(now)
            return Replayed.RESTARTED
        if number < self._sequence.next:
            return Replayed.TAKEN
        if number > self._sequence.next:
            if not first:
                return Replayed.HOLE
            if self._sequence.applied is not None or number > _FIRST:
                self._skip_to(number)  # its buffer reaches back no further
        self._apply(number, payload, now)
        return Replayed.TAKEN

    def replay_ended(self, now: float) -> Replayed:
        """The publisher has no more."""
        self._residency.follow(self.endpoint)  # even when there was nothing to tell
        if self._verifying:  # not even our last message: it has not counted as far as ours did
            self._verifying = False
            self._restart(now)
            return Replayed.RESTARTED
        return Replayed.TAKEN

    def replay_failed(self, problem: str) -> None:
        """No replay can be had now."""
        self.health.failed_replays += 1
        self.health.last_problem = problem
        if self._verifying:
            self._verifying = False
            self._sequence.doubtful = True

    # -- inside ----------------------------------------------------------------------------

    def _apply(self, number: int, payload: bytes, now: float) -> None:
        health = self.health
        self._sequence.applied = health.sequence = number
        self._last = self._fingerprint(payload)
        try:
            batch = decode(payload)
        except ValueError as error:
            self._undecodable(str(error))
            return
        health.messages += 1
        health.events += len(batch.events)
        health.last_event_at = now
        health.lag = now - batch.ts
        self._translator.apply(batch.events)
        for tag in batch.unknown:
            count_name(health.unknown_tags, tag)
        if batch.malformed:
            health.malformed_events += len(batch.malformed)
            health.last_problem = batch.malformed[-1]
            self._residency.mark_incomplete(self.endpoint)

    def _undecodable(self, problem: str) -> None:
        self.health.undecodable += 1
        self.health.last_problem = problem
        self._residency.mark_incomplete(self.endpoint)

    def _skip_to(self, number: int) -> None:
        """What is missing before ``number`` is lost for good."""
        lost = number - self._sequence.next
        if lost <= 0:
            return
        self.health.lost += lost
        if not self._keep_after_loss:
            self._translator.clear()
        self._residency.mark_incomplete(self.endpoint)

    def _restart(self, now: float) -> None:
        self._restarted_at = now
        self.health.restarts += 1
        self._sequence.forget()
        self._translator.clear()

    def _fingerprint(self, payload: bytes) -> int:
        return xxh3_64_intdigest(payload)
