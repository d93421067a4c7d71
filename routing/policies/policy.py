"""The contract of a policy: rank the endpoints that may take a request."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from routing.endpoint import EndpointState
from routing.loads import Group
from routing.prefix.match import Match
from routing.request import Request


@dataclass(slots=True)
class Slate:
    """The candidates for one request and what is known about each of them for it.

    A policy may simply go through ``endpoints``. One that must not slow down with the fleet
    sweeps the columns of ``group.table`` instead and looks at a few endpoints only.
    """

    group: Group
    """Endpoints that serve the request's model and may be chosen; never empty."""
    held: Match
    """How many leading blocks of the prompt each of them is believed to have in its cache."""
    block_tokens: float
    """Tokens in a block, as expected for this model's text."""
    prompt_tokens: float
    """Tokens of all prompts of the request together."""
    output_tokens: int
    """Tokens the request is expected to produce."""
    ttft_target: float = 2.0
    """Seconds in which the request's first token should come."""
    itl_target: float = 0.050
    """Seconds in which each further token should come."""

    @property
    def endpoints(self) -> Sequence[EndpointState]:
        """All candidates."""
        return self.group.endpoints

    def tokens(self, blocks: float) -> float:
        """Prompt tokens that ``blocks`` cached blocks save: an engine computes at least one."""
        tokens = blocks * self.block_tokens
        most = self.prompt_tokens - 1.0
        return tokens if tokens < most else max(most, 0.0)

    def cached_tokens(self, state: EndpointState) -> float:
        """Prompt tokens believed to be in the endpoint's cache."""
        blocks = self.held.blocks(state.name)
        return self.tokens(blocks) if blocks else 0.0


@dataclass(slots=True, eq=False)
class Choice:
    """One ranked candidate and why it stands where it stands."""

    endpoint: EndpointState
    score: float
    """Lower is better; the unit is the policy's own."""
    cached_tokens: float
    """Prompt tokens that the views say are in the endpoint's cache, before any doubt in them."""
    predicted_ttft: float | None
    """Predicted seconds to the first token; None when the policy predicts no time."""
    explanation: str
    """Format string of the reason, over ``facts``."""
    facts: tuple[object, ...] = ()
    """What the policy saw when it chose: numbers and names, never anything that changes."""

    @property
    def reason(self) -> str:
        """Why, for people. Put into words only when somebody looks."""
        return self.explanation.format(*self.facts)


class Policy(Protocol):
    """Ranks candidates. May keep small state of its own (a counter, a random generator)."""

    @property
    def name(self) -> str:
        """The name users choose it by."""

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """The best ``count`` candidates, best first, each at most once; fewer when fewer exist."""
