"""The contract of a policy: rank the endpoints that may take a request."""

from collections.abc import Sequence
from typing import Protocol

from routing.endpoint import EndpointState
from routing.loads import Group
from routing.prefix.match import Match
from routing.request import Request


class Slate:
    """The candidates for one request and what is known about each of them for it.

    A policy may simply go through ``endpoints``. One that must not slow down with the fleet
    sweeps the columns of ``group.table`` instead and looks at a few endpoints only.
    """

    __slots__ = (
        "block_tokens",
        "group",
        "held",
        "itl_target",
        "output_tokens",
        "prompt_tokens",
        "ttft_target",
    )

    def __init__(
        self,
        group: Group,
        held: Match,
        block_tokens: float,
        prompt_tokens: float,
        output_tokens: int,
        ttft_target: float = 2.0,
        itl_target: float = 0.050,
    ) -> None:
        self.group = group
        """Endpoints that serve the request's model and may be chosen; never empty."""
        self.held = held
        """How many leading blocks of the prompt each of them is believed to have in its cache."""
        self.block_tokens = block_tokens
        """Tokens in a block, as expected for this model's text."""
        self.prompt_tokens = prompt_tokens
        """Tokens of all prompts of the request together."""
        self.output_tokens = output_tokens
        """Tokens the request is expected to produce."""
        self.ttft_target = ttft_target
        """Seconds in which the request's first token should come."""
        self.itl_target = itl_target
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


class Choice:
    """One ranked candidate and why it stands where it stands."""

    __slots__ = ("cached_tokens", "endpoint", "explanation", "facts", "predicted_ttft", "score")

    def __init__(
        self,
        endpoint: EndpointState,
        score: float,
        cached_tokens: float,
        predicted_ttft: float | None,
        explanation: str,
        facts: tuple[object, ...] = (),
    ) -> None:
        self.endpoint = endpoint
        self.score = score
        """Lower is better; the unit is the policy's own."""
        self.cached_tokens = cached_tokens
        """Prompt tokens in the endpoint's cache, as the views say, before any doubt in them."""
        self.predicted_ttft = predicted_ttft
        """Predicted seconds to the first token; None when the policy predicts no time."""
        self.explanation = explanation
        """Format string of the reason, over ``facts`` and what this ``choice`` itself says."""
        self.facts = facts
        """What the policy saw when it chose: numbers and names, never anything that changes."""

    @property
    def reason(self) -> str:
        """Why, for people. Put into words only when somebody looks."""
        return self.explanation.format(*self.facts, choice=self)


class Policy(Protocol):
    """Ranks candidates. May keep small state of its own (a counter, a random generator)."""

    @property
    def name(self) -> str:
        """The name users choose it by."""

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """The best ``count`` candidates, best first, each at most once; fewer when fewer exist."""
