"""The receipt of a decision, and the life of a request that it went with.

        ROUTED ──► SENT ──► DECODING ──► DONE
          ▲ │        │          │
          │ └────────┴──────────┴──► FAILED, ABANDONED
          └── retry ── FAILED ─────► ABANDONED

Reports come from sockets, in any order and sometimes twice. `TRANSITIONS` is the one place
that says which of them count: any other report is late, and ignored.
"""

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from routing.endpoint import EndpointState
from routing.legs import PrefillLeg
from routing.policies.policy import Choice
from routing.prefix.views import ViewTokens
from routing.request import Request


class Phase(Enum):
    """Where a routed request is in its life."""

    __hash__ = object.__hash__  # an Enum's own, in Python, is a cost in every transition

    ROUTED = "routed"  # reserved on its endpoint, nothing sent yet
    SENT = "sent"  # the endpoint has it and works on the prefill
    DECODING = "decoding"  # the first token was seen
    DONE = "done"
    FAILED = "failed"  # this attempt failed; a retry may follow
    ABANDONED = "abandoned"  # the client went away


_ENDS: Final = frozenset({Phase.DONE, Phase.FAILED, Phase.ABANDONED})

TRANSITIONS: Final = MappingProxyType(
    {
        Phase.ROUTED: _ENDS | {Phase.SENT, Phase.DECODING},
        Phase.SENT: _ENDS | {Phase.DECODING},
        Phase.DECODING: _ENDS,
        Phase.FAILED: frozenset({Phase.ROUTED, Phase.ABANDONED}),
        Phase.DONE: frozenset[Phase](),
        Phase.ABANDONED: frozenset[Phase](),
    }
)
"""Phase -> the phases that may follow it."""


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that failed: where, when and why."""

    endpoint: str
    at: float
    reason: str
    refused: bool


class Decision:
    """Where a request goes, why, and what became of it. Times are the caller's ``now``.

    Token counts that an engine reported are None until and unless it reports them.
    """

    __slots__ = (
        "arrived_at",
        "at",
        "attempt",
        "attempts",
        "choices",
        "context_with",
        "decoding_with",
        "finished_at",
        "first_token_at",
        "output_tokens",
        "own_tokens",
        "phase",
        "policy",
        "prefill",
        "prefill_attempts",
        "prefill_context",
        "prefill_tokens",
        "prefilled_before",
        "prompt_tokens",
        "reported_cached_tokens",
        "reported_completion_tokens",
        "reported_prompt_tokens",
        "request",
        "retry_denied",
        "sent_at",
        "split_reason",
        "views",
    )

    def __init__(
        self,
        request: Request,
        policy: str,
        at: float,
        choices: list[Choice],
        prompt_tokens: float,
        output_tokens: int,
    ) -> None:
        self.request = request
        self.policy = policy
        self.at = at
        self.arrived_at = at
        """When it came; before ``at`` when it had to wait for an endpoint with room."""
        self.choices = choices
        self.prompt_tokens = prompt_tokens
        """Tokens of all prompts together, as expected when deciding."""
        self.output_tokens = output_tokens
        """Tokens expected to be produced."""
        self.attempt = 0
        """Index of the current choice."""
        self.phase = Phase.ROUTED
        self.own_tokens = 0
        """Its own uncached tokens, as expected when it was reserved."""
        self.prefill_tokens = 0.0
        """Uncached tokens ahead of the current attempt and its own, when it was reserved."""
        self.prefill_context = 0.0
        """The tokens that stand before each of these, summed up."""
        self.sent_at: float | None = None
        self.first_token_at: float | None = None
        self.finished_at: float | None = None
        self.decoding_with = 0
        """Sequences decoding on the endpoint when the first token came, this one included."""
        self.context_with = 0
        """Tokens of all contexts on the endpoint then."""
        self.prefilled_before = 0.0
        """Prompt tokens that the endpoint had computed by then, ever."""
        self.views: list[ViewTokens] | None = None
        """What each view said, by rank; None: only the approximate one had a say."""
        self.reported_prompt_tokens: int | None = None
        self.reported_cached_tokens: int | None = None
        self.reported_completion_tokens: int | None = None
        self.attempts: list[FailedAttempt] = []
        """What failed so far."""
        self.retry_denied: str | None = None
        """Why the last failure was not retried although another endpoint was there."""
        self.prefill: PrefillLeg | None = None
        """Who computes the prompt for the current endpoint; None: it does so itself."""
        self.prefill_attempts: list[FailedAttempt] = []
        """What failed so far of prefill legs."""
        self.split_reason = ""
        """Why it was split or not, by `SplitReason`; empty where nobody computes for others."""

    @property
    def choice(self) -> Choice:
        """The current choice."""
        return self.choices[self.attempt]

    @property
    def endpoint(self) -> EndpointState:
        """The endpoint the request is on, or was last."""
        return self.choices[self.attempt].endpoint

    @property
    def predicted_cached_tokens(self) -> float:
        """Prompt tokens believed to be cached on the current endpoint when deciding."""
        return self.choices[self.attempt].cached_tokens

    @property
    def split(self) -> bool:
        """Whether the current endpoint gets its KV cache from another one, or is to get it."""
        leg = self.prefill
        return leg is not None and leg.attempt == self.attempt and not leg.given_up

    @property
    def outcome(self) -> str | None:
        """How it ended (``done``, ``failed``, ``abandoned``); None while in flight."""
        return self.phase.value if self.phase in _ENDS else None

    def enter(self, phase: Phase) -> bool:
        """Move to ``phase`` if it may follow the current one; False (and no change) if not."""
        if phase not in TRANSITIONS[self.phase]:
            return False
        self.phase = phase
        return True


class RejectionKind(Enum):
    """Why no endpoint could be chosen."""

    UNKNOWN_MODEL = "unknown_model"
    NO_ENDPOINT = "no_endpoint"
    OVERLOADED = "overloaded"


@dataclass(frozen=True, slots=True)
class Rejection:
    """No endpoint for a request: why, in words for people, and when to come again (seconds)."""

    kind: RejectionKind
    message: str
    retry_after: float | None = None
