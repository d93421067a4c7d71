"""NVIDIA Dynamo's KV router: prefill and decode in blocks."""

from random import Random
from typing import ClassVar

from routing.policies.policy import Choice, Slate
from routing.request import Request
from routing.scores import at_least, best_places, lead_with, random_ties, softmax_place


class DynamoCost:
    """The lowest cost in KV blocks.

        cost = prefill_load_scale x prefill + decode
        prefill = (uncached tokens in prefill there + ours that are not cached there) / block
        decode = (tokens of all requests in flight there + our prompt) / block

    Everything in flight is counted by our own ledger, at once; tokens leave the prefill term
    with the first token and the decode term with the last. block is the slate's block.

    Parameters: prefill_load_scale (1.0; called overlap_score_weight in releases that price the
    whole prefill term with it); temperature (0): above 0 the first choice is drawn with
    probability exp(-(cost - least) / (range of the costs x temperature)); seed (0), for that
    draw and between equal costs. The fallbacks are the lowest costs.

    Source: NVIDIA Dynamo, lib/kv-router/src/scheduling/selector (default.rs and mod.rs at
    07a6c9c), with overlap_score_credit 1 and without lower cache tiers, where both forms of
    the formula agree. Differences: Dynamo counts a block that several active requests share
    once, the ledger counts it for each; its blocks are the engine's; it rounds up.
    """

    name: ClassVar[str] = "dynamo_cost"

    def __init__(
        self, prefill_load_scale: float = 1.0, temperature: float = 0.0, seed: int = 0
    ) -> None:
        at_least("prefill_load_scale", prefill_load_scale, 0.0)
        at_least("temperature", temperature, 0.0)
        self._scale = prefill_load_scale
        self._temperature = temperature
        self._random = Random(seed)

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """Rank by cost."""
        endpoints, prompt = slate.endpoints, slate.prompt_tokens
        per_block = 1.0 / slate.block_tokens
        prefills: list[float] = []
        decodes: list[float] = []
        costs: list[float] = []
        for state in endpoints:
            ledger = state.ledger
            ledger.advance(now)
            own = prompt - slate.cached_tokens(state)
            prefill = (ledger.prefill_tokens + own) * per_block
            decode = (ledger.context_tokens + prompt) * per_block
            prefills.append(prefill)
            decodes.append(decode)
            costs.append(self._scale * prefill + decode)
        ranked = best_places(costs, random_ties(self._random, len(costs)), count)
        if self._temperature > 0.0:
            drawn = softmax_place(costs, self._temperature, self._random.random())
            ranked = lead_with(drawn, ranked, count)
        return [
            Choice(
                endpoint=(state := endpoints[place]),
                score=costs[place],
                cached_tokens=slate.cached_tokens(state),
                predicted_ttft=None,
                explanation="{:.1f} blocks: {:.1f} to prefill, {:.1f} in flight",
                facts=(costs[place], prefills[place], decodes[place]),
            )
            for place in ranked
        ]
