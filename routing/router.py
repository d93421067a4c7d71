"""The brain. Every body of the gateway asks it the same way, for every request:

    decision = router.route(request, now)       # a Decision, or a Rejection to answer with
    router.sent(decision, now)                  # the request is on its way to decision.endpoint
    router.first_token(decision, now)           # the prefill is over
    router.progress(decision, now, tokens)      # now and then
    router.finished(decision, now, ...)         # with what the engine reported

and, when things go wrong:

    router.failed(decision, now, reason)        # then: if router.retry(decision, now): send again
    router.abandoned(decision, now)             # the client went away

When `Decision.prefill` is there another endpoint computes the prompt, and its leg is told of too:

    router.prefill_sent(decision, now)
    router.prefill_done(decision, now, ...)     # then `sent`, to decision.endpoint
    router.prefill_failed(decision, now, reason)  # then: router.replan_prefill(decision, now)
    router.transferred(decision, now, bytes, seconds)
    router.stranded(decision, now, until)       # nobody will read what was computed

`route` reserves the predicted load on the chosen endpoint's ledger, each of the three ends
gives it back, and every report is idempotent, so a reservation can't leak and can't be given
back twice. `routing.decision` has the state machine. What happened is what the brain learns
from: the ledger (what is in flight), the prefix index (what is cached where), the time models
(how fast an endpoint is) and the token scale (how many tokens a text has).
"""

from collections import deque
from dataclasses import dataclass, field
from math import inf
from typing import Final

from routing.decision import Decision, FailedAttempt, Phase, Rejection, RejectionKind
from routing.disaggregation import Disaggregation, DisaggregationSettings
from routing.endpoint import Endpoint, EndpointState
from routing.fleet import Fleet
from routing.learning import TRUSTED, computed_tokens, learn_prefill, learn_times, learn_trust
from routing.legs import LegPhase, PrefillLeg
from routing.lengths import Lengths
from routing.loads import Group
from routing.policies.policy import Choice, Policy, Slate
from routing.prefilling import Prefilling, in_flight
from routing.prefix.index import PrefixIndex
from routing.prefix.residency import Residency
from routing.prefix.views import Views
from routing.receipts import Receipts
from routing.request import Request
from routing.retries import RetryBudget, RetrySettings
from routing.saturation import saturation
from routing.traffic import Traffic

_RESIDENCY_BYTES: Final = 256 << 20
_SWEEP_NODES: Final = 8  # nodes of dropped views given back with each request: a few microseconds


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """What the router is told rather than learns."""

    fallbacks: int = 3
    """Endpoints ranked behind the first choice, for retries."""
    default_cache_tokens: int = 500_000
    """KV cache size assumed of an engine that doesn't tell it."""
    max_requests_per_endpoint: int | None = None
    """Requests in flight at which an endpoint gets no more; None: no limit."""
    receipts: int = 256
    """Decisions kept for looking at."""
    expected_output_tokens: int = 256
    """Output assumed of a model's requests at first, unless their own limit is lower."""
    ttft_target: float = 2.0
    """Seconds in which a first token should come, unless the request says otherwise."""
    itl_target: float = 0.050
    """Seconds in which each further token should come, unless the request says otherwise."""
    retry_after: float = 1.0
    """Seconds after which a rejected client is asked to come again."""
    retries: RetrySettings = field(default_factory=RetrySettings)
    """How many retries there may be for the traffic there is."""
    disaggregation: DisaggregationSettings = field(default_factory=DisaggregationSettings)
    """When one endpoint computes the prompt and another one decodes."""


class Router:
    """Chooses endpoints and learns from what became of the choices."""

    def __init__(
        self,
        fleet: Fleet,
        prefix: PrefixIndex,
        policy: Policy,
        settings: RouterSettings,
        residency: Residency | None = None,
        receipts: Receipts | None = None,
    ) -> None:
        self.fleet = fleet
        self.prefix = prefix
        """What was sent where: the approximate view."""
        self.residency = Residency(_RESIDENCY_BYTES) if residency is None else residency
        """What engines report of their caches: the exact view."""
        self.views = Views(prefix, self.residency)
        self.receipts = receipts
        """What was known when requests were routed, and what became of them; None: not kept."""
        self.policy = policy
        self.settings = settings
        self.recent: deque[Decision] = deque(maxlen=settings.receipts)
        """The latest decisions, newest last."""
        self.retries = RetryBudget(settings.retries)
        """How much may be retried, and how much was."""
        self.traffic: Traffic | None = None
        """What requests were like, for whoever decides on the pool's size; None: nobody does."""
        self.disaggregation = Disaggregation(settings.disaggregation)
        """Decides whether requests are split."""
        self.prefilling = Prefilling(
            fleet, self.views, self.disaggregation, settings.default_cache_tokens
        )
        """What becomes of prefill legs."""
        self.lengths = Lengths(settings.expected_output_tokens)
        """How long prompts and answers are."""

    # -- deciding --------------------------------------------------------------------------

    def route(
        self, request: Request, now: float, arrived_at: float | None = None
    ) -> Decision | Rejection:
        """Choose an endpoint and fallbacks, and reserve the load on the first.

        ``arrived_at``: when the request came, if it had to wait until now.
        """
        self.prefix.sweep(_SWEEP_NODES)
        self.fleet.tick(now)
        self.retries.request(now)
        group = self.fleet.candidates(request.model)
        if group is None:
            return self._nobody(request.model, now, arrived_at)
        if request.within is not None:
            inside = [state for state in group.endpoints if state.name in request.within]
            if not inside:
                self._refused(now, arrived_at)
                return Rejection(
                    RejectionKind.NO_ENDPOINT,
                    "no healthy endpoint among those that the request is limited to",
                    self.settings.retry_after,
                )
            if len(inside) < len(group.endpoints) or group.prefillers:
                prefillers = [one for one in group.prefillers if one.name in request.within]
                group = Group(inside, self.fleet.table, prefillers)
        limit = self.settings.max_requests_per_endpoint
        if limit is not None:
            free = [state for state in group.endpoints if state.ledger.requests < limit]
            if not free:
                self._refused(now, arrived_at)
                return Rejection(
                    RejectionKind.OVERLOADED,
                    f"every endpoint has its {limit} requests in flight",
                    self.settings.retry_after,
                )
            if len(free) < len(group.endpoints) or group.prefillers:
                prefillers = [one for one in group.prefillers if one.ledger.requests < limit]
                group = Group(free, self.fleet.table, prefillers)
        slate = self._slate(request, group, now)
        decision = Decision(
            request=request,
            policy=self.policy.name,
            at=now,
            choices=self.policy.pick(request, slate, now, 1 + self.settings.fallbacks),
            prompt_tokens=slate.prompt_tokens,
            output_tokens=slate.output_tokens,
        )
        if arrived_at is not None:
            decision.arrived_at = arrived_at
        if group.prefillers:
            self.disaggregation.plan(decision, slate, group.prefillers, now)
        if request.token_chains is not None and self.residency.sizes:
            scale = slate.block_tokens / request.block_tokens
            decision.views = [
                self.views.explain(request, choice.endpoint.name, now, scale)
                for choice in decision.choices
            ]
        if self.receipts is not None:
            self.receipts.routed(decision, now)
        self._reserve(decision, now)
        if self.traffic is not None:
            self.traffic.route(decision, now)
        self.recent.append(decision)
        return decision

    def adopt(
        self, request: Request, choice: Choice, prefill: PrefillLeg | None, now: float
    ) -> Decision:
        """Follow a request for which somebody else chose, as if `route` had."""
        self.fleet.tick(now)
        self.retries.request(now)
        decision = Decision(
            request=request,
            policy="adopted",
            at=now,
            choices=[choice],
            prompt_tokens=request.prompt_tokens,
            output_tokens=self.lengths.output_of(request),
        )
        decision.prefill = prefill
        self._reserve(decision, now)
        self.recent.append(decision)
        return decision

    def retry(self, decision: Decision, now: float) -> bool:
        """After a failure: move to the next choice that can still take it; False when none.

        Also False when the retry budget is spent: `Decision.retry_denied` then says so.
        """
        if decision.phase is not Phase.FAILED:
            return False
        # A KV cache can be read once, and the next endpoint was never promised it: it computes the
        # prompt itself, unless `replan_prefill` finds somebody who does.
        for attempt in range(decision.attempt + 1, len(decision.choices)):
            state = decision.choices[attempt].endpoint
            if state.available and self._belongs(state):
                if not self.retries.allow(now):
                    decision.retry_denied = "the retry budget is spent"
                    return False
                decision.attempt = attempt
                decision.enter(Phase.ROUTED)
                decision.sent_at = decision.first_token_at = decision.finished_at = None
                self._reserve(decision, now)
                return True
        return False

    # -- what became of it -----------------------------------------------------------------

    def sent(self, decision: Decision, now: float) -> None:
        """The request went out: its prompt will be in that endpoint's cache."""
        if not decision.enter(Phase.SENT):
            return
        decision.sent_at = now
        state = decision.endpoint
        if decision.prefill is not None and decision.split:
            leg = decision.prefill
            leg.decode_sent_at = now
            if leg.sent_at is not None:
                decision.sent_at = leg.sent_at  # the wait for the first token began there
            if not decision.request.streamed and leg.done_at is not None:
                state.ledger.prefilled(decision, now)  # no first token will tell
        if self._belongs(state):
            tokens = state.cache_tokens
            if tokens is None:
                tokens = self.settings.default_cache_tokens
            # Answers take room from prompts; this prompt will have its own in any case.
            room = max(tokens - state.answer_tokens, min(tokens, round(decision.prompt_tokens)))
            self.views.sent(state.name, decision.request, room, now)

    def served_by(self, decision: Decision, name: str, now: float) -> None:
        """Another endpoint than the current choice answers: whoever carries the request says so.

        Its load moves there. The one that was chosen is not blamed: why it was passed over is
        not known.
        """
        passed_over = decision.endpoint
        if name == passed_over.name or decision.phase not in {Phase.ROUTED, Phase.SENT}:
            return
        state = self.fleet.get(name)
        if state is None:
            return
        passed_over.ledger.release(decision, now)
        self.fleet.unproven(passed_over, decision)
        for attempt, choice in enumerate(decision.choices):
            if choice.endpoint is state:
                decision.attempt = attempt
                break
        else:
            decision.attempt = len(decision.choices)
            decision.choices.append(Choice(state, inf, 0.0, None, "chosen by the proxy"))
            decision.views = None  # they are told for each choice, and of this one nothing is
        self._reserve(decision, now)
        if decision.phase is Phase.SENT:
            tokens = state.cache_tokens
            if tokens is None:
                tokens = self.settings.default_cache_tokens
            self.views.sent(name, decision.request, tokens, now)

    def first_token(self, decision: Decision, now: float) -> None:
        """The first token (or the first byte of an unstreamed answer) came."""
        if not decision.enter(Phase.DECODING):
            return
        decision.first_token_at = now
        state = decision.endpoint
        self.fleet.answered(state, decision, now)
        state.ledger.prefilled(decision, now)
        decision.decoding_with = state.ledger.decoding
        state.prefilled_tokens += decision.own_tokens
        decision.prefilled_before = computed_tokens(state, now)
        decision.context_with = state.ledger.context_tokens
        # The first byte of an unstreamed answer comes after its last token: no prefill time.
        # And when caches are not what they seem, how much was computed shows only at the end.
        if decision.prefill is not None and decision.split:
            self._moved(decision, now)
        elif decision.request.streamed and state.trust.share >= TRUSTED:
            learn_prefill(decision, now, 0.0)
        if self.traffic is not None:
            self.traffic.begin(decision, now)
        self.fleet.table.settle()

    def progress(self, decision: Decision, now: float, tokens: int) -> None:
        """The request has produced ``tokens`` tokens so far."""
        if decision.phase is Phase.DECODING:
            decision.endpoint.ledger.progressed(decision, tokens)

    def finished(
        self,
        decision: Decision,
        now: float,
        *,
        prompt_tokens: int | None = None,
        cached_tokens: int | None = None,
        completion_tokens: int | None = None,
    ) -> None:
        """The answer is complete; the counts are the engine's own, None when not reported."""
        if not decision.enter(Phase.DONE):
            return
        state = decision.endpoint
        whole = decision.prefill is None or not decision.split
        if whole and learn_trust(decision, cached_tokens):
            self.fleet.table.touch(state)
        learn_times(decision, now, completion_tokens)
        self._end(decision, now)
        decision.reported_prompt_tokens = prompt_tokens
        decision.reported_cached_tokens = cached_tokens
        decision.reported_completion_tokens = completion_tokens
        self.lengths.observe(decision.request, prompt_tokens, completion_tokens)
        if self._belongs(state):
            self.fleet.observe_success(state.name, decision, now)
        if self.traffic is not None:
            self.traffic.finish(decision, now)
        self.fleet.table.settle()

    def failed(
        self,
        decision: Decision,
        now: float,
        reason: str,
        *,
        refused: bool = False,
        blameless: bool = False,
    ) -> None:
        """The attempt failed through the endpoint.

        ``refused``: it did not even accept the connection; ``blameless``: it is well and just
        has no room.
        """
        if not decision.enter(Phase.FAILED):
            return
        self._end(decision, now)
        state = decision.endpoint
        decision.attempts.append(FailedAttempt(state.name, now, reason, refused))
        if self.traffic is not None:
            self.traffic.fail(now)
        if blameless:
            self.fleet.unproven(state, decision)
        elif self._belongs(state):
            self.fleet.observe_failure(state.name, now, reason, refused=refused, request=decision)

    def abandoned(self, decision: Decision, now: float) -> None:
        """The client went away: nobody's fault."""
        if decision.enter(Phase.ABANDONED):
            self._end(decision, now)
            self.fleet.unproven(decision.endpoint, decision)

    # -- what became of its prefill leg, where another endpoint computes the prompt -------------

    def prefill_sent(self, decision: Decision, now: float) -> None:
        """The prefill leg went out."""
        if in_flight(decision):
            self.prefilling.sent(decision, now)

    def prefill_done(
        self,
        decision: Decision,
        now: float,
        prompt_tokens: int | None = None,
        cached_tokens: int | None = None,
    ) -> None:
        """The prompt is computed, and waits to be read; the counts are the prefill engine's own."""
        self.prefilling.done(decision, now, prompt_tokens, cached_tokens)

    def prefill_failed(
        self,
        decision: Decision,
        now: float,
        reason: str,
        *,
        refused: bool = False,
        blameless: bool = False,
    ) -> None:
        """The leg failed through its endpoint: the decode endpoint computes the whole prompt now.

        ``refused``: it did not even accept the connection; ``blameless``: it is well and just
        has no room, or was too slow for us. Then `replan_prefill` may find another one.
        """
        if self.prefilling.give_up(decision, LegPhase.FAILED, now, reason):
            leg = decision.prefill
            assert leg is not None
            self.prefilling.blame(decision, leg, now, refused=refused, blameless=blameless)
            self._compute_there(decision, now)

    def prefill_skipped(self, decision: Decision, now: float, reason: str) -> None:
        """The leg is not needed, or not waited for: nobody's fault. Otherwise as when it failed."""
        leg = decision.prefill
        if self.prefilling.give_up(decision, LegPhase.SKIPPED, now, reason):
            assert leg is not None
            self.fleet.unproven(leg.endpoint, leg)
            self._compute_there(decision, now)

    def replan_prefill(self, decision: Decision, now: float) -> bool:
        """After a leg was given up, or its decode endpoint failed: another one; False when none.

        Also False when the retry budget is spent: `Decision.retry_denied` then says so. True:
        `Decision.prefill` is a new leg, planned and reserved.
        """
        old = decision.prefill
        if old is None or decision.split or not in_flight(decision):
            return False
        tried = {attempt.endpoint for attempt in decision.prefill_attempts}
        candidates = [
            state
            for state in (old.endpoint, *old.others)
            if state.available and self._belongs(state) and state.name not in tried
        ]
        leg = self.disaggregation.replacement(decision, candidates, now)
        if leg is None:
            return False
        if not self.retries.allow(now):
            decision.retry_denied = "the retry budget is spent"
            return False
        decision.endpoint.ledger.release(decision, now)
        decision.prefill = leg
        self.prefilling.reserve(decision, leg, now)
        return True

    def stranded(self, decision: Decision, now: float, until: float) -> None:
        """What the leg computed will be read by nobody; it lies there until its lease ends."""
        self.prefilling.stranded(decision, now, until)

    def transferred(
        self,
        decision: Decision,
        now: float,
        bytes: float,  # noqa: A002
        seconds: float,
    ) -> None:
        """The KV cache moved to the decode endpoint. Where nobody tells, it is inferred."""
        self.prefilling.transferred(decision, now, bytes, seconds)

    def _compute_there(self, decision: Decision, now: float) -> None:
        """The decode endpoint's reservation becomes that of a whole request."""
        if in_flight(decision):
            decision.endpoint.ledger.release(decision, now)
            self._reserve(decision, now)

    def _moved(self, decision: Decision, now: float) -> None:
        """A first token after a split: what it waited for beyond one step was the transfer."""
        leg, state = decision.prefill, decision.endpoint
        if leg is not None and leg.in_flight:  # whoever carries it doesn't see its prefill end
            leg.endpoint.ledger.release(leg, now)
        if leg is None or leg.done_at is None or leg.decode_sent_at is None:
            return
        room = state.room_tokens
        if not decision.request.streamed or (room is not None and room < decision.prompt_tokens):
            return  # it may have waited for room instead
        began = max(leg.done_at, leg.decode_sent_at)
        ledger = state.ledger
        step = state.timing.inter_token_seconds(ledger.decoding, ledger.context_tokens)
        seconds = max(now - began - step, 1e-3)
        self.transferred(decision, now, leg.transfer_bytes, seconds)

    def over(self, decision: Decision) -> None:
        """No further attempt will be made: its receipt is complete. Idempotent."""
        if self.receipts is not None:
            self.receipts.observe(decision)

    # -- the fleet, as far as the prefix index follows it ----------------------------------

    def upsert_endpoint(self, endpoint: Endpoint, now: float) -> EndpointState:
        """`Fleet.upsert`; a known name at a new address starts with an empty cache."""
        known = self.fleet.get(endpoint.name)
        if known is not None and known.endpoint.url != endpoint.url:
            self.views.restarted(endpoint.name)
        return self.fleet.upsert(endpoint, now)

    def saturated(self, model: str | None, now: float) -> bool:
        """Whether who serves ``model`` is so busy that requests which may be shed should be."""
        group = self.fleet.candidates(model)
        return group is not None and saturation(group.endpoints, now) >= 1.0

    def remove_endpoint(self, name: str) -> EndpointState | None:
        """Take an endpoint out; what is in flight there may still end well."""
        self.views.forget(name)
        state = self.fleet.remove(name)
        if state is not None:
            self.disaggregation.forget(state)
        return state

    def restarted(self, name: str) -> None:
        """The endpoint's engine came back with an empty cache."""
        self.views.restarted(name)
        state = self.fleet.get(name)
        if state is not None:
            state.trust.forget()
            state.pinned = None
            self.fleet.table.touch(state)

    # -- within ----------------------------------------------------------------------------

    def _refused(self, now: float, arrived_at: float | None) -> None:
        if self.traffic is not None and arrived_at is None:  # one that waits is counted already
            self.traffic.refuse(now)

    def _nobody(self, model: str | None, now: float, arrived_at: float | None) -> Rejection:
        self._refused(now, arrived_at)
        if model is not None and not self.fleet.knows(model) and not self.fleet.undecided:
            return Rejection(RejectionKind.UNKNOWN_MODEL, f"no endpoint serves the model {model!r}")
        wanted = "" if model is None else f" for {model!r}"
        again = self.fleet.reopens_at(model)
        if again is not None:
            return Rejection(
                RejectionKind.NO_ENDPOINT,
                f"requests to every healthy endpoint{wanted} failed lately",
                max(again - now, 0.0),
            )
        return Rejection(
            RejectionKind.NO_ENDPOINT, f"no healthy endpoint{wanted}", self.settings.retry_after
        )

    def _belongs(self, state: EndpointState) -> bool:
        """Whether this very state is in the fleet: it may have left, and its name come back."""
        return self.fleet.get(state.name) is state

    def _slate(self, request: Request, group: Group, now: float) -> Slate:
        """What is expected of the request, and who has how much of it cached."""
        settings, scale = self.settings, self.lengths.scale_of(request)
        ttft_target, itl_target = request.ttft_target, request.itl_target
        return Slate(
            group=group,
            held=self.views.look(request, group, now, scale),
            block_tokens=request.block_tokens * scale,
            prompt_tokens=request.prompt_tokens * scale,
            output_tokens=self.lengths.output_of(request),
            ttft_target=settings.ttft_target if ttft_target is None else ttft_target,
            itl_target=settings.itl_target if itl_target is None else itl_target,
        )

    def _reserve(self, decision: Decision, now: float) -> None:
        state = decision.endpoint
        self.fleet.sending(state, decision)
        leg = decision.prefill
        if leg is not None and decision.split:
            self.prefilling.reserve(decision, leg, now)
            return
        prompt = decision.prompt_tokens
        cached = decision.predicted_cached_tokens * state.trust.share
        own = max(round(prompt - cached), 0)
        context = max(round((prompt * prompt - cached * cached) / 2.0), 0)
        timing = state.timing
        prefill = timing.prefill
        ahead, before = state.ledger.queued_prefill(now, prefill.slope, prefill.tilt)
        decision.own_tokens = own
        decision.prefill_tokens = ahead + own
        decision.prefill_context = before + context
        unseen = inf
        if not decision.request.streamed:
            unseen = now + timing.prefill_seconds(ahead + own, before + context)
        state.ledger.reserve(
            decision,
            own,
            decision.output_tokens,
            now,
            prefilled_at=unseen,
            prompt_tokens=round(prompt),
            prefill_context=context,
        )
        if decision.split_reason:
            work = own * prefill.slope + context * prefill.tilt
            self.disaggregation.booked(state, work, now)

    def _end(self, decision: Decision, now: float) -> None:
        decision.endpoint.ledger.release(decision, now)
        decision.finished_at = now
        if decision.prefill is not None:
            self.prefilling.drop(decision, now, "the request ended")
