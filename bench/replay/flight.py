"""One request on its way, from its arrival to whatever became of it."""

from dataclasses import dataclass

from bench.replay.outcome import RequestOutcome
from bench.replay.workload import Arrival
from routing.decision import Decision
from routing.request import Chain


@dataclass(slots=True, eq=False)
class Flight:
    """A request in virtual time; ``at`` is when it came, in seconds."""

    number: int
    arrival: Arrival
    chain: Chain
    at: float
    decision: Decision | None = None
    """None while it is not routed, and for one that was rejected."""
    place: int = -1
    """The endpoint it was last sent to."""
    prefill_place: int = -1
    """The endpoint that computed its prompt for another one; -1: none did."""
    moved_tokens: int = 0
    """Tokens whose KV moved between endpoints."""
    expired: bool = False
    """Its KV was dropped before it was read."""
    cached: int = 0
    first_token_at: float | None = None
    finished_at: float | None = None

    @property
    def routed(self) -> Decision:
        """The decision of a request that was sent somewhere."""
        assert self.decision is not None
        return self.decision

    def outcome(self) -> RequestOutcome:
        """What became of it so far."""
        arrival, decision = self.arrival, self.decision
        return RequestOutcome(
            arrived_at=self.at,
            endpoint=self.place,
            prompt_tokens=arrival.prompt_tokens,
            output_tokens=arrival.output_tokens,
            cached=self.cached,
            predicted_cached=0.0 if decision is None else decision.predicted_cached_tokens,
            predicted_ttft=None if decision is None else decision.choice.predicted_ttft,
            first_token_at=self.first_token_at,
            finished_at=self.finished_at,
            prefill_endpoint=self.prefill_place,
            moved_tokens=self.moved_tokens,
            expired=self.expired,
            split_reason="" if decision is None else decision.split_reason,
        )
