"""What a decision may know about one endpoint: what it is, how it does, what we sent there.

Three kinds of knowledge, kept apart because they fail in different ways:

- *identity* (`Endpoint`): given by discovery, immutable;
- *observations* (`Load`, models, health): scraped, always with the time they were taken;
  ``None`` means the engine does not tell, which is neither zero nor stale;
- the *ledger*: what this gateway sent and is not done yet, exact and immediate;
- the *breaker*: whether what it sent there lately ended well.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Final

from routing.breaker import Breaker, BreakerSettings
from routing.latency import Timing
from routing.ledger import Ledger
from routing.marks import Mark
from routing.pinned import Pinned
from routing.roles import BOTH, CONNECTOR_LABELS, ENCODE, PREFILL, told_role
from routing.trust import Trust

SCRAPE_FRESH_SECONDS: Final = 5.0
"""A scrape older than this says nothing about the queue of now."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model server as discovery names it.

    ``models`` and ``cache_tokens`` override what probes would find out; ``engine`` is
    detected when None. ``labels`` are for people and for later topology rules; endpoints with
    the same ``hardware`` label share what is learned about their speed.
    """

    name: str
    url: str
    engine: str | None = None
    models: tuple[str, ...] | None = None
    cache_tokens: int | None = None
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def hardware(self) -> str:
        """The label of that name; empty when there is none."""
        return dict(self.labels).get("hardware", "")

    @property
    def role(self) -> str:
        """``prefill``, ``decode``, ``both`` (also when no label says) or ``encode``."""
        return told_role(self.labels) or BOTH

    @property
    def prefills(self) -> bool:
        """Whether it may get a prefill leg: a label says that this is a role of its."""
        return told_role(self.labels) in {PREFILL, BOTH}

    @property
    def decodes(self) -> bool:
        """Whether it may get whole requests and decode legs."""
        return self.role not in {PREFILL, ENCODE}

    @property
    def connector(self) -> str:
        """The label that names its KV-transfer protocol; empty when there is none."""
        given = dict(self.labels)
        return next((given[label] for label in CONNECTOR_LABELS if label in given), "")


class Health(Enum):
    """Whether an endpoint may be chosen: only a healthy one may."""

    UNKNOWN = "unknown"  # discovered, no probe has answered yet
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"  # leaving the fleet: finishes what it has, gets nothing new


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model name an endpoint answers to; ``base`` is set for a LoRA adapter."""

    name: str
    base: str | None = None
    max_model_len: int | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """One scrape, in engine-neutral terms; None: not reported.

    ``kv_usage`` is the share (0..1) of the KV cache held by live requests. The prefix
    counters are cumulative tokens since the engine started.
    """

    at: float
    running: float | None = None
    waiting: float | None = None
    kv_usage: float | None = None
    cache_block_tokens: int | None = None
    cache_blocks: int | None = None
    prefix_queried_tokens: float | None = None
    prefix_hit_tokens: float | None = None
    preemptions: float | None = None
    adapters_running: frozenset[str] = frozenset()
    adapters_waiting: frozenset[str] = frozenset()
    max_adapters: int | None = None

    def age(self, now: float) -> float:
        """Seconds since the scrape was taken."""
        return now - self.at

    @property
    def cache_tokens(self) -> int | None:
        """Size of the engine's KV cache in tokens, when the engine tells it."""
        if self.cache_block_tokens is None or self.cache_blocks is None:
            return None
        return self.cache_block_tokens * self.cache_blocks


@dataclass(eq=False, slots=True)
class EndpointState:
    """Everything known about one endpoint now. Identity is the object: it hashes by id."""

    endpoint: Endpoint
    name: str = field(init=False)  # the endpoint's, at hand for loops over the fleet
    health: Health = Health.UNKNOWN
    health_reason: str = "not probed yet"
    health_since: float = 0.0
    answered_at: float = -inf
    """When a request last ended well there."""
    engine: str | None = None
    models: Mapping[str, ServedModel] | None = None  # None: not known yet
    models_at: float | None = None
    load: Load | None = None
    foreign_waiting: float = 0.0  # of `load`: requests waiting there that this gateway didn't send
    foreign_running: float = 0.0
    crowding: float = 0.0
    """Of `load`: the chance that room taken there is missed, 0..1; 0 when it tells no KV usage."""
    ledger: Ledger = field(default_factory=Ledger)
    timing: Timing = field(default_factory=Timing)
    trust: Trust = field(default_factory=Trust)
    """In what is believed to be in its cache."""
    breaker: Breaker = field(default_factory=lambda: Breaker(BreakerSettings(), 0.0))
    prefilled_tokens: int = 0
    """Uncached prompt tokens of ours that it has computed, ever."""
    pinned: Pinned | None = None
    """KV that lies there for nobody, until leases end; None: that never happened."""
    row: int = -1
    """Its row in the fleet's table of loads; -1 outside of a fleet."""

    def __post_init__(self) -> None:
        self.name = self.endpoint.name

    def watch(self, mark: Mark | None) -> None:
        """Have ``mark`` set whenever the ledger or the time models change."""
        self.ledger.mark = self.timing.mark = mark

    @property
    def available(self) -> bool:
        """Whether it may get a request now: it is well, and requests there end well."""
        return self.health is Health.HEALTHY and self.breaker.admits

    @property
    def consecutive_failures(self) -> int:
        """Requests that failed there in a row."""
        return self.breaker.failures_in_a_row

    @property
    def cache_tokens(self) -> int | None:
        """KV cache size in tokens: as configured, else as the engine reports it, else None."""
        if self.endpoint.cache_tokens is not None:
            return self.endpoint.cache_tokens
        return self.load.cache_tokens if self.load else None

    @property
    def room_tokens(self) -> float | None:
        """Tokens of KV cache that no live request held at the last scrape; None: not reported."""
        load, size = self.load, self.cache_tokens
        if load is None or load.kv_usage is None or size is None:
            return None
        return (1.0 - load.kv_usage) * size

    @property
    def answer_tokens(self) -> int:
        """KV cache that our answers fill: what they have so far, and half a block each.

        A sequence's last block is its own while it grows, and half empty on average.
        """
        block = (None if self.load is None else self.load.cache_block_tokens) or 0
        return self.ledger.produced_tokens + self.ledger.decoding * block // 2
