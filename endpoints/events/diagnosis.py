"""What looks wrongly configured about a stream of cache events, in words for operators.

Nothing here fails loudly by itself: a wrong address is silence, a wrong topic another server's
cache, and both look like an endpoint that holds nothing.
"""

from dataclasses import dataclass

from endpoints.events.health import FeedHealth
from endpoints.events.source import EventSource, topic_names_other

_SOME = 20
"""Events, or requests, from which on a rule is trusted to be one."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known of the endpoint from elsewhere.

    ``requests`` were sent there so far; ``block_tokens`` is its block size by its metrics;
    ``connected`` whether its publisher is; ``topic`` the last message's.
    """

    url: str
    requests: int = 0
    block_tokens: int | None = None
    view_block_tokens: int | None = None
    connected: bool = False
    topic: str | None = None


class Diagnosis:
    """Judges one stream again and again; it compares with what it saw the time before."""

    def __init__(self, source: EventSource, now: float, silent_after: float) -> None:
        self._source = source
        self._silent_after = silent_after
        self._messages = -1
        self._heard_at = now
        self._requests_then: int | None = None
        self._connected_at = now
        self._stored = self._unknown = 0
        self._parents_unknown = False

    def complaints(self, health: FeedHealth, around: Surroundings, now: float) -> dict[str, str]:
        """What is wrong now, by topic; a problem keeps its words while it lasts."""
        found = {
            "events connection": self._connection(around, now),
            "events silence": self._silence(health, around, now),
            "events topic": self._topic(around),
            "events block size": self._block_size(health, around),
            "events groups": self._groups(health),
            "events parents": self._parents(health),
            "events messages": self._messages_broken(health),
            "events media": self._media(health),
        }
        return {topic: problem for topic, problem in found.items() if problem is not None}

    def _connection(self, around: Surroundings, now: float) -> str | None:
        if around.connected:
            self._connected_at = now
        if now - self._connected_at < self._silent_after:
            return None
        return (
            f"no connection to {self._source.address} for {self._silent_after:g} s; does the "
            "engine publish its cache events there (vLLM, SGLang: --kv-events-config)?"
        )

    def _silence(self, health: FeedHealth, around: Surroundings, now: float) -> str | None:
        if self._requests_then is None or health.messages != self._messages:
            self._messages = health.messages
            self._heard_at = now
            self._requests_then = around.requests
        if not around.connected or now - self._heard_at < self._silent_after:
            return None
        if around.requests - self._requests_then < _SOME:
            return None
        return (
            f"{self._source.address} sent no event for {self._silent_after:g} s although requests "
            f"were sent to {around.url}; check that it is this engine's address, that the topic "
            f"{self._source.topic!r} is right, and that prefix caching is on"
        )

    def _topic(self, around: Surroundings) -> str | None:
        other = topic_names_other(around.topic or "", around.url)
        if other is None:
            return None
        return (
            f"{self._source.address} publishes for {other} (topic {around.topic!r}), not for "
            f"{around.url}; check the address"
        )

    def _block_size(self, health: FeedHealth, around: Surroundings) -> str | None:
        reported, foreign = around.view_block_tokens, health.foreign_block_tokens
        if foreign is not None:
            return f"events tell blocks of {foreign} and of {reported} tokens; only one is followed"
        if reported is None or around.block_tokens in {None, reported}:
            return None
        return (
            f"events tell blocks of {reported} tokens, metrics {around.block_tokens}; "
            f"is {self._source.address} this engine's address?"
        )

    def _groups(self, health: FeedHealth) -> str | None:
        if health.unsupported_groups < _SOME or health.unsupported_groups < health.stored_events:
            return None
        return (
            "all events are of layers that don't keep whole prefixes (sliding window or state "
            "space): nothing can be known of this model's prefixes"
        )

    def _parents(self, health: FeedHealth) -> str | None:
        stored = health.stored_events - self._stored
        unknown = health.unknown_parents - self._unknown
        if stored >= _SOME:
            self._stored, self._unknown = health.stored_events, health.unknown_parents
            self._parents_unknown = unknown * 2 > stored
        if not self._parents_unknown:
            return None
        return (
            "most events continue blocks that were never announced; messages before were missed: "
            "set a replay address, or restart the engine while the gateway runs"
        )

    def _messages_broken(self, health: FeedHealth) -> str | None:
        if not health.undecodable and not health.malformed_events:
            return None
        return "some messages, or events in them, can't be read, so what is known is incomplete"

    def _media(self, health: FeedHealth) -> str | None:
        if not health.unknown_media:
            return None
        names = ", ".join(repr(name) for name in sorted(health.unknown_media))
        return f"unknown media {names}; they count as shared storage"
