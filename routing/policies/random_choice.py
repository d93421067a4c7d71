"""Any endpoint, by chance."""

from random import Random
from typing import ClassVar

from routing.policies.policy import Choice, Slate
from routing.request import Request


class RandomChoice:
    """Each order of the candidates is equally likely.

    Score: the place in the draw. Parameters: seed (0) of the random generator. Source:
    folklore; ``random`` in SGLang's and vLLM's routers and in AIBrix.
    """

    name: ClassVar[str] = "random"

    def __init__(self, seed: int = 0) -> None:
        self._random = Random(seed)

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """Rank by a draw without replacement."""
        size = len(slate.endpoints)
        drawn = self._random.sample(range(size), min(count, size))
        return [
            Choice(
                endpoint=(state := slate.endpoints[place]),
                score=float(rank),
                cached_tokens=slate.cached_tokens(state),
                predicted_ttft=None,
                explanation="drawn as number {} of {}",
                facts=(rank + 1, size),
            )
            for rank, place in enumerate(drawn)
        ]
