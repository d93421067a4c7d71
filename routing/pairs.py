"""What one request would cost on each endpoint, whole or in parts, and the best pair for it.

For a prompt of n tokens and an answer of about L, in seconds (symbols as in
`routing.policies.predicted_time`; P computes, D decodes):

    whole on e:  start_e + stall_e + pace x (itl_e + slow_e) + miss(start_e, itl_e)
    pair P, D:   ttft + stall_P + pace x (itl_D + slow_D) + miss(ttft, itl_D)
                 ttft = start_P + move + itl_D + room_D

    start = fixed + queued + own / rate + tilt x (n^2 - cached^2) / 2 + room
    move  = bytes_per_token x (n - cached_D) over the pair's bandwidth (`routing.transfer`)
    itl   = (a + b (N + 1) + c (KV + n)) / (1 - busy)
    slow  = N (b + c n)
    stall = stall_share x ttft_target / itl_target x N x work / L
    pace  = pace_share x ttft_target / itl_target
    room  = max(KV + n - most_kv_usage x memory, 0) / memory x L x itl
    miss  = miss_share x ttft_target x (1 - good)
    good  = 1 / (1 + (ttft / ttft_target)^5) / (1 + (itl / itl_target)^5)

- N: sequences that decode there, and those whose KV cache is on its way there; KV: the tokens of
  all contexts there;
- stall: computing a prompt takes ``work`` seconds from everybody who decodes on that endpoint;
  slow: decoding one sequence more takes a little from each. Both count as what they add to a token
  of the others, in units of the targets, as one's own pace does;
- busy: what that endpoint is expected to spend on prompts (`routing.busyness`): whoever decodes
  there is stalled by that. It is what keeps roles apart in a fleet where everybody can do both:
  who computes prompts attracts no decoding, and who decodes much attracts no prompts;
- room: above that share of memory somebody's answer has to end first. An answer of L tokens takes
  L x itl, in which all of the memory is given back once;
- miss: a target is a deadline. A request that is late, or in time, whatever is chosen is told by
  its times alone; one that only one of the choices makes late is not. ``good`` is the chance to
  meet both targets, where predictions are off by about a fifth (log-logistic).

own_P is what P's cache lacks. So an endpoint that holds a prefix computes the tail of a prompt and
hands all of it to one that has room to decode: warm KV moves, with no protocol of its own. What D
holds does not move.
"""

from collections.abc import Sequence
from math import inf
from typing import Final

import numpy as np

from routing.busyness import Busyness, Expected
from routing.endpoint import SCRAPE_FRESH_SECONDS, EndpointState
from routing.legs import PrefillLeg
from routing.loads import Column, LoadTable, lowest
from routing.policies.policy import Slate
from routing.splitrules import DisaggregationSettings, SplitReason
from routing.transfer import Links

_DEEP: Final = 8  # the best of each side that are paired with each other
_OTHERS: Final = 3  # prefill endpoints kept for another attempt
_LOOK_AT_ALL: Final = 48  # up to so many endpoints are looked at one by one; of more the likeliest
_LIKELY: Final = 16
_SHAPE: Final = 5.0  # predictions of either time are off by about a fifth
_FARTHEST: Final = 100.0  # of a target: beyond it a miss is no surer


class Standing:
    """One endpoint, as one request sees it."""

    __slots__ = (
        "cached",
        "decode_cost",
        "endpoint",
        "itl",
        "prefill_cost",
        "room",
        "start",
        "work",
    )

    def __init__(
        self,
        endpoint: EndpointState,
        cached: float,
        work: float,
        start: float,
        prefill_cost: float,
        itl: float,
        decode_cost: float,
        room: float,
    ) -> None:
        self.endpoint = endpoint
        self.cached = cached
        """Tokens believed to be there, before any doubt."""
        self.work = work
        """Seconds for its own uncached tokens."""
        self.start = start
        """Seconds to the end of its prefill."""
        self.prefill_cost = prefill_cost
        """That, and what it takes from those who decode there."""
        self.itl = itl
        """Seconds between its tokens."""
        self.decode_cost = decode_cost
        """Of decoding there: its own pace, and what it takes from the others."""
        self.room = room
        """Seconds until there is room."""


class View:
    """One request before the fleet as it is now. Endpoints are looked at once, when asked for."""

    __slots__ = (
        "_expected",
        "_length",
        "_links",
        "_lost",
        "_now",
        "_pace",
        "_settings",
        "_sinks",
        "_slate",
        "_stall",
        "_standings",
        "_token_bytes",
        "_whole_at",
        "prompt",
        "ranked",
        "refused",
        "refused_cost",
    )

    def __init__(
        self,
        settings: DisaggregationSettings,
        links: Links,
        busyness: Busyness,
        slate: Slate,
        prefillers: Sequence[EndpointState],
        first: EndpointState,
        token_bytes: float,
        now: float,
    ) -> None:
        self._settings = settings
        self._links = links
        self._slate = slate
        self._token_bytes = token_bytes
        self._now = now
        self._length = max(float(slate.output_tokens), 1.0)
        targets = slate.ttft_target / slate.itl_target
        self._pace = settings.pace_share * targets
        self._stall = settings.stall_share * targets / self._length
        self._lost = settings.miss_share * slate.ttft_target  # by a missed target
        self.prompt = slate.prompt_tokens
        self._standings: dict[EndpointState, Standing] = {}
        self._whole_at: EndpointState | None = None  # where the whole request would go
        self.ranked: list[Standing] = []
        """Prefill endpoints as `best_pair` has ranked them."""
        self.refused: SplitReason | None = None
        """Why a guard refused the cheapest of the pairs that it refused."""
        self.refused_cost = inf
        self._sinks = self._likely(slate.endpoints, first)  # the policy's choice is among them
        looked_at = dict.fromkeys((*self._sinks, *self._likely(prefillers, None)))
        self._expected: Expected = busyness.expect(looked_at, now)

    def stand(self, state: EndpointState) -> Standing:
        """How the endpoint stands."""
        known = self._standings.get(state)
        if known is None:
            known = self._standings[state] = self._look(state)
        return known

    def _look(self, state: EndpointState) -> Standing:
        slate, settings, now, prompt = self._slate, self._settings, self._now, self.prompt
        ledger, timing, load = state.ledger, state.timing, state.load
        prefill, step = timing.prefill, timing.decode
        slope, tilt = prefill.slope, prefill.tilt
        believed = slate.cached_tokens(state)
        cached = believed * state.trust.share
        work = (prompt - cached) * slope + 0.5 * tilt * (prompt * prompt - cached * cached)
        start = prefill.fixed + work
        if ledger.prefill_tokens:
            queued, context = ledger.queued_prefill(now, slope, tilt)
            start += queued * slope + context * tilt
        others = float(ledger.decoding + ledger.awaiting)
        if state.foreign_running and load is not None and load.age(now) <= SCRAPE_FRESH_SECONDS:
            others += state.foreign_running
        itl = step.fixed + step.slope * (others + 1.0)
        itl += step.tilt * (ledger.context_tokens + prompt)
        itl /= 1.0 - self._expected.share(state, others)
        room, size = 0.0, state.cache_tokens
        if size is not None:
            taken = float(ledger.context_tokens)
            if load is not None and load.kv_usage is not None:
                taken = max(taken, load.kv_usage * size)
            excess = taken + prompt - settings.most_kv_usage * size
            if excess > 0.0:
                room = excess / size * self._length * itl
                start += room
        slow = others * (step.slope + step.tilt * prompt)
        return Standing(
            endpoint=state,
            cached=believed,
            work=work,
            start=start,
            prefill_cost=start + self._stall * others * work,
            itl=itl,
            decode_cost=self._pace * (itl + slow),
            room=room,
        )

    # -- choosing --------------------------------------------------------------------------

    def miss(self, ttft: float, itl: float) -> float:
        """What may be lost by missing a target, in seconds."""
        late: float = min(ttft / self._slate.ttft_target, _FARTHEST) ** _SHAPE
        slow: float = min(itl / self._slate.itl_target, _FARTHEST) ** _SHAPE
        return self._lost * (1.0 - 1.0 / ((1.0 + late) * (1.0 + slow)))

    def whole_cost(self, one: Standing) -> float:
        """Of the whole request there."""
        return one.prefill_cost + one.decode_cost + self.miss(one.start, one.itl)

    def pair_cost(self, source: Standing, sink: Standing) -> float:
        """Of the prompt at one and the answer at the other."""
        ahead = self.move(source, sink) + sink.itl + sink.room
        cost = source.prefill_cost + ahead + sink.decode_cost
        return cost + self.miss(source.start + ahead, sink.itl)

    def best_whole(self, first: EndpointState) -> tuple[Standing, float]:
        """Where the whole request costs the least, and that; of equals ``first``."""
        best = self.stand(first)
        least = self.whole_cost(best)
        for state in self._sinks:
            one = self.stand(state)
            cost = self.whole_cost(one)
            if cost < least:
                best, least = one, cost
        self._whole_at = best.endpoint
        return best, least

    def best_pair(
        self,
        prefillers: Sequence[EndpointState],
        decode: Standing | None,
        *,
        guarded: bool = False,
    ) -> tuple[Standing, Standing, float] | None:
        """The pair of the lowest cost, and that; for ``decode``, or whoever decodes best.

        None when no two endpoints go with each other. ``guarded``: or when the guards refuse all.
        """
        ranked = [self.stand(state) for state in self._likely(prefillers, None)]
        ranked.sort(key=_prefill_cost)
        self.ranked = ranked
        if decode is None:
            sinks = [self.stand(state) for state in self._sinks]
            sinks.sort(key=self._sink_cost)
        else:
            sinks = [decode]
        best: tuple[Standing, Standing, float] | None = None
        least = inf
        for source in ranked[:_DEEP]:
            for sink in sinks[:_DEEP]:
                if source.endpoint is sink.endpoint or not fit(source.endpoint, sink.endpoint):
                    continue
                cost = self.pair_cost(source, sink)
                if cost >= least:
                    continue
                refusal = self.guard(source, sink) if guarded else None
                if refusal is None:
                    best, least = (source, sink, cost), cost
                elif cost < self.refused_cost:
                    self.refused, self.refused_cost = refusal, cost
        if best is None and self.refused is None and (len(ranked) > _DEEP or len(sinks) > _DEEP):
            best = self._any_pair(ranked, sinks)
        return best

    def _any_pair(
        self, ranked: Sequence[Standing], sinks: Sequence[Standing]
    ) -> tuple[Standing, Standing, float] | None:
        """The first pair that goes together, where those at the front speak other protocols."""
        for source in ranked:
            for sink in sinks:
                if source.endpoint is not sink.endpoint and fit(source.endpoint, sink.endpoint):
                    return source, sink, self.pair_cost(source, sink)
        return None

    def _likely(
        self, states: Sequence[EndpointState], first: EndpointState | None
    ) -> Sequence[EndpointState]:
        """Endpoints that can be the best; all of few.

        Of many: who is free soonest, whose tokens come fastest, who holds some of the prompt.
        """
        if len(states) <= _LOOK_AT_ALL:
            return states
        table: LoadTable = self._slate.group.table
        table.refresh(self._now)
        rows = np.fromiter((state.row for state in states), dtype=np.intp, count=len(states))
        wait: Column = table.wait_seconds(self._now).take(rows)
        pace: Column = table.step_seconds.take(rows)
        places = dict.fromkeys(lowest(wait, _LIKELY))
        places.update(dict.fromkeys(lowest(pace, _LIKELY)))
        found = [states[place] for place in places]
        held = self._slate.held.few
        if held:
            found += [one for one in states if one.name in held and one not in found][:_LIKELY]
        if first is not None and first not in found:
            found.append(first)
        return found

    def _sink_cost(self, one: Standing) -> float:
        """Of decoding there, less what needs not move because it is there already."""
        saved = one.cached * self._token_bytes / self._settings.bandwidth
        return one.decode_cost + one.itl + one.room - saved

    # -- the pair that was chosen ----------------------------------------------------------

    def tokens_to_move(self, sink: Standing) -> float:
        """Tokens whose KV the decode endpoint lacks."""
        return max(self.prompt - sink.cached * sink.endpoint.trust.share, 0.0)

    def move(self, source: Standing, sink: Standing) -> float:
        """Seconds of the transfer."""
        amount = self.tokens_to_move(sink) * self._token_bytes
        return self._links.seconds_of(
            source.endpoint.endpoint, sink.endpoint.endpoint, amount, self._now
        )

    def leg(self, prefill: Standing, decode: Standing) -> PrefillLeg:
        """The prefill leg of a pair, with who could take over."""
        tokens = self.tokens_to_move(decode)
        others = [
            one.endpoint
            for one in self.ranked
            if one is not prefill
            and one.endpoint is not decode.endpoint
            and fit(one.endpoint, decode.endpoint)
        ]
        return PrefillLeg(
            prefill.endpoint,
            self.prompt,
            prefill.cached,
            prefill.start,
            tokens,
            tokens * self._token_bytes,
            self.move(prefill, decode),
            tuple(others[:_OTHERS]),
        )

    def guard(self, prefill: Standing, decode: Standing) -> SplitReason | None:
        """Why the pair is not to be: one of its sides would starve. None: it may."""
        settings = self._settings
        if prefill.start - prefill.work > settings.most_prefill_wait * self._slate.ttft_target:
            return SplitReason.GUARD_PREFILL
        size = decode.endpoint.cache_tokens
        # Whole, it would take the same room there, and be computed there besides.
        if size is not None and decode.endpoint is not self._whole_at:
            taken = decode.endpoint.ledger.context_tokens + self.prompt + self._length
            if taken > settings.most_kv_usage * size:
                return SplitReason.GUARD_DECODE
        pinned, size = prefill.endpoint.pinned, prefill.endpoint.cache_tokens
        if (
            pinned is not None
            and size is not None
            and pinned.expire(self._now) > settings.most_stranded * size
        ):
            return SplitReason.GUARD_STRANDED
        return None


def _prefill_cost(one: Standing) -> float:
    return one.prefill_cost


def fit(source: EndpointState, sink: EndpointState) -> bool:
    """Whether the two speak the same KV-transfer protocol, as far as they say."""
    one, other = source.endpoint.connector, sink.endpoint.connector
    return not one or not other or one == other
