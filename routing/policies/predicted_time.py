"""The endpoint where the request costs the least time: the default policy."""

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import ClassVar, Final

import numpy as np

from routing.endpoint import SCRAPE_FRESH_SECONDS, EndpointState
from routing.loads import WEIGHED, Column, below, lowest
from routing.policies.policy import Choice, Slate
from routing.prefix.match import Match
from routing.request import Request
from routing.reuse import Reuse

NEAR_TIE: Final = 0.02
"""Scores this close, as a share of the best one's time to first token, are equal: predictions
aren't better than that."""

SCORE_ALL: Final = 32
"""Up to this many endpoints each is scored; of more, only those that can be among the best."""

_WIDTH: Final = 8  # candidates kept while scoring; ties are looked for among these
_WIDE_TABLES: Final = 4  # of more prefixes that many hold, all endpoints are scored
_MOST_LENGTHS: Final = 4  # of prefixes that few hold; with more, these few are scored

_REASON: Final = (
    "{choice.score:.3f} s: {:.0f} tokens ahead, {choice.cached_tokens:.0f} cached, "
    "first token in {choice.predicted_ttft:.3f} s"
)


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

    A large fleet is not scored one by one. As if all endpoints held the same number of blocks,
    their scores are their waits plus one weighted sum of the fleet's columns: a single sweep. For
    each number of blocks that somebody holds (0 among them) the endpoints with the ``width``
    lowest scores *as if holding just that* are contenders, among its holders. An endpoint that is
    no contender has ``width`` others before it that hold at least as much, so it is not among the
    ``width`` best: the ranking is the same as if all had been scored.

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
        held, ranking = slate.held, _Ranking(width)
        if size > SCORE_ALL and len(held.wide) <= _WIDE_TABLES and held.fetch is None:
            self._score_contenders(slate, now, start, price, ranking, count)
        else:
            self._score(slate, now, start, range(size), price, ranking)
        ranking.prefer_cached()
        chosen = ranking.choices[0]
        found = chosen.cached_tokens * chosen.endpoint.trust.share
        self.reuse.observe(found, slate.prompt_tokens)
        return ranking.choices[:count]

    def _score(
        self,
        slate: Slate,
        now: float,
        start: int,
        places: Iterable[int],
        price: float,
        ranking: "_Ranking",
    ) -> None:
        """Rank the endpoints at these places of the rotation, which rise."""
        endpoints, prompt = slate.endpoints, slate.prompt_tokens
        size = len(endpoints)
        few, many, fetch = slate.held.few, bool(slate.held.wide), slate.held.fetch
        room, output = self._room_price * self.reuse.times, float(slate.output_tokens)
        block_tokens, per_token = slate.block_tokens, 1.0 / max(output, 1.0)
        most = max(prompt - 1.0, 0.0)  # an engine computes at least one token
        worst = ranking.worst
        for place in places:
            state = endpoints[(start + place) % size]
            ledger, timing = state.ledger, state.timing
            prefill, step = timing.prefill, timing.decode
            slope, tilt = prefill.slope, prefill.tilt
            blocks = few.get(state.name)
            if blocks is None and many:
                blocks = slate.held.blocks(state.name)
            believed = min(blocks * block_tokens, most) if blocks else 0.0
            cached = believed * state.trust.share
            wait = prefill.fixed
            if fetch is not None and timing.fetch < slope and state.name in fetch:
                reachable = slate.tokens((blocks or 0.0) + fetch[state.name])
                wait += (reachable - believed) * state.trust.share * timing.fetch
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
            itl = step.fixed + step.slope * (decoding + 1.0)
            itl += step.tilt * (ledger.context_tokens + prompt)
            if decoding:
                delay = (work + lost) * per_token + step.slope + step.tilt * prompt
                itl += decoding * delay
            score = ttft + lost + price * itl
            if score < worst:
                choice = Choice(state, score, believed, ttft, _REASON, (queued,))
                worst = ranking.add(choice, place)

    def _foreign(self, state: EndpointState, now: float) -> tuple[float, float]:
        """Prefill tokens and decoding sequences of others, as far as the scrape is fresh."""
        if state.load is None or state.load.age(now) > SCRAPE_FRESH_SECONDS:
            return 0.0, 0.0
        return state.foreign_waiting * self._foreign_prompt_tokens, state.foreign_running

    def _score_contenders(
        self, slate: Slate, now: float, start: int, price: float, ranking: "_Ranking", count: int
    ) -> None:
        """Rank the ``count`` lowest scores, and near ties among the lowest that are kept."""
        group, held, width = slate.group, slate.held, ranking.width
        group.table.refresh(now)
        few = _by_blocks(held, group.places, start)
        contenders: dict[int, float] = {}  # place -> score, at most too high
        scored: set[int] = set()
        chosen: set[int] = set()  # to be scored
        if len(few) > _MOST_LENGTHS:
            scored.update(*few.values())
            self._score(slate, now, start, sorted(scored), price, ranking)
            contenders, few = ranking.scores(), {}
        room = self._room_price * self.reuse.times
        sweep = _Sweep(slate, now, start, price, room, self._foreign_prompt_tokens)
        for blocks, found in few.items():
            scores = sweep.scores(slate.tokens(blocks))
            for place in found:
                contenders[place] = scores.item(place)
        # Longest first: where an endpoint is found first its score is the lowest. And as scores
        # only rise from one to the next, who has no chance in one has none later.
        for shared, holders in (*held.wide, (0, None)):
            scores = sweep.scores(slate.tokens(shared))
            chances = _below(scores, _limit(contenders, width), 2 * width)
            if chances is None:
                if holders is None:
                    found = lowest(scores, width)
                else:
                    found = _lowest_holders(scores, held, holders, group.names, start, width)
                for place in found:
                    if place not in contenders and place not in scored:
                        contenders[place] = scores.item(place)
                chances = _below(scores, _limit(contenders, width), 2 * width)
            if chances is not None:  # so few that it doesn't matter what they hold
                chosen.update(place for place in chances if place not in contenders)
                break
        ranked = sorted(contenders, key=contenders.__getitem__)[:width]
        tie = contenders[ranked[0]] * (1.0 + 1.01 * NEAR_TIE)  # rounding must not cut one off
        for rank, place in enumerate(ranked):
            if rank < count or contenders[place] <= tie:
                chosen.add(place)
        self._score(slate, now, start, sorted(chosen - scored), price, ranking)


class _Sweep:
    """What all endpoints would score for one request, by place in the rotation.

    ``room``: what a token of room costs where memory is sure to be missed, in tokens to compute.
    """

    __slots__ = ("_per_length", "_room", "_rows", "_running", "_table", "_wait", "_weights")

    def __init__(
        self, slate: Slate, now: float, start: int, price: float, room: float, foreign: float
    ) -> None:
        table, prompt = slate.group.table, slate.prompt_tokens
        per_length, square = price / max(slate.output_tokens, 1.0), 0.5 * prompt * prompt
        taken = room * (prompt + slate.output_tokens)
        self._table, self._rows = table, slate.group.rows(start)
        self._per_length, self._room = per_length, room
        self._weights = np.zeros(WEIGHED)
        self._weights[:8] = (
            price,
            price * prompt,
            prompt,
            square,
            per_length * prompt,
            per_length * square,
            taken,
            per_length * taken,
        )
        self._wait = wait = table.wait_seconds(now)
        self._running: Column | None = None
        if table.any_foreign:
            fresh = table.scraped_at >= now - SCRAPE_FRESH_SECONDS
            self._running = running = table.foreign_running * fresh
            work = prompt * table.slope + square * table.tilt + taken * table.crowded_slope
            wait += foreign * table.foreign_waiting * fresh * table.slope
            wait += (2.0 * price) * running * table.step_slope
            wait += (price * prompt) * running * table.step_tilt
            wait += per_length * running * work

    def scores(self, cached: float) -> Column:
        """The scores as if each held ``cached`` tokens."""
        table, square, per_length = self._table, 0.5 * cached * cached, self._per_length
        kept = self._room * cached
        self._weights[8:] = (
            -cached,
            -square,
            -per_length * cached,
            -per_length * square,
            -kept,
            -per_length * kept,
        )
        scores = table.weighed(self._weights)
        scores += self._wait
        if self._running is not None:
            saved = cached * table.trusted_slope + square * table.trusted_tilt
            saved += kept * table.crowded_trusted_slope
            scores -= per_length * self._running * saved
        by_place: Column = scores.take(self._rows)
        return by_place


class _Ranking:
    """The lowest ``width`` scores so far, sorted; equal ones in the order of their coming."""

    __slots__ = ("_places", "choices", "width", "worst")

    def __init__(self, width: int) -> None:
        self.width = width
        self.worst = inf
        """The score that one must undercut."""
        self.choices: list[Choice] = []
        self._places: list[int] = []  # of these, in the rotation

    def add(self, choice: Choice, place: int) -> float:
        """Rank one that undercuts the worst, behind its equals; returns what is the worst then."""
        choices, places, score = self.choices, self._places, choice.score
        rank = len(choices)
        while rank and choices[rank - 1].score > score:
            rank -= 1
        choices.insert(rank, choice)
        places.insert(rank, place)
        if len(choices) > self.width:
            choices.pop()
            places.pop()
            self.worst = choices[-1].score
        return self.worst

    def scores(self) -> dict[int, float]:
        """Place -> score."""
        scores = [choice.score for choice in self.choices]
        return dict(zip(self._places, scores, strict=True))

    def prefer_cached(self) -> None:
        """Among near ties, move the one with the most cached tokens to the front.

        Of several with as many, the one that comes first in the rotation.
        """
        choices, places = self.choices, self._places
        best = choices[0]
        assert best.predicted_ttft is not None
        limit = best.score + NEAR_TIE * best.predicted_ttft
        chosen, most = 0, best.cached_tokens
        for rank in range(1, len(choices)):
            choice = choices[rank]
            if choice.score > limit:
                break
            cached = choice.cached_tokens
            if cached > most or (cached == most and places[rank] < places[chosen]):
                chosen, most = rank, cached
        if chosen:
            choices.insert(0, choices.pop(chosen))


def _by_blocks(held: Match, indices: Mapping[str, int], start: int) -> dict[float, list[int]]:
    """Blocks held -> the places of the few endpoints that hold as many."""
    size = len(indices)
    places: dict[float, list[int]] = {}
    for name, blocks in held.few.items():
        index = indices.get(name)
        if index is not None:
            alike = places.get(blocks)
            if alike is None:
                alike = places[blocks] = []
            alike.append((index - start) % size)
    return places


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
