"""The endpoint where the request costs the least time: the default policy."""

from bisect import insort
from operator import itemgetter
from typing import NamedTuple

from routing.endpoint import EndpointState
from routing.policies.policy import Choice, Slate
from routing.request import Request

SCRAPE_FRESH_SECONDS = 5.0
"""A scrape older than this says nothing about the queue of now."""

NEAR_TIE = 0.02
"""Scores this close (relative to the best) are equal: predictions aren't better than that."""

_WIDTH = 8  # candidates kept while scanning; ties are looked for among these


class _Candidate(NamedTuple):
    score: float
    place: int
    ttft: float
    cached: float
    queued: float
    state: EndpointState


_score = itemgetter(0)


class PredictedTime:
    """Seconds until the first token, plus the seconds that the choice costs everybody decoding.

        ttft  = overhead + (queued + own) / rate
        price = ttft_target / itl_target
        score = ttft + price x D x (own / rate / length + 2 x b)

    - queued: uncached prefill tokens ahead of us in the endpoint's ledger, the oldest prefill
      decayed at the learned rate, plus ``foreign_prompt_tokens`` for each request that a fresh
      scrape saw waiting beyond our own;
    - own: our prompt tokens that the endpoint's cache does not hold;
    - overhead (s), rate (tokens/s), b (s per token and decoding sequence): learned there;
    - D: sequences decoding there (the ledger's, plus foreign ones of a fresh scrape);
    - length: output tokens expected of a request.

    Why: our prefill stalls each of the D sequences for own / rate seconds, which is
    own / rate / length more for each of its tokens; and together with D others our tokens
    come b x D later, and one token of each of them b later (hence 2 x b x D). A second of
    token time weighs as much as ``price`` seconds of waiting, because a request that misses
    either target has missed.

    Load and cache live in one unit, so there is no weight between them to tune, and a hot
    prefix spreads by itself as soon as waiting costs more than computing it elsewhere.

    Parameters: ttft_target (s, 2.0) and itl_target (s, 0.050), the objectives whose ratio is
    the price; foreign_prompt_tokens (tokens, 1,000), what an unknown waiting request has to
    compute. Among scores within 2 % the one with more cached tokens wins, then a rotation.
    What our arrival evicts is not priced. Source: our own study of routing policies in
    simulation; the decode term restates the interference that Sarathi-Serve (Agrawal et al.,
    2024) measures.
    """

    name = "predicted_time"

    def __init__(
        self,
        ttft_target: float = 2.0,
        itl_target: float = 0.050,
        foreign_prompt_tokens: float = 1_000.0,
    ) -> None:
        self._price = ttft_target / itl_target
        self._foreign_prompt_tokens = foreign_prompt_tokens
        self._turn = 0

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """Rank by predicted time."""
        best = self._scan(slate, now, max(count, _WIDTH))
        limit = best[0].score * (1.0 + NEAR_TIE)
        first = min(
            (candidate for candidate in best if candidate.score <= limit),
            key=lambda candidate: (-candidate.cached, candidate.place),
        )
        best.remove(first)
        return [_choice(candidate) for candidate in [first, *best[: count - 1]]]

    def _scan(self, slate: Slate, now: float, width: int) -> list[_Candidate]:
        """The ``width`` lowest scores, sorted; equal ones in the order of the rotation."""
        start = self._turn % len(slate.endpoints)
        self._turn += 1
        cached_tokens, prompt = slate.cached_tokens, slate.prompt_tokens
        price = self._price
        per_token = 1.0 / max(slate.output_tokens, 1.0)
        best: list[_Candidate] = []
        worst = float("inf")
        for place, state in enumerate([*slate.endpoints[start:], *slate.endpoints[:start]]):
            ledger, prefill = state.ledger, state.timing.prefill
            slope = prefill.slope
            cached = cached_tokens.get(state.name, 0.0)
            own = prompt - cached
            queued = (
                ledger.queued_prefill_tokens(now, 1.0 / slope) if ledger.prefill_tokens else 0.0
            )
            decoding: float = ledger.decoding
            if state.foreign_waiting or state.foreign_running:
                waiting, running = self._foreign(state, now)
                queued += waiting
                decoding += running
            score = ttft = prefill.fixed + (queued + own) * slope
            if decoding:
                stall = own * slope * per_token + 2.0 * state.timing.decode.slope
                score += price * decoding * stall
            if score < worst:
                insort(best, _Candidate(score, place, ttft, cached, queued, state), key=_score)
                if len(best) > width:
                    best.pop()
                    worst = best[-1].score
        return best

    def _foreign(self, state: EndpointState, now: float) -> tuple[float, float]:
        """Prefill tokens and decoding sequences of others, as far as the scrape is fresh."""
        if state.load is None or state.load.age(now) > SCRAPE_FRESH_SECONDS:
            return 0.0, 0.0
        return state.foreign_waiting * self._foreign_prompt_tokens, state.foreign_running


def _choice(candidate: _Candidate) -> Choice:
    return Choice(
        endpoint=candidate.state,
        score=candidate.score,
        cached_tokens=candidate.cached,
        predicted_ttft=candidate.ttft,
        reason=f"{candidate.score:.3f} s: {candidate.queued:.0f} tokens ahead, "
        f"{candidate.cached:.0f} cached, first token in {candidate.ttft:.3f} s",
    )
