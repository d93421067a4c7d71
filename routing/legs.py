"""The prefill leg of a split request: who computes the prompt for whoever decodes, and its life.

        PLANNED ──► SENT ──► DONE
           │          │        │ KV lies there until it is read, or its lease ends
           │          │        └──► FAILED     it could not be read
           │          └──► FAILED, SKIPPED     the decode endpoint computes the prompt itself,
           └─────────────► FAILED, SKIPPED     or `Router.replan_prefill` finds another one

As for decisions, `LEG_TRANSITIONS` is the one place that says which reports count: any other one
is late, and ignored. FAILED blames the endpoint (as far as the report does), SKIPPED nobody.
"""

from enum import Enum
from types import MappingProxyType
from typing import Final

from routing.endpoint import EndpointState


class LegPhase(Enum):
    """Where a prefill leg is in its life."""

    __hash__ = object.__hash__

    PLANNED = "planned"  # reserved on its endpoint, nothing sent yet
    SENT = "sent"  # the endpoint computes
    DONE = "done"  # the KV cache is there to be read
    FAILED = "failed"
    SKIPPED = "skipped"  # given up before or while it ran: nobody's fault


_GIVEN_UP: Final = frozenset({LegPhase.FAILED, LegPhase.SKIPPED})

LEG_TRANSITIONS: Final = MappingProxyType(
    {
        LegPhase.PLANNED: _GIVEN_UP | {LegPhase.SENT, LegPhase.DONE},
        LegPhase.SENT: _GIVEN_UP | {LegPhase.DONE},
        LegPhase.DONE: frozenset({LegPhase.FAILED}),  # its KV could not be read after all
        LegPhase.FAILED: frozenset[LegPhase](),
        LegPhase.SKIPPED: frozenset[LegPhase](),
    }
)
"""Phase -> the phases that may follow it."""


class PrefillLeg:
    """One endpoint that computes a prompt for another one; predictions are those of planning.

    Times are the caller's ``now``, durations seconds. The leg itself is its reservation's key in
    the ledger of its endpoint, so it is given back apart from the decode endpoint's.
    """

    __slots__ = (
        "attempt",
        "cached_tokens",
        "context",
        "decode_sent_at",
        "done_at",
        "endpoint",
        "others",
        "own_tokens",
        "phase",
        "prefill_context",
        "prefill_tokens",
        "prompt_tokens",
        "reason",
        "reported_cached_tokens",
        "reported_prompt_tokens",
        "seconds",
        "sent_at",
        "stranded_until",
        "transfer_bytes",
        "transfer_observed",
        "transfer_seconds",
        "transfer_tokens",
        "uncached_tokens",
    )

    def __init__(
        self,
        endpoint: EndpointState,
        prompt_tokens: float,
        cached_tokens: float,
        seconds: float,
        transfer_tokens: float,
        transfer_bytes: float,
        transfer_seconds: float,
        others: tuple[EndpointState, ...] = (),
        attempt: int = 0,
    ) -> None:
        self.endpoint = endpoint
        self.attempt = attempt
        """Index of the decision's choice that it computes for: no other one may read its KV."""
        self.phase = LegPhase.PLANNED
        self.prompt_tokens = prompt_tokens
        self.cached_tokens = cached_tokens
        """Prompt tokens in its cache, as the views say, before any doubt in them."""
        cached = cached_tokens * endpoint.trust.share
        self.uncached_tokens = max(prompt_tokens - cached, 0.0)
        """Prompt tokens that it is expected to compute."""
        self.own_tokens = max(round(prompt_tokens - cached), 0)
        """The same, as the ledger books them."""
        self.context = max(round((prompt_tokens * prompt_tokens - cached * cached) / 2.0), 0)
        """The tokens that stand before each of these, summed up."""
        self.seconds = seconds
        """Predicted from sending to the end of the prefill, its queue included."""
        self.transfer_tokens = transfer_tokens
        """Tokens whose KV the decode endpoint reads: those that it does not hold itself."""
        self.transfer_bytes = transfer_bytes
        self.transfer_seconds = transfer_seconds
        """Predicted."""
        self.others = others
        """Endpoints that would have done nearly as well, best first: for `replan_prefill`."""
        self.prefill_tokens = 0.0
        """Uncached tokens ahead and its own, when it was reserved."""
        self.prefill_context = 0.0
        self.sent_at: float | None = None
        self.done_at: float | None = None
        self.decode_sent_at: float | None = None
        """When the decode leg went out."""
        self.reported_prompt_tokens: int | None = None
        self.reported_cached_tokens: int | None = None
        self.transfer_observed: tuple[float, float] | None = None
        """Bytes and seconds of the transfer; None until it is over."""
        self.stranded_until: float | None = None
        """Until when KV that nobody will read is pinned there; None: it is not."""
        self.reason: str | None = None
        """Why it failed or was given up."""

    @property
    def name(self) -> str:
        """Its endpoint's."""
        return self.endpoint.name

    @property
    def url(self) -> str:
        """Its endpoint's."""
        return self.endpoint.endpoint.url

    @property
    def in_flight(self) -> bool:
        """Whether its endpoint still has to compute: it holds a reservation there."""
        return self.phase is LegPhase.PLANNED or self.phase is LegPhase.SENT

    @property
    def given_up(self) -> bool:
        """Whether it failed or was skipped: the decode endpoint computes the prompt."""
        return self.phase in _GIVEN_UP

    def enter(self, phase: LegPhase) -> bool:
        """Move to ``phase`` if it may follow the current one; False (and no change) if not."""
        if phase not in LEG_TRANSITIONS[self.phase]:
            return False
        self.phase = phase
        return True
