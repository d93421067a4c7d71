"""One endpoint, or one that computes the prompt and another one that decodes: which is better.

By the mode of the settings:

- ``adaptive``: whatever costs less by the formulas of `routing.pairs`, the best single endpoint or
  the best pair. Guards leave out pairs that would starve one of their sides: the prefill endpoint's
  queue is long, the decode endpoint's memory is nearly full, or too much lies on the prefill
  endpoint for nobody. Where no pair is left requests stay whole, as long as that lasts;
- ``always``: the best pair, where there is one;
- ``threshold``: llm-d's ``prefix-based-pd-decider``: the policy chooses where to decode, and the
  request is split when that endpoint lacks at least ``threshold_tokens`` of the prompt;
- ``dynamo``: the conditional rule of NVIDIA Dynamo's disaggregated router: the same with its
  ``max_local_prefill_length``, and only to prefill endpoints with fewer than
  ``max_prefill_queue_size`` requests (docs.nvidia.com/dynamo, "disaggregated serving");
- ``never``.

Pure, as everything in `routing`; what it learns are transfer times and how busy with prompts
endpoints are.
"""

from collections.abc import Sequence
from typing import Final

from routing.busyness import Busyness
from routing.decision import Decision
from routing.endpoint import EndpointState
from routing.legs import PrefillLeg
from routing.pairs import Standing, View, fit
from routing.policies.policy import Choice, Slate
from routing.splitrules import (
    ADAPTIVE,
    ALWAYS,
    DYNAMO,
    MODES,
    NEVER,
    SPLIT,
    THRESHOLD,
    DisaggregationSettings,
    SplitReason,
)
from routing.transfer import Link, Links

__all__ = [
    "ADAPTIVE",
    "ALWAYS",
    "DYNAMO",
    "MODES",
    "NEVER",
    "SPLIT",
    "THRESHOLD",
    "Disaggregation",
    "DisaggregationSettings",
    "Link",
    "SplitReason",
]

_PAIR: Final = (
    "{choice.score:.3f} s: {} computes {:.0f} tokens in {:.3f} s, {:.0f} tokens move in {:.3f} s, "
    "first token in {choice.predicted_ttft:.3f} s"
)
_WHOLE: Final = (
    "{choice.score:.3f} s as a whole: {choice.cached_tokens:.0f} cached, "
    "first token in {choice.predicted_ttft:.3f} s"
)


class Disaggregation:
    """Splits requests, or doesn't. One for each router."""

    def __init__(self, settings: DisaggregationSettings) -> None:
        self.settings = settings
        self.links = Links(settings.bandwidth, settings.links, settings.latency)
        """What transfers take."""
        self.decisions: dict[str, int] = {}
        """Requests by `SplitReason`, those that found prefill endpoints at all."""
        self.busyness = Busyness(settings.busy_seconds)
        """How much of their time endpoints spend on prompts."""

    # -- deciding --------------------------------------------------------------------------

    def plan(
        self, decision: Decision, slate: Slate, prefillers: Sequence[EndpointState], now: float
    ) -> None:
        """Give the decision a prefill leg, and a decode endpoint to go with it; or say why not."""
        reason = self._plan(decision, slate, prefillers, now)
        decision.split_reason = reason.value
        self.decisions[reason.value] = self.decisions.get(reason.value, 0) + 1

    def _plan(
        self, decision: Decision, slate: Slate, prefillers: Sequence[EndpointState], now: float
    ) -> SplitReason:
        mode = self.settings.mode
        if mode == NEVER:
            return SplitReason.NEVER
        if len(decision.request.chains) != 1:
            return SplitReason.UNSPLITTABLE
        limit = decision.request.max_output_tokens
        if limit is not None and limit <= 1:
            return SplitReason.SHORT_ANSWER
        view = View(
            self.settings,
            self.links,
            self.busyness,
            slate,
            prefillers,
            decision.choices[0].endpoint,
            self.bytes_per_token(decision.request.model),
            now,
        )
        if mode == ADAPTIVE:
            return self._adapt(view, decision, prefillers)
        if mode != ALWAYS:
            return self._by_rule(view, decision, prefillers)
        pair = view.best_pair(prefillers, None)
        if pair is None:
            return SplitReason.NO_PAIR
        self._split(view, decision, pair)
        return SplitReason.ALWAYS

    def _adapt(
        self, view: View, decision: Decision, prefillers: Sequence[EndpointState]
    ) -> SplitReason:
        settings = self.settings
        whole, cost = view.best_whole(decision.choices[0].endpoint)
        limit = cost * (1.0 - settings.least_gain)
        pair = view.best_pair(prefillers, None, guarded=True)
        if pair is None or pair[2] > limit or view.tokens_to_move(pair[1]) < settings.fewest_tokens:
            self._keep_whole(decision, whole, cost)
            if view.refused is not None and view.refused_cost <= limit:
                return view.refused
            if pair is None and view.refused is None:
                return SplitReason.NO_PAIR
            cached = view.tokens_to_move(whole) < settings.fewest_tokens
            return SplitReason.CACHED if cached else SplitReason.WHOLE_CHEAPER
        prefill, decode, _ = pair
        self._split(view, decision, pair)
        if prefill.cached > decode.cached + settings.fewest_tokens:
            return SplitReason.WARM
        return SplitReason.BURST if prefill.endpoint.endpoint.decodes else SplitReason.CHEAPER

    def _by_rule(
        self, view: View, decision: Decision, prefillers: Sequence[EndpointState]
    ) -> SplitReason:
        """The rules of llm-d and Dynamo: the decode endpoint first, by the policy; then whether."""
        settings = self.settings
        decode = view.stand(decision.choices[0].endpoint)
        uncached = view.tokens_to_move(decode)
        others = [state for state in prefillers if state is not decode.endpoint]
        if settings.mode == THRESHOLD:
            if uncached < settings.threshold_tokens:
                return SplitReason.BELOW
        else:
            if uncached <= settings.dynamo_local_tokens:
                return SplitReason.BELOW
            most, there = settings.dynamo_queue, bool(others)
            others = [state for state in others if state.ledger.requests < most]
            if there and not others:
                return SplitReason.QUEUED
        pair = view.best_pair(others, decode)
        if pair is None:
            return SplitReason.NO_PAIR
        self._split(view, decision, pair)
        return SplitReason.THRESHOLD if settings.mode == THRESHOLD else SplitReason.DYNAMO

    @staticmethod
    def _split(view: View, decision: Decision, pair: tuple[Standing, Standing, float]) -> None:
        """Have the pair do it."""
        prefill, decode, score = pair
        decision.prefill = leg = view.leg(prefill, decode)
        ttft = leg.seconds + leg.transfer_seconds + decode.itl
        facts = (
            leg.name,
            leg.uncached_tokens,
            leg.seconds,
            leg.transfer_tokens,
            leg.transfer_seconds,
        )
        _lead(decision, Choice(decode.endpoint, score, decode.cached, ttft, _PAIR, facts))

    @staticmethod
    def _keep_whole(decision: Decision, whole: Standing, cost: float) -> None:
        """Have one endpoint do it; where the policy has chosen it as well, its words stand."""
        if whole.endpoint is not decision.choices[0].endpoint:
            _lead(decision, Choice(whole.endpoint, cost, whole.cached, whole.start, _WHOLE))

    # -- what else is asked ----------------------------------------------------------------

    def replacement(
        self, decision: Decision, candidates: Sequence[EndpointState], now: float
    ) -> PrefillLeg | None:
        """A leg for the current endpoint by the first candidate that goes with it; or None."""
        old, decode, prompt = decision.prefill, decision.endpoint, decision.prompt_tokens
        if old is None:
            return None
        for place, state in enumerate(candidates):
            if state is decode or not fit(state, decode):
                continue
            cached = 0.0
            if state is old.endpoint:  # what it has computed once is likely still there
                cached = old.cached_tokens if old.done_at is None else max(prompt - 1.0, 0.0)
            line = state.timing.prefill
            ahead, before = state.ledger.queued_prefill(now, line.slope, line.tilt)
            own = prompt - cached * state.trust.share
            seconds = line.seconds(ahead + own, before + own * (prompt - own / 2.0))
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
                tuple(candidates[place + 1 :]),
                decision.attempt,
            )
        return None

    def booked(self, state: EndpointState, work: float, now: float) -> None:
        """The endpoint is to compute a prompt for ``work`` seconds."""
        self.busyness.booked(state, work, now)

    def forget(self, state: EndpointState) -> None:
        """The endpoint left."""
        self.busyness.forget(state)

    def bytes_per_token(self, model: str | None) -> float:
        """KV cache of one token of a model."""
        if model is None:
            return self.settings.bytes_per_token
        return self.settings.model_bytes_per_token.get(model, self.settings.bytes_per_token)


def _lead(decision: Decision, choice: Choice) -> None:
    """Rank ``choice`` first, and the others behind it; as many as there were."""
    others = [one for one in decision.choices if one.endpoint is not choice.endpoint]
    decision.choices = [choice, *others[: max(len(decision.choices) - 1, 0)]]
