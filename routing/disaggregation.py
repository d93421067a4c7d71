"""One endpoint, or one that computes the prompt and another one that decodes: which is better.

For a prompt of n tokens and an answer of about L, in seconds (symbols as in
`routing.policies.predicted_time`; P computes, D decodes):

    whole on e:  wait_e + work_e(own_e)                    + price x (itl_e + harm_e)
    pair P, D:   wait_P + work_P(own_P) + move + itl_D     + price x (itl_D + harm_D + harm_P)

    move   = bytes_per_token x (n - cached_D) over the pair's bandwidth (`routing.transfer`)
    itl_e  = (a + b (N_e + 1) + c (KV_e + n)) / (1 - busy_e)
    harm   = what the others there lose: N (work / L) where the prompt is computed,
             N (b + c n) where the answer decodes
    price  = pace_share x ttft_target / itl_target

- N_e: sequences that decode on e, and those whose KV cache is on its way there;
- busy_e: the share of the last ``busy_seconds`` that e has spent on prompts: whoever decodes there
  is stalled by that. It is what keeps roles apart in a fleet where everybody can do both: who
  computes prompts attracts no decoding, and who decodes much attracts no prompts;
- own_P is what P's cache lacks. So an endpoint that holds a prefix computes the tail of a prompt
  and hands all of it to one that has room to decode: warm KV moves, with no protocol of its own;
- what D holds does not move; when D holds (nearly) all, there is nothing to split.

The pair is taken when it saves at least ``least_gain`` of the whole's cost, unless the guard says
that one side would starve (`Guard`). Among policies by other rules (`MODES`), ``threshold`` is
llm-d's ``prefix-based-pd-decider`` (uncached tokens on the decode candidate, which is chosen
first) and ``dynamo`` the conditional rule of NVIDIA Dynamo's disaggregated router (uncached tokens
above a maximum *and* prefill queues shorter than a maximum).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from math import exp, inf
from types import MappingProxyType
from typing import Final

from routing.decision import Decision
from routing.endpoint import SCRAPE_FRESH_SECONDS, EndpointState
from routing.legs import PrefillLeg
from routing.policies.policy import Choice, Slate
from routing.transfer import Link, Links

ADAPTIVE: Final = "adaptive"
ALWAYS: Final = "always"
NEVER: Final = "never"
THRESHOLD: Final = "threshold"
DYNAMO: Final = "dynamo"
MODES: Final = (ADAPTIVE, ALWAYS, NEVER, THRESHOLD, DYNAMO)
"""How it is decided whether to split."""


class SplitReason(Enum):
    """Why a request was split, or why not; the values are labels of a metric."""

    __hash__ = object.__hash__

    # Split:
    CHEAPER = "cheaper"  # the pair's predicted cost is lower
    WARM = "warm_kv"  # and the prefill endpoint holds prefix that the decode endpoint lacks
    BURST = "burst"  # and it is one that also decodes
    ALWAYS = "always"
    THRESHOLD = "threshold"
    DYNAMO = "dynamo"
    # Not split:
    WHOLE_CHEAPER = "whole_cheaper"
    CACHED = "cached"  # the decode endpoint holds (nearly) all of the prompt
    SHORT_ANSWER = "short_answer"  # nothing is left to decode
    UNSPLITTABLE = "unsplittable"  # several prompts, or none
    NO_PAIR = "no_pair"  # no prefill endpoint that goes with a decode endpoint
    BELOW = "below_threshold"
    QUEUED = "prefill_queue"  # Dynamo's second condition
    GUARD_PREFILL = "guard_prefill"
    GUARD_DECODE = "guard_decode"
    GUARD_STRANDED = "guard_stranded"
    NEVER = "never"


SPLIT: Final = frozenset(
    {
        SplitReason.CHEAPER.value,
        SplitReason.WARM.value,
        SplitReason.BURST.value,
        SplitReason.ALWAYS.value,
        SplitReason.THRESHOLD.value,
        SplitReason.DYNAMO.value,
    }
)
"""The reasons that go with a split."""


@dataclass(frozen=True, slots=True)
class DisaggregationSettings:
    """What the decision to split is told rather than learns. Sizes in tokens, times in seconds.

    - ``mode``: one of `MODES`;
    - ``bytes_per_token``: of KV cache, the model's: 2 x layers x KV heads x head size x bytes of
      a number; ``model_bytes_per_token`` for single models;
    - ``bandwidth`` (bytes/s) of a pair, ``latency`` of a transfer, ``links``: bandwidths by
      topology level, the most local one first;
    - ``threshold_tokens``: of ``threshold``; ``dynamo_local_tokens`` and ``dynamo_queue`` of
      ``dynamo``: what is computed where it is decoded at most, and requests in a prefill
      endpoint's queue from which it gets no more;
    - ``fewest_tokens``: ``adaptive`` does not split when the decode endpoint lacks fewer;
    - ``least_gain``: share of the whole request's cost that a pair must save;
    - ``pace_share``, ``busy_seconds``: see the formulas;
    - ``most_prefill_wait``: of a prefill endpoint, in units of the request's TTFT target;
      ``most_kv_usage``: share of a decode endpoint's KV memory, this request included;
      ``most_stranded``: share of a prefill endpoint's KV memory that may lie there for nobody.
    """

    mode: str = ADAPTIVE
    bytes_per_token: float = 131_072.0
    model_bytes_per_token: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    bandwidth: float = 12.5e9
    latency: float = 0.010
    links: tuple[Link, ...] = ()
    threshold_tokens: float = 512.0
    dynamo_local_tokens: float = 1_000.0
    dynamo_queue: int = 2
    fewest_tokens: float = 256.0
    least_gain: float = 0.02
    pace_share: float = 0.35
    busy_seconds: float = 10.0
    most_prefill_wait: float = 2.0
    most_kv_usage: float = 0.9
    most_stranded: float = 0.2

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            close = get_close_matches(self.mode, MODES, n=1)
            hint = f"did you mean {close[0]}?" if close else f"choose {', '.join(MODES)}"
            raise ValueError(f"mode is {self.mode!r}: {hint}")
        for name, value in (
            ("bytes_per_token", self.bytes_per_token),
            ("bandwidth", self.bandwidth),
            ("busy_seconds", self.busy_seconds),
            ("most_prefill_wait", self.most_prefill_wait),
            ("most_kv_usage", self.most_kv_usage),
            *((f"model_bytes_per_token[{m}]", b) for m, b in self.model_bytes_per_token.items()),
            *(
                (f"links[{link.label}].bytes_per_second", link.bytes_per_second)
                for link in self.links
            ),
        ):
            if not value > 0.0:
                raise ValueError(f"{name} is {value}; it must be above 0")


_DEEP: Final = 8  # the best of each side that are paired with each other
_OTHERS: Final = 3  # prefill endpoints kept for another attempt
_MOST_BUSY: Final = 0.8
_REASON: Final = (
    "{choice.score:.3f} s: {} computes {:.0f} tokens in {:.3f} s, {:.0f} tokens move in {:.3f} s, "
    "first token in {choice.predicted_ttft:.3f} s"
)


class Busy:
    """The share of the last seconds that an endpoint has spent, or is to spend, on prompts."""

    __slots__ = ("at", "seconds")

    def __init__(self, now: float) -> None:
        self.seconds = 0.0
        self.at = now

    def add(self, work: float, now: float, memory: float) -> None:
        """It was given a prompt that takes ``work`` seconds."""
        self._fade(now, memory)
        self.seconds += work

    def share(self, now: float, memory: float) -> float:
        """0..`_MOST_BUSY`."""
        age = now - self.at
        seconds = self.seconds if age <= 0.0 else self.seconds * exp(-age / memory)
        share = seconds / memory
        return share if share < _MOST_BUSY else _MOST_BUSY

    def _fade(self, now: float, memory: float) -> None:
        age = now - self.at
        if age > 0.0:
            self.seconds *= exp(-age / memory)
            self.at = now


class _Standing:
    """One endpoint, seen by one request: what its parts would take and harm there."""

    __slots__ = ("cached", "endpoint", "harm", "itl", "prefill", "prefill_cost", "sits", "work")

    def __init__(
        self,
        endpoint: EndpointState,
        cached: float,
        work: float,
        prefill: float,
        prefill_cost: float,
        itl: float,
        harm: float,
        sits: float,
    ) -> None:
        self.endpoint = endpoint
        self.cached = cached
        """Tokens believed to be there, before any doubt."""
        self.work = work
        self.prefill = prefill
        """Seconds to the end of the prefill, the queue included."""
        self.prefill_cost = prefill_cost
        """That, and what it costs those who decode there, priced."""
        self.itl = itl
        self.harm = harm
        self.sits = sits
        """Price of decoding there: its own pace, and what it costs the others."""


class Disaggregation:
    """Splits requests, or doesn't. One for each router."""

    def __init__(self, settings: DisaggregationSettings) -> None:
        self.settings = settings
        self.links = Links(settings.bandwidth, settings.links, settings.latency)
        """What transfers take."""
        self.decisions: dict[str, int] = {}
        """Requests by `SplitReason`, those that found prefill endpoints at all."""
        self.busy: dict[EndpointState, Busy] = {}
        """How much of their time endpoints spend on prompts."""

    # -- deciding --------------------------------------------------------------------------

    def plan(
        self, decision: Decision, slate: Slate, prefillers: Sequence[EndpointState], now: float
    ) -> None:
        """Give the decision a prefill leg, and a decode endpoint to go with it; or say why not."""
        reason = self._plan(decision, slate, prefillers, now)
        decision.split_reason = reason.value
        self.decisions[reason.value] = self.decisions.get(reason.value, 0) + 1

    def booked(self, state: EndpointState, work: float, now: float) -> None:
        """The endpoint is to compute a prompt for ``work`` seconds."""
        busy = self.busy.get(state)
        if busy is None:
            busy = self.busy[state] = Busy(now)
        busy.add(work, now, self.settings.busy_seconds)

    def forget(self, state: EndpointState) -> None:
        """The endpoint left."""
        self.busy.pop(state, None)

    def bytes_per_token(self, model: str | None) -> float:
        """KV cache of one token of a model."""
        if model is None:
            return self.settings.bytes_per_token
        return self.settings.model_bytes_per_token.get(model, self.settings.bytes_per_token)

    def _plan(
        self, decision: Decision, slate: Slate, prefillers: Sequence[EndpointState], now: float
    ) -> SplitReason:
        mode, settings = self.settings.mode, self.settings
        if mode == NEVER:
            return SplitReason.NEVER
        if len(decision.request.chains) != 1:
            return SplitReason.UNSPLITTABLE
        limit = decision.request.max_output_tokens
        if limit is not None and limit <= 1:
            return SplitReason.SHORT_ANSWER
        view = _View(self, slate, decision.request.model, now)
        if mode in {THRESHOLD, DYNAMO}:
            return self._by_rule(view, decision, prefillers)
        whole = view.stand(decision.choices[0].endpoint)
        pair = view.best_pair(slate.endpoints, prefillers, None)
        if pair is None:
            return SplitReason.NO_PAIR
        if mode == ALWAYS:
            self._split(view, decision, pair)
            return SplitReason.ALWAYS
        prefill, decode, _ = pair
        few = settings.fewest_tokens
        if pair[2] > (whole.prefill_cost + whole.sits) * (1.0 - settings.least_gain):
            uncached = view.tokens_to_move(whole)
            return SplitReason.CACHED if uncached < few else SplitReason.WHOLE_CHEAPER
        if view.tokens_to_move(decode) < few:
            return SplitReason.CACHED
        guard = view.guard(prefill, decode)
        if guard is not None:
            return guard
        self._split(view, decision, pair)
        if prefill.cached > decode.cached + settings.fewest_tokens:
            return SplitReason.WARM
        return SplitReason.BURST if prefill.endpoint.endpoint.decodes else SplitReason.CHEAPER

    def _by_rule(
        self, view: "_View", decision: Decision, prefillers: Sequence[EndpointState]
    ) -> SplitReason:
        """The rules of llm-d and Dynamo: the decode endpoint first, by the policy; then whether."""
        settings = self.settings
        decode = view.stand(decision.choices[0].endpoint)
        uncached = view.prompt - decode.cached * decode.endpoint.trust.share
        if settings.mode == THRESHOLD:
            if uncached < settings.threshold_tokens:
                return SplitReason.BELOW
        elif uncached <= settings.dynamo_local_tokens:
            return SplitReason.BELOW
        others = [state for state in prefillers if state is not decode.endpoint]
        if settings.mode == DYNAMO:
            most = settings.dynamo_queue
            others = [state for state in others if state.ledger.requests < most]
            if not others and prefillers:
                return SplitReason.QUEUED
        pair = view.best_pair((), others, decode)
        if pair is None:
            return SplitReason.NO_PAIR
        self._split(view, decision, pair)
        return SplitReason.THRESHOLD if settings.mode == THRESHOLD else SplitReason.DYNAMO

    def _split(
        self, view: "_View", decision: Decision, pair: "tuple[_Standing, _Standing, float]"
    ) -> None:
        prefill, decode, score = pair
        decision.prefill = leg = view.leg(prefill, decode, view.others(prefill, decode))
        ttft = leg.seconds + leg.transfer_seconds + decode.itl
        choice = Choice(
            decode.endpoint,
            score,
            decode.cached,
            ttft,
            _REASON,
            (
                leg.name,
                leg.uncached_tokens,
                leg.seconds,
                leg.transfer_tokens,
                leg.transfer_seconds,
            ),
        )
        others = [one for one in decision.choices if one.endpoint is not decode.endpoint]
        decision.choices = [choice, *others[: max(len(decision.choices) - 1, 0)]]

    def replacement(
        self, decision: Decision, candidates: Sequence[EndpointState], now: float
    ) -> PrefillLeg | None:
        """Another leg for the current endpoint, from the first candidate on that fits; or None."""
        old, decode = decision.prefill, decision.endpoint
        if old is None:
            return None
        rest = list(candidates)
        for place, state in enumerate(rest):
            if state is decode or not _fit(state, decode):
                continue
            prompt = decision.prompt_tokens
            cached = 0.0
            if state is old.endpoint:  # what it has computed once is likely still there
                cached = old.cached_tokens if old.done_at is None else max(prompt - 1.0, 0.0)
            prefill = state.timing.prefill
            ahead, before = state.ledger.queued_prefill(now, prefill.slope, prefill.tilt)
            seconds = prefill.seconds(ahead + prompt, before + prompt * prompt / 2.0)
            tokens = max(prompt - decision.predicted_cached_tokens * decode.trust.share, 0.0)
            amount = tokens * self.bytes_per_token(decision.request.model)
            return PrefillLeg(
                state,
                prompt,
                cached,
                seconds,
                tokens,
                amount,
                self.links.seconds_of(state.endpoint, decode.endpoint, amount, now),
                tuple(rest[place + 1 :]),
                decision.attempt,
            )
        return None


class _View:
    """One request before the fleet as it is now."""

    __slots__ = (
        "_context",
        "_length",
        "_now",
        "_price",
        "_slate",
        "_splits",
        "_standings",
        "_token_bytes",
        "prompt",
        "ranked",
    )

    def __init__(self, splits: Disaggregation, slate: Slate, model: str | None, now: float) -> None:
        settings = splits.settings
        self._splits = splits
        self._slate = slate
        self._now = now
        self._token_bytes = splits.bytes_per_token(model)
        self._price = settings.pace_share * slate.ttft_target / slate.itl_target
        self._length = max(float(slate.output_tokens), 1.0)
        self.prompt = slate.prompt_tokens
        self._standings: dict[EndpointState, _Standing] = {}
        self.ranked: list[_Standing] = []
        """Prefill endpoints as `best_pair` has ranked them."""

    def stand(self, state: EndpointState) -> _Standing:
        """What the request's parts would take there; looked at once."""
        known = self._standings.get(state)
        if known is None:
            known = self._standings[state] = self._look(state)
        return known

    def _look(self, state: EndpointState) -> _Standing:
        slate, now, prompt = self._slate, self._now, self.prompt
        settings = self._splits.settings
        ledger, timing = state.ledger, state.timing
        prefill, step = timing.prefill, timing.decode
        believed = slate.cached_tokens(state)
        cached = believed * state.trust.share
        slope, tilt = prefill.slope, prefill.tilt
        work = (prompt - cached) * slope + 0.5 * tilt * (prompt * prompt - cached * cached)
        wait = prefill.fixed
        if ledger.prefill_tokens:
            queued, context = ledger.queued_prefill(now, slope, tilt)
            wait += queued * slope + context * tilt
        others = float(ledger.decoding + ledger.awaiting)
        load = state.load
        if state.foreign_running and load is not None and load.age(now) <= SCRAPE_FRESH_SECONDS:
            others += state.foreign_running
        busy = self._splits.busy.get(state)
        share = 0.0 if busy is None else busy.share(now, settings.busy_seconds)
        itl = step.fixed + step.slope * (others + 1.0)
        itl += step.tilt * (ledger.context_tokens + prompt)
        itl /= 1.0 - share
        harm = others * (step.slope + step.tilt * prompt)
        cost = wait + work + self._price * others * work / self._length
        return _Standing(
            state, believed, work, wait + work, cost, itl, harm, self._price * (itl + harm)
        )

    def best_pair(
        self,
        decoders: Sequence[EndpointState],
        prefillers: Sequence[EndpointState],
        decode: _Standing | None,
    ) -> tuple[_Standing, _Standing, float] | None:
        """The pair of the lowest cost, for ``decode`` or the best of ``decoders``; or None."""
        ranked = [self.stand(state) for state in prefillers]
        ranked.sort(key=_prefill_cost)
        self.ranked = ranked
        if decode is None:
            sinks = [self.stand(state) for state in decoders]
            sinks.sort(key=self._sink_cost)
            sinks = sinks[:_DEEP]
        else:
            sinks = [decode]
        best: tuple[_Standing, _Standing, float] | None = None
        least = inf
        for source in ranked[:_DEEP]:
            for sink in sinks:
                if source.endpoint is sink.endpoint or not _fit(source.endpoint, sink.endpoint):
                    continue
                cost = source.prefill_cost + self.move(source, sink) + sink.itl + sink.sits
                if cost < least:
                    best, least = (source, sink, cost), cost
        return best

    def _sink_cost(self, one: _Standing) -> float:
        """Of decoding there, with what does not move because it is there already."""
        saved = one.cached * self._token_bytes / self._splits.settings.bandwidth
        return one.sits + one.itl - saved

    def tokens_to_move(self, sink: _Standing) -> float:
        """Tokens whose KV the decode endpoint lacks."""
        return max(self.prompt - sink.cached * sink.endpoint.trust.share, 0.0)

    def move(self, source: _Standing, sink: _Standing) -> float:
        """Seconds of the transfer."""
        amount = self.tokens_to_move(sink) * self._token_bytes
        links = self._splits.links
        return links.seconds_of(source.endpoint.endpoint, sink.endpoint.endpoint, amount, self._now)

    def leg(
        self, prefill: _Standing, decode: _Standing, others: tuple[EndpointState, ...]
    ) -> PrefillLeg:
        """The leg of a pair."""
        tokens = self.tokens_to_move(decode)
        return PrefillLeg(
            prefill.endpoint,
            self.prompt,
            prefill.cached,
            prefill.prefill,
            tokens,
            tokens * self._token_bytes,
            self.move(prefill, decode),
            others,
        )

    def others(self, prefill: _Standing, decode: _Standing) -> tuple[EndpointState, ...]:
        """The next best prefill endpoints for the same decode endpoint."""
        rest = [
            one.endpoint
            for one in self.ranked
            if one is not prefill
            and one.endpoint is not decode.endpoint
            and _fit(one.endpoint, decode.endpoint)
        ]
        return tuple(rest[:_OTHERS])

    def guard(self, prefill: _Standing, decode: _Standing) -> SplitReason | None:
        """Why the pair is not to be: one of its sides would starve. None: it may."""
        settings, slate = self._splits.settings, self._slate
        if prefill.prefill - prefill.work > settings.most_prefill_wait * slate.ttft_target:
            return SplitReason.GUARD_PREFILL
        size = decode.endpoint.cache_tokens
        if size is not None:
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


def _prefill_cost(one: _Standing) -> float:
    return one.prefill_cost


def _fit(source: EndpointState, sink: EndpointState) -> bool:
    """Whether the two speak the same KV-transfer protocol, as far as they say."""
    one, other = source.endpoint.connector, sink.endpoint.connector
    return not one or not other or one == other
