"""Preble's E2: exploit a long match, else explore by what each endpoint was assigned."""

from collections import OrderedDict
from typing import ClassVar

from routing.assigned import Assigned
from routing.endpoint import EndpointState
from routing.policies.policy import Choice, Slate
from routing.request import Request
from routing.scores import at_least, best_places, lead_with

_MOST_ENDPOINTS = 4_096


class Preble:
    """Exploit what is cached when that is more than what is left to compute, else explore.

        matched = longest match of any endpoint, by this policy's own record (tokens)
        exploit if matched > prompt - matched: of the endpoints with that match the lowest load
        explore otherwise: the lowest load + eviction + own

    All in seconds, for each endpoint:

    - load: (uncached tokens assigned within the window) x s + (output tokens expected of what
      was assigned within the window) x t, with s and t the learned seconds for a prefill token
      and between two tokens at what decodes there now;
    - eviction: sum over the segments that our uncached blocks displace (least recently used)
      of their tokens x s x the requests that used them within the window;
    - own: our uncached tokens x s.

    Rebalancing: when the heaviest load is more than rebalance_ratio times the lightest, and
    at least rebalance_after requests are in the window, a request that would exploit the
    heaviest goes to the lightest. Score: load + eviction + own, with the choice in front of
    all. The fallbacks are the lowest scores.

    Parameters: window (s, 180); rebalance_ratio (15); rebalance_after (requests, 50);
    default_cache_tokens (500,000) of an endpoint that does not tell; max_blocks (1,000,000)
    remembered of all endpoints together.

    Source: Srivatsa et al., "Preble: Efficient distributed prompt scheduling for LLM serving"
    (ICLR 2025), algorithms 1 and 2; window, ratio and number of requests from its code
    (multi_node/global_scheduler_with_time.py at 0c962c4, which has eviction and rebalancing
    switched off). Left out: replicating a prefix whose waiting time doubles, and the local
    scheduler; the prefill and decode times that it profiles are the learned ones here.
    """

    name: ClassVar[str] = "preble"

    def __init__(
        self,
        window: float = 180.0,
        rebalance_ratio: float = 15.0,
        rebalance_after: int = 50,
        default_cache_tokens: float = 500_000.0,
        max_blocks: int = 1_000_000,
    ) -> None:
        at_least("window", window, 1.0)
        at_least("rebalance_ratio", rebalance_ratio, 1.0)
        at_least("rebalance_after", rebalance_after, 0)
        at_least("default_cache_tokens", default_cache_tokens, 1.0)
        at_least("max_blocks", max_blocks, 1)
        self._window = window
        self._ratio = rebalance_ratio
        self._rebalance_after = rebalance_after
        self._default_cache_tokens = default_cache_tokens
        self._max_blocks = max_blocks
        self._records: OrderedDict[str, tuple[EndpointState, str, Assigned]] = OrderedDict()
        """By name, with whom and which address it is about; least recently chosen first."""
        self._blocks = 0  # of all records

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """Rank by cost, after the choice of the rule."""
        endpoints = slate.endpoints
        records = [self._record(state) for state in endpoints]
        loads: list[float] = []
        matches: list[float] = []
        costs: list[float] = []
        requests = 0
        for state, record in zip(endpoints, records, strict=True):
            load, matched, cost = self._weigh(request, slate, state, record, now)
            loads.append(load)
            matches.append(matched)
            costs.append(cost)
            requests += 0 if record is None else record.requests
        ranked = best_places(costs, range(len(costs)), count)
        why = "explored"
        longest = max(matches)
        if longest > slate.prompt_tokens - longest:
            holders = [place for place, matched in enumerate(matches) if matched == longest]
            chosen = min(holders, key=loads.__getitem__)
            why = "exploited"
            if requests >= self._rebalance_after:
                heaviest, lightest = max(loads), min(loads)
                if loads[chosen] == heaviest and heaviest > self._ratio * lightest:
                    chosen = loads.index(lightest)
                    why = "rebalanced"
            ranked = lead_with(chosen, ranked, count)
        first = ranked[0]
        self._assign(request, slate, endpoints[first], matches[first], now)
        return [
            Choice(
                endpoint=endpoints[place],
                score=costs[place],
                cached_tokens=slate.cached_tokens(endpoints[place]),
                predicted_ttft=None,
                explanation=(why if rank == 0 else "next lowest cost")
                + ": {:.3f} s, of which {:.3f} s load; {:.0f} tokens matched",
                facts=(costs[place], loads[place], matches[place]),
            )
            for rank, place in enumerate(ranked)
        ]

    def _weigh(
        self,
        request: Request,
        slate: Slate,
        state: EndpointState,
        record: Assigned | None,
        now: float,
    ) -> tuple[float, float, float]:
        """Load (s), matched tokens and the whole cost (s) of one endpoint."""
        slope = state.timing.prefill.slope
        if record is None:
            return 0.0, 0.0, slate.prompt_tokens * slope
        record.expire(now)
        pace = state.timing.inter_token_seconds(max(state.ledger.decoding, 1))
        load = record.prefill_tokens * slope + record.output_tokens * pace
        held = 0
        missed = 0
        for chain in request.chains:
            blocks = record.held(chain)
            held += blocks
            missed += len(chain) - blocks
        matched = slate.tokens(held) if held else 0.0
        evicted = 0.0
        for segment in record.victims(missed):
            evicted += len(segment.hashes) * segment.uses(now, self._window)
        own = slate.prompt_tokens - matched
        return load, matched, load + (evicted * slate.block_tokens + own) * slope

    def _assign(
        self, request: Request, slate: Slate, state: EndpointState, matched: float, now: float
    ) -> None:
        """Remember the choice, within the bound on all records together."""
        tokens = state.cache_tokens
        most = self._default_cache_tokens if tokens is None else float(tokens)
        capacity = min(int(most / request.block_tokens), self._max_blocks // len(slate.endpoints))
        record = self._record(state)
        if record is None:
            self._drop(state.name)
            record = Assigned(self._window, capacity)
            self._records[state.name] = (state, state.endpoint.url, record)
        self._records.move_to_end(state.name)
        record.capacity = capacity
        record.expire(now)
        record.assign(now, slate.prompt_tokens - matched, slate.output_tokens)
        self._blocks -= record.blocks
        for chain in request.chains:
            record.store(chain, now)
        self._blocks += record.blocks
        while self._blocks > self._max_blocks or len(self._records) > _MOST_ENDPOINTS:
            self._drop(next(iter(self._records)))

    def _record(self, state: EndpointState) -> Assigned | None:
        """What was assigned to this very endpoint: its name may have had another one's."""
        known = self._records.get(state.name)
        if known is None or known[0] is not state or known[1] != state.endpoint.url:
            return None
        return known[2]

    def _drop(self, name: str) -> None:
        known = self._records.pop(name, None)
        if known is not None:
            self._blocks -= known[2].blocks
