"""What a router's requests were like, added up: what the pool's size is decided from.

A router without one pays a comparison a request. Everything is O(1) a request and bounded.
Sums only ever grow; whoever wants rates takes differences.
"""

from collections import deque
from typing import Final

from routing.decision import Decision
from routing.prediction import observed_itl

MOST_TIMES: Final = 4_096
"""Observed times kept for their distribution; older ones make room."""


class Traffic:
    """Totals since the start, and the latest observed times."""

    __slots__ = (
        "arrivals",
        "cached_tokens",
        "completed",
        "ended",
        "failed",
        "gaps",
        "held",
        "last_at",
        "output_tokens",
        "own_context",
        "own_squares",
        "own_tokens",
        "prompt_tokens",
        "refused",
        "reported_prompt_tokens",
        "routed",
        "waits",
    )

    def __init__(self) -> None:
        self.arrivals = 0
        """Requests that came, refused ones included."""
        self.refused = 0
        """Requests for which there was no endpoint, or none in time."""
        self.held = 0
        """Requests that wait in the gateway now, since no endpoint has room."""
        self.routed = 0
        """Requests that got an endpoint."""
        self.prompt_tokens = 0.0
        """Of the routed ones."""
        self.own_tokens = 0.0
        """Prompt tokens of the routed ones that were taken to be in no cache."""
        self.own_squares = 0.0
        """Their squares, for how far they spread."""
        self.own_context = 0.0
        """The tokens that stand before each of them, summed up."""
        self.completed = 0
        """Answers that ended well and whose tokens were counted."""
        self.output_tokens = 0.0
        """Tokens of those answers."""
        self.reported_prompt_tokens = 0.0
        """Prompt tokens of requests whose engine told how many it found cached."""
        self.cached_tokens = 0.0
        """And how many of them it found."""
        self.ended = 0
        """Attempts that ended, in whatever way."""
        self.failed = 0
        """Attempts that failed."""
        self.last_at = -1.0
        """When a request last came or ended; below 0 when none ever did."""
        self.waits: deque[tuple[float, float]] = deque(maxlen=MOST_TIMES)
        """(when, seconds from arrival to the first token) of streamed answers."""
        self.gaps: deque[tuple[float, float]] = deque(maxlen=MOST_TIMES)
        """(when, mean seconds between two tokens) of streamed answers."""

    def refuse(self, now: float) -> None:
        """A request came for which there is no endpoint."""
        self.arrivals += 1
        self.refused += 1
        self.last_at = now

    def hold(self, now: float) -> None:
        """A request came that has to wait until an endpoint has room."""
        self.arrivals += 1
        self.held += 1
        self.last_at = now

    def let_go(self, now: float, *, refused: bool) -> None:
        """It waits no more. ``refused``: it is not routed either."""
        self.held = max(self.held - 1, 0)  # it may have come before anybody counted
        self.refused += refused
        self.last_at = now

    def route(self, decision: Decision, now: float) -> None:
        """A request was routed; its load is reserved."""
        if decision.arrived_at == decision.at:  # one that was held has been counted
            self.arrivals += 1
        self.routed += 1
        self.last_at = now
        prompt, own = decision.prompt_tokens, float(decision.own_tokens)
        cached = max(prompt - own, 0.0)
        self.prompt_tokens += prompt
        self.own_tokens += own
        self.own_squares += own * own
        self.own_context += max(prompt * prompt - cached * cached, 0.0) / 2.0

    def begin(self, decision: Decision, now: float) -> None:
        """The first token came."""
        if decision.request.streamed:
            self.waits.append((now, now - decision.arrived_at))

    def finish(self, decision: Decision, now: float) -> None:
        """The answer is complete; the engine's counts stand in the decision."""
        self.ended += 1
        self.last_at = now
        tokens = decision.reported_completion_tokens
        if tokens is not None:
            self.completed += 1
            self.output_tokens += tokens
        prompt, cached = decision.reported_prompt_tokens, decision.reported_cached_tokens
        if prompt is not None and cached is not None:
            self.reported_prompt_tokens += prompt
            self.cached_tokens += cached
        gap = observed_itl(decision)
        if gap is not None:
            self.gaps.append((now, gap))

    def fail(self, now: float) -> None:
        """An attempt failed."""
        self.ended += 1
        self.failed += 1
        self.last_at = now
