"""What is known of one pool at one moment, for a decision about its size.

A signal is one of three things, and the difference matters: a *value* with its time; *stale*,
a value too old to act on; or *missing*, nothing is known. Missing is never zero: a pool whose
metrics are gone is not idle.

`Observation` holds plain numbers and no objects of the brain, so that decisions are pure and can
be replayed; `endpoints.scaling.collector` makes them from the router and its fleet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import isfinite
from typing import Final

from endpoints.scaling.role import Role

ABSURD: Final = 1e12
"""No signal of ours can be larger: what claims to be is broken, and missing."""


class Standing(Enum):
    """How far a signal can be believed."""

    VALUE = "value"
    STALE = "stale"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Signal:
    """A measured number, when it was measured, and whether that is recent enough.

    Make them with `measured` (or `MISSING`). However it was made, NaN, infinities, negative and
    absurd numbers are never given out.
    """

    standing: Standing
    number: float
    """The value, or the last one when stale; 0 when missing (use `value`)."""
    at: float

    @property
    def value(self) -> float | None:
        """The number when it can be acted on; None when it is stale or missing."""
        return self.last if self.standing is Standing.VALUE else None

    @property
    def last(self) -> float | None:
        """The number when there ever was one, however old."""
        if self.standing is Standing.MISSING or not 0.0 <= self.number <= ABSURD:
            return None
        return self.number

    def or_else(self, otherwise: float) -> float:
        """The value, or ``otherwise`` when there is none to act on."""
        value = self.value
        return otherwise if value is None else value


MISSING: Final = Signal(Standing.MISSING, 0.0, 0.0)
"""Nothing is known."""


def measured(
    number: float | None, at: float, now: float, fresh_seconds: float, most: float = ABSURD
) -> Signal:
    """A signal from a number that was measured at ``at``: stale when older than that, or missing.

    Missing as well: None, NaN, infinities, negative numbers, and numbers above ``most``. One that
    claims to be from the future is of now.
    """
    if number is None or not isfinite(number) or not 0.0 <= number <= most or not isfinite(at):
        return MISSING
    fresh = now - at <= fresh_seconds
    return Signal(Standing.VALUE if fresh else Standing.STALE, float(number), min(at, now))


@dataclass(frozen=True, slots=True)
class Replicas:
    """The endpoints of one role, by what they are doing. Each is counted once.

    ``ready`` get requests; ``starting`` run and load; ``pending`` wait for a machine;
    ``failing`` run and don't become (or stay) well; ``draining`` finish what they have and go.
    ``target`` is what the scale target's specification says now; None when it couldn't be read.
    ``oldest_pending`` and ``oldest_starting`` are ages in seconds; 0 without any.
    """

    ready: int = 0
    starting: int = 0
    pending: int = 0
    failing: int = 0
    draining: int = 0
    target: int | None = None
    oldest_pending: float = 0.0
    oldest_starting: float = 0.0

    @property
    def coming(self) -> int:
        """Asked for and not there yet."""
        return self.starting + self.pending

    @property
    def present(self) -> int:
        """All that aren't leaving: the size of the pool as it is, or as it will soon be."""
        return self.ready + self.starting + self.pending + self.failing


@dataclass(frozen=True, slots=True)
class EndpointSample:
    """One ready endpoint: what rules that look at each one want to know.

    ``queued_tokens``, ``context_tokens`` and ``decoding`` are of the gateway's own books;
    ``waiting``, ``running`` and ``kv_usage`` of a scrape that is fresh, else None, and
    ``waiting_peak`` and ``kv_peak`` the largest of the last minute.
    """

    name: str
    queued_tokens: float
    context_tokens: float
    decoding: float
    waiting: float | None = None
    running: float | None = None
    kv_usage: float | None = None
    waiting_peak: float | None = None
    kv_peak: float | None = None


@dataclass(frozen=True, slots=True)
class RoleObservation:
    """One role at one moment. Times in seconds, rates a second, shares 0..1.

    Sums are over the role's ready endpoints unless a name says otherwise.

    - ``arrival_rate``: requests/s that came for this role, refused ones included;
      ``forecast_rate``: the same, as expected when an endpoint started now would be ready, and
      ``forecast_high``: as it may well be by then, after the errors of the past;
      ``usual_rate``: the median of the past that the settings tell, and ``jumps``: by what share
      it rose above its level while an endpoint starts, in all but a few moments of that past;
      ``jumps_here``: the same, of those moments only that were about as high as it is now;
    - ``prompt_tokens``, ``output_tokens``: means of a request; ``hit_ratio``: of the prompt
      tokens, the share found in a cache; ``own_tokens``: mean prompt tokens to be computed,
      ``own_spread``: their squared coefficient of variation; ``shape_rate``: requests/s over the
      stretch of time that these means are of;
    - ``in_flight``, ``queued_tokens``: requests, and uncached prompt tokens not computed yet;
      ``waiting``: requests that the engines have not begun, ``running``: that they have;
    - ``predicted_ttft``: what a request that came now would wait, by the brain's own models;
      ``ttft``, ``itl``: observed, at the objective's percentile;
    - ``kv_usage``: mean share of KV cache held by live requests, ``kv_peak`` the fullest one's,
      ``kv_known``: the share of the ready endpoints that told it lately;
    - ``preemptions``: sequences thrown out for want of KV room, a second;
    - ``prefill_rate``: learned tokens/s of one endpoint, for prompts as they are;
      ``ttft_fixed``: learned seconds to a first token that don't depend on tokens;
      ``itl_base``, ``itl_slope``, ``itl_context``: learned
      ``ITL = base + slope x batch + context x KV tokens``, and ``itl_tail``: how many times its
      mean the objective's percentile is;
    - ``kv_tokens``: size of one endpoint's KV cache;
    - ``busy``: the share of time in which the accelerator computed, where somebody measures it;
    - ``endpoints``: the ready ones, one by one.
    """

    replicas: Replicas = field(default_factory=Replicas)
    arrival_rate: Signal = MISSING
    forecast_rate: Signal = MISSING
    forecast_high: Signal = MISSING
    usual_rate: Signal = MISSING
    jumps: Signal = MISSING
    jumps_here: Signal = MISSING
    prompt_tokens: Signal = MISSING
    output_tokens: Signal = MISSING
    hit_ratio: Signal = MISSING
    own_tokens: Signal = MISSING
    own_spread: Signal = MISSING
    shape_rate: Signal = MISSING
    in_flight: Signal = MISSING
    queued_tokens: Signal = MISSING
    waiting: Signal = MISSING
    running: Signal = MISSING
    predicted_ttft: Signal = MISSING
    ttft: Signal = MISSING
    itl: Signal = MISSING
    kv_usage: Signal = MISSING
    kv_peak: Signal = MISSING
    kv_known: Signal = MISSING
    preemptions: Signal = MISSING
    prefill_rate: Signal = MISSING
    ttft_fixed: Signal = MISSING
    itl_base: Signal = MISSING
    itl_slope: Signal = MISSING
    itl_context: Signal = MISSING
    itl_tail: Signal = MISSING
    kv_tokens: Signal = MISSING
    busy: Signal = MISSING
    endpoints: tuple[EndpointSample, ...] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """One pool at ``at``. ``held``: requests that the gateway keeps until an endpoint is there.

    ``idle_for``: seconds since the last request came or ended, or since somebody began to look.
    ``wall``: seconds since 1970, for calendars; None: they don't apply.
    """

    pool: str
    at: float
    roles: Mapping[Role, RoleObservation]
    held: int = 0
    idle_for: float = 0.0
    wall: float | None = None

    def role(self, role: Role) -> RoleObservation:
        """What is known of a role; all of it missing when nothing is."""
        return self.roles.get(role, _NOTHING)


_NOTHING: Final = RoleObservation()
