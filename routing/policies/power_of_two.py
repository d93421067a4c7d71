"""The better of two endpoints drawn at random."""

from random import Random
from typing import ClassVar

from routing.endpoint import EndpointState
from routing.policies.policy import Choice, Slate
from routing.request import Request


class PowerOfTwo:
    """Draw two endpoints, take the one with fewer requests in flight.

    Score: requests in flight as in least_request. The fallbacks are drawn in pairs too, from
    those that are left. Parameters: the random generator. Source: Mitzenmacher, "The power of
    two choices in randomized load balancing" (2001).
    """

    name: ClassVar[str] = "power_of_two"

    def __init__(self, random: Random) -> None:
        self._random = random

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """Rank by repeated draws of two."""
        drawn = self._random.sample(
            range(len(slate.endpoints)), min(count + 1, len(slate.endpoints))
        )
        ranked: list[Choice] = []
        rest = [slate.endpoints[place] for place in drawn]
        while rest and len(ranked) < count:
            pair = rest[:2]
            state = min(pair, key=_requests)
            rest.remove(state)
            ranked.append(
                Choice(
                    endpoint=state,
                    score=_requests(state),
                    cached_tokens=slate.cached_tokens(state),
                    predicted_ttft=None,
                    explanation="{:g} requests in flight, of {}" + " and {}" * (len(pair) - 1),
                    facts=(_requests(state), *(other.name for other in pair)),
                )
            )
        return ranked


def _requests(state: EndpointState) -> float:
    return state.ledger.requests + state.foreign_waiting + state.foreign_running
