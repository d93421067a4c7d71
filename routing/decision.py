"""The receipt of a decision, and the life of a request that it went with.

        ROUTED ──► SENT ──► DECODING ──► DONE
          ▲ │        │          │
          │ └────────┴──────────┴──► FAILED, ABANDONED
          └── retry ── FAILED ─────► ABANDONED

Reports come from sockets, in any order and sometimes twice. `TRANSITIONS` is the one place
that says which of them count: any other report is late, and ignored.
"""

from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from routing.endpoint import EndpointState
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


_ENDS = frozenset({Phase.DONE, Phase.FAILED, Phase.ABANDONED})

TRANSITIONS = MappingProxyType(
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


@dataclass(eq=False, slots=True)
class Decision:
    """Where a request goes, why, and what became of it. Times are the caller's ``now``.

    Token counts that an engine reported are None until and unless it reports them.
    """

    request: Request
    policy: str
    at: float
    choices: list[Choice]
    prompt_tokens: float
    """Tokens of all prompts together, as expected when deciding."""
    output_tokens: int
    """Tokens expected to be produced."""
    attempt: int = 0
    """Index of the current choice."""
    phase: Phase = Phase.ROUTED
    own_tokens: int = 0
    """Its own uncached tokens, as expected when it was reserved."""
    prefill_tokens: float = 0.0
    """Uncached tokens ahead of the current attempt and its own, when it was reserved."""
    prefill_context: float = 0.0
    """The tokens that stand before each of these, summed up."""
    sent_at: float | None = None
    first_token_at: float | None = None
    finished_at: float | None = None
    decoding_with: int = 0
    """Sequences decoding on the endpoint when the first token came, this one included."""
    context_with: int = 0
    """Tokens of all contexts on the endpoint then."""
    prefilled_before: float = 0.0
    """Prompt tokens that the endpoint had computed by then, ever."""
    views: list[ViewTokens] | None = None
    """For each of ``choices``, what each view said; None: only the approximate one had a say."""
    reported_prompt_tokens: int | None = None
    reported_cached_tokens: int | None = None
    reported_completion_tokens: int | None = None
    attempts: list[FailedAttempt] = field(default_factory=list)
    """What failed so far."""
    retry_denied: str | None = None
    """Why the last failure was not retried although another endpoint was there."""

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
