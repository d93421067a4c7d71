"""Each endpoint in its turn, whatever it has to do."""

from typing import ClassVar

from routing.policies.policy import Choice, Slate
from routing.request import Request


class RoundRobin:
    """The n-th request goes to endpoint n modulo the number of candidates.

    Score: the place in the rotation (0 is next). Parameters: none. The fallbacks are the
    endpoints that follow. One counter serves all models, so models that are asked for in
    a regular alternation may see an uneven rotation. Source: folklore; the default of most
    proxies.
    """

    name: ClassVar[str] = "round_robin"

    def __init__(self) -> None:
        self._turn = 0

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """Rank by the rotation."""
        size = len(slate.endpoints)
        start = self._turn % size
        self._turn += 1
        ranked = [slate.endpoints[(start + place) % size] for place in range(min(count, size))]
        return [
            Choice(
                endpoint=state,
                score=float(place),
                cached_tokens=slate.cached_tokens(state),
                predicted_ttft=None,
                explanation="{} after the next in turn" if place else "next in turn",
                facts=(place,),
            )
            for place, state in enumerate(ranked)
        ]
