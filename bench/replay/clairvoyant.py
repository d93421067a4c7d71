"""A policy that reads the engines' minds: no rival, but the mark of greedy routing.

It is what placing each request at once where it is cheapest comes to with perfect information.
It is no strict bound: what is best for one request now need not be for those that come next.
"""

from collections.abc import Mapping
from typing import ClassVar

from bench.replay.engine import Engine
from routing.policies.policy import Choice, Slate
from routing.request import Request


class Clairvoyant:
    """Ranks by true times: the engines' own queues, caches, batches and step times.

        ttft  = rest of the step + (queued + own) x prefill time + steps x step time + load time
        itl   = step time with us in the batch
        score = ttft + price x (itl + D x (own x prefill time / length + our part of the step))

    Queued and own tokens are those that the engine will have to compute as its cache is now;
    ``price`` is TTFT target / time per token target, ``length`` the output expected of a request
    (true lengths would be clairvoyance of another kind). Same shape as ``predicted_time``, so
    that the difference between the two is the price of not knowing.
    """

    name: ClassVar[str] = "clairvoyant"

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = engines
        """By endpoint name; the caller replaces one that restarts."""
        self._turn = 0

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """Rank by what is really there."""
        endpoints = slate.endpoints
        start = self._turn % len(endpoints)
        self._turn += 1
        price = slate.ttft_target / slate.itl_target
        chain, prompt = request.chains[0], round(slate.prompt_tokens)
        length = max(slate.output_tokens, 1)
        choices = []
        for place in range(len(endpoints)):
            state = endpoints[(start + place) % len(endpoints)]
            engine = self._engines[state.name]
            timing, scale = engine.settings.timing, engine.time_scale
            cached = engine.matched(chain, prompt)
            own, queued = prompt - cached, engine.prefill_tokens
            decoding, context = engine.decoding, engine.context_tokens
            step = timing.step_base + timing.decode_sequence * decoding
            step += timing.decode_context * context
            each = timing.prefill_token + timing.prefill_context * (cached + prompt) / 2.0
            steps = 1 + (queued + own) // engine.settings.max_batched_tokens
            ttft = (queued * timing.prefill_token + own * each + steps * step) * scale
            ttft += engine.segment.rest(now)
            mine = timing.decode_sequence + timing.decode_context * prompt
            others = decoding * (own * each / length + mine)
            score = ttft + price * scale * (step + mine + others)
            choices.append(
                Choice(state, score, cached, ttft, "{:.3f} s with {} tokens queued", (ttft, queued))
            )
        choices.sort(key=lambda one: one.score)
        return choices[:count]
