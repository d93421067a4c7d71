"""The endpoint where the request costs the least time: the default policy."""

from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import ClassVar, TypeAlias

from routing.endpoint import SCRAPE_FRESH_SECONDS, EndpointState
from routing.loads import Column, below, lowest
from routing.policies.policy import Choice, Slate
from routing.prefix.match import Match
from routing.request import Request
from routing.reuse import Reuse

NEAR_TIE = 0.02
"""Scores this close, as a share of the best one's time to first token, are equal: predictions
aren't better than that."""

SCORE_ALL = 32
"""Up to this many endpoints each is scored; of more, only those that can be among the best."""

_WIDTH = 8  # candidates kept while scoring; ties are looked for among these
_WIDE_TABLES = 4  # of more prefixes that many hold, all endpoints are scored

_Scored: TypeAlias = tuple[float, int, float, float, float, EndpointState]
"""(score, place in the rotation, ttft, cached tokens, queued tokens, endpoint)."""


class PredictedTime:
    """Seconds until the first token, plus the seconds that the choice costs everybody decoding.

        work  = own / rate + tilt x (prompt^2 - cached^2) / 2
        ttft  = overhead + queued + work + fetched x fetch
        itl   = a + b x (D + 1) + c x (KV + prompt)
        price = pace_share x ttft_target / itl_target
        lost  = room_price x reuse x crowding x (own + length) / rate
        score = ttft + lost + price x (itl + D x ((work + lost) / length + b + c x prompt))

    - queued: seconds of uncached prefill ahead of us in the endpoint's ledger, the oldest one
      less the time that it had the engine for itself, plus those of ``foreign_prompt_tokens`` for
      each request that a fresh scrape saw waiting beyond our own;
    - own: our prompt tokens that the endpoint's cache does not hold, as far as its view is to be
      trusted, less what it fetches from a lower tier where that is faster than computing it;
    - overhead (s), rate (tokens/s), tilt (s for each token before an uncached one, whose attention
      reads it: summed over our own tokens that is the half difference of squares), a (s), b (s per
      token and decoding sequence), c (s per token and KV token read): learned there; fetch
      (s/token): given;
    - D: sequences decoding there (the ledger's, plus foreign ones of a fresh scrape); KV: the
      tokens of their contexts; length: output tokens expected of a request;
    - reuse: how often a token that is computed is found in a cache again (`Reuse`, over all
      endpoints); crowding: the chance that room taken there is missed (the cube of the share
      of KV memory in use at the last scrape; 0 when it does not tell).

    Why: ``itl`` is what our own tokens will take there. Our prefill stalls each of the D others
    for work seconds, spread over its tokens, and then each of these comes b + c x prompt later.
    A second of token time weighs as much as ``price`` seconds of waiting: were both equally near
    to their targets, a request that misses either has missed, and the price would be the ratio
    of the targets. It is a share of that, since the loads of all sequences there are summed up,
    of which most are far from their target; the targets are the request's own where it has any.

    What we compute there, and our answer, takes room from prefixes that others would find: these
    have to be computed again, and stall those who decode as our own prefill does. So ``lost`` is
    paid on what is not cached: where memory is plenty a hot prefix is copied as soon as that
    saves time, where it is scarce it stays at home, and what nobody holds goes where there is
    room. Where nothing is found again (``reuse`` 0) room costs nothing.

    Load and cache live in one unit, so there is no weight between them to tune, and a hot
    prefix spreads by itself as soon as waiting costs more than computing it elsewhere.

    The targets come with the slate: of the request, or of the router (2 s and 50 ms). Parameters:
    pace_share (0.35, by a sweep over 0.25 to 1 on recorded conversations: more buys goodput with
    p90 of the first token, by 2 points and 1 % where the loads are heaviest); room_price (2, by a
    sweep over 1 to 3 on prompts that share prefixes before nearly full engines: more than 1,
    since what is computed again takes room again) and most_reuse (4: above that a share of
    cached tokens says little about those that are evicted next); foreign_prompt_tokens (tokens,
    1,000), what an unknown waiting request has to compute. Among scores within 2 % of the best's
    ttft the one with more cached tokens wins, then a rotation.

    A large fleet is not scored one by one. Seen from a request, an endpoint's score is
    ``base + own x per_token``, and both come for all endpoints in one sweep over the fleet's
    columns. For each number of blocks that somebody holds (0 among them) the endpoints with
    the ``width`` lowest scores *as if holding just that* are contenders, among its holders.
    An endpoint that is no contender has ``width`` others before it that hold at least as much,
    so it is not among the ``width`` best: the ranking is the same as if all had been scored.

    Source: our own study of routing policies in simulation; the decode term restates the
    interference that Sarathi-Serve (Agrawal et al., 2024) measures.
    """

    name: ClassVar[str] = "predicted_time"

    def __init__(
        self,
        pace_share: float = 0.35,
        room_price: float = 2.0,
        most_reuse: float = 4.0,
        foreign_prompt_tokens: float = 1_000.0,
    ) -> None:
        self._pace_share = pace_share
        self._room_price = room_price
        self.reuse = Reuse(most_reuse)
        """How often what is computed is found again."""
        self._foreign_prompt_tokens = foreign_prompt_tokens
        self._turn = 0

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """Rank by predicted time."""
        endpoints = slate.endpoints
        size = len(endpoints)
        start = self._turn % size
        self._turn += 1
        width = max(count, _WIDTH)
        price = self._pace_share * slate.ttft_target / slate.itl_target
        places: Iterable[int] = range(size)
        held = slate.held
        if size > SCORE_ALL and len(held.wide) <= _WIDE_TABLES and held.fetch is None:
            places = self._contenders(slate, now, start, count, price)
        best = self._score(slate, now, start, places, width, price)
        _prefer_cached(best)
        chosen = best[0]
        self.reuse.observe(chosen[3] * chosen[5].trust.share, slate.prompt_tokens)
        return [
            Choice(
                state,
                score,
                cached,
                ttft,
                "{:.3f} s: {:.0f} tokens ahead, {:.0f} cached, first token in {:.3f} s",
                (score, queued, cached, ttft),
            )
            for score, _, ttft, cached, queued, state in best[:count]
        ]

    def _score(
        self,
        slate: Slate,
        now: float,
        start: int,
        places: Iterable[int],
        width: int,
        price: float,
    ) -> list[_Scored]:
        """The ``width`` lowest scores, sorted; equal ones in the order of the rotation."""
        endpoints, prompt = slate.endpoints, slate.prompt_tokens
        size = len(endpoints)
        few, many, fetch = slate.held.few, bool(slate.held.wide), slate.held.fetch
        room = self._room_price * self.reuse.times
        output = float(slate.output_tokens)
        per_token = 1.0 / max(output, 1.0)
        best: list[_Scored] = []
        worst = float("inf")
        for place in places:
            state = endpoints[(start + place) % size]
            ledger, prefill = state.ledger, state.timing.prefill
            slope, tilt = prefill.slope, prefill.tilt
            blocks = few.get(state.name)
            if blocks is None and many:
                blocks = slate.held.blocks(state.name)
            believed = slate.tokens(blocks) if blocks else 0.0
            cached = believed * state.trust.share
            wait = prefill.fixed
            if fetch is not None and state.timing.fetch < slope and state.name in fetch:
                reachable = slate.tokens((blocks or 0.0) + fetch[state.name])
                wait += (reachable - believed) * state.trust.share * state.timing.fetch
                believed = reachable
                cached = believed * state.trust.share
            queued = 0.0
            if ledger.prefill_tokens:
                queued, context = ledger.queued_prefill(now, slope, tilt)
                wait += queued * slope + context * tilt
            decoding = float(ledger.decoding)
            if state.foreign_waiting or state.foreign_running:
                waiting, running = self._foreign(state, now)
                queued += waiting
                wait += waiting * slope
                decoding += running
            work = (prompt - cached) * slope + 0.5 * tilt * (prompt * prompt - cached * cached)
            ttft = wait + work
            lost = room * state.crowding * (prompt - cached + output) * slope
            step = state.timing.decode
            itl = step.fixed + step.slope * (decoding + 1.0)
            itl += step.tilt * (ledger.context_tokens + prompt)
            if decoding:
                delay = (work + lost) * per_token + step.slope + step.tilt * prompt
                itl += decoding * delay
            score = ttft + lost + price * itl
            if score < worst:
                insort(best, (score, place, ttft, believed, queued, state))
                if len(best) > width:
                    best.pop()
                    worst = best[-1][0]
        return best

    def _foreign(self, state: EndpointState, now: float) -> tuple[float, float]:
        """Prefill tokens and decoding sequences of others, as far as the scrape is fresh."""
        if state.load is None or state.load.age(now) > SCRAPE_FRESH_SECONDS:
            return 0.0, 0.0
        return state.foreign_waiting * self._foreign_prompt_tokens, state.foreign_running

    def _contenders(
        self, slate: Slate, now: float, start: int, count: int, price: float
    ) -> list[int]:
        """Places of the ``count`` lowest scores, and of near ties among the ``_WIDTH`` lowest."""
        group, held = slate.group, slate.held
        size, width = len(group.endpoints), max(count, _WIDTH)
        base, per_token, per_square = self._terms(slate, now, start, price)
        contenders: dict[int, float] = {}  # place -> score, at most too high
        places = group.places
        for name, blocks in held.few.items():
            index = places.get(name)
            if index is not None:
                place = (index - start) % size
                cached = slate.tokens(blocks)
                saved = cached * per_token.item(place) + cached * cached * per_square.item(place)
                contenders[place] = base.item(place) - saved
        # Longest first: where an endpoint is found first its score is the lowest. And as
        # scores only rise from one to the next, who has no chance in one has none later.
        chances: list[int] | None = None  # None: everybody has
        for shared, holders in [*held.wide, (0, None)]:
            cached = slate.tokens(shared)
            if chances is None:
                scores = base - cached * per_token - (cached * cached) * per_square
                chances = _below(scores, _limit(contenders, width), 2 * width)
            if chances is not None:
                found = chances
                if holders is not None:
                    found = held.among(found, group.names, start, holders)
            elif holders is None:
                found = lowest(scores, width)
            else:
                found = _lowest_holders(scores, held, holders, group.names, start, width)
            for place in found:
                if place not in contenders:
                    saved = cached * per_token.item(place)
                    saved += cached * cached * per_square.item(place)
                    contenders[place] = base.item(place) - saved
        ranked = sorted(contenders, key=contenders.__getitem__)[:width]
        tie = contenders[ranked[0]] * (1.0 + 1.01 * NEAR_TIE)  # rounding must not cut one off
        return [
            place for rank, place in enumerate(ranked) if rank < count or contenders[place] <= tie
        ]

    def _terms(
        self, slate: Slate, now: float, start: int, price: float
    ) -> tuple[Column, Column, Column]:
        """Scores with nothing cached, and what is saved for each cached token and each squared.

        Of all endpoints, by place in the rotation; savings are discounted by trust.
        """
        table = slate.group.table
        table.refresh(now)
        prompt, per_length = slate.prompt_tokens, price / max(slate.output_tokens, 1.0)
        base = table.wait_seconds(now)
        base += price * table.step_seconds
        base += (price * prompt) * table.step_context
        per_token = per_length * table.decoding_slope + table.slope
        per_square = per_length * table.decoding_tilt + table.tilt
        if table.any_foreign:
            fresh = table.scraped_at >= now - SCRAPE_FRESH_SECONDS
            waiting = self._foreign_prompt_tokens * table.foreign_waiting * fresh
            running = table.foreign_running * fresh
            base += waiting * table.slope + (2.0 * price) * running * table.step_slope
            base += (price * prompt) * running * table.step_tilt
            per_token += per_length * running * table.slope
            per_square += per_length * running * table.tilt
        room = self._room_price * self.reuse.times
        if room:
            lost = room * table.crowding * per_token
            base += slate.output_tokens * lost
            per_token += lost
        per_square *= 0.5
        base += prompt * per_token + (prompt * prompt) * per_square
        per_token *= table.trust
        per_square *= table.trust * table.trust
        rows = slate.group.rows(start)
        return base[rows], per_token[rows], per_square[rows]


def _lowest_holders(
    scores: Column,
    held: Match,
    holders: Mapping[str, int],
    names: Sequence[str],
    start: int,
    width: int,
) -> list[int]:
    """The places of the ``width`` lowest scores (or a few more) among the holders."""
    found = held.among(lowest(scores, 2 * width), names, start, holders)
    if len(found) < width:  # holders are rare among the lowest: look at all
        found = held.among(range(len(scores)), names, start, holders)
        found = [found[rank] for rank in lowest(scores[found], width)]
    return found


def _below(scores: Column, limit: float, most: int) -> list[int] | None:
    """The places of scores below the limit; None when they are more than ``most``."""
    if limit == inf:
        return None
    places = below(scores, limit)
    return places if len(places) <= most else None


def _limit(contenders: dict[int, float], width: int) -> float:
    """The score that one must undercut to be among the ``width`` best of the contenders."""
    return sorted(contenders.values())[width - 1] if len(contenders) >= width else inf


def _prefer_cached(best: list[_Scored]) -> None:
    """Among near ties, move the one with the most cached tokens to the front."""
    limit = best[0][0] + NEAR_TIE * best[0][2]
    chosen = 0
    for rank in range(1, len(best)):
        if best[rank][0] > limit:
            break
        # More cached tokens win; then whoever comes first in the rotation.
        if (-best[rank][3], best[rank][1]) < (-best[chosen][3], best[chosen][1]):
            chosen = rank
    best.insert(0, best.pop(chosen))
