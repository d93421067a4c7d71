"""The contract of a policy: rank the endpoints that may take a request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from routing.endpoint import EndpointState
from routing.request import Request


@dataclass(slots=True)
class Slate:
    """The candidates for one request and what is known about each of them for it."""

    endpoints: Sequence[EndpointState]
    """Healthy endpoints that serve the request's model; never empty."""
    cached_tokens: Mapping[str, float]
    """Endpoint name -> prompt tokens believed to be in its cache; absent means none."""
    prompt_tokens: float
    """Tokens of all prompts of the request together."""
    output_tokens: float
    """Tokens the request is expected to produce."""


@dataclass(slots=True)
class Choice:
    """One ranked candidate and why it stands where it stands."""

    endpoint: EndpointState
    score: float
    """Lower is better; the unit is the policy's own."""
    cached_tokens: float
    """Prompt tokens believed to be in the endpoint's cache."""
    predicted_ttft: float | None
    """Predicted seconds to the first token; None when the policy predicts no time."""
    reason: str
    """For people."""


class Policy(Protocol):
    """Ranks candidates. May keep small state of its own (a counter, a random generator)."""

    @property
    def name(self) -> str:
        """The name users choose it by."""

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """The best ``count`` candidates, best first, each at most once; fewer when fewer exist."""
