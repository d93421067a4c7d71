"""llm-d with its precise prefix cache: a weighted sum over what engines report to hold."""

from random import Random
from typing import ClassVar

from routing.policies.policy import Choice, Slate
from routing.request import Request
from routing.scores import best_places, prompt_blocks, random_ties
from routing.weighted import ScoreWeights, kv_usage, waiting, weighted_scores


class LlmdPrecise:
    """The highest weighted sum of prefix match, short queue and free KV cache.

    The formula is that of `routing.weighted`; its prefix share is the leading blocks that the
    gateway's index says are held / the prompt's blocks. So it is as precise as that index:
    exact where engines report their caches, else what was sent there. Queue and KV usage are
    those of the last scrape. Equal totals are shuffled. Score: minus the total.

    Parameters: weights (prefix 3, queue 2, kv 2); seed (0).

    Source: llm-d's scheduler with ``precise-prefix-cache-scorer`` and ``max-score-picker``;
    the weights are those of its published benchmark (its sample configuration has 2, 1, 1).
    A block in any tier counts fully here, where the original counts one in CPU memory 0.8.
    """

    name: ClassVar[str] = "llmd_precise"

    def __init__(self, weights: ScoreWeights | None = None, seed: int = 0) -> None:
        self._weights = weights or ScoreWeights()
        self._random = Random(seed)

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """Rank by the weighted sum."""
        endpoints, held = slate.endpoints, slate.held
        per_block = 1.0 / max(prompt_blocks(request), 1)
        shares = [held.blocks(state.name) * per_block for state in endpoints]
        totals = weighted_scores(endpoints, shares, self._weights)
        scores = [-total for total in totals]
        return [
            Choice(
                endpoint=(state := endpoints[place]),
                score=scores[place],
                cached_tokens=slate.cached_tokens(state),
                predicted_ttft=None,
                explanation="{:.3f}: {:.0%} of the prompt held, {:g} waiting, {:.0%} KV used",
                facts=(totals[place], shares[place], waiting(state), kv_usage(state)),
            )
            for place in best_places(scores, random_ties(self._random, len(scores)), count)
        ]
