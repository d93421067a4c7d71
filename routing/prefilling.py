"""What becomes of prefill legs: the second half of the router's reports, for split requests.

Two reservations are held for a split request, each given back on its own: the leg's on the prefill
endpoint until the prefill is over or given up, and the decision's on the decode endpoint, which
*awaits* the KV cache. When the leg is given up, the decode endpoint computes the whole prompt, and
its reservation is corrected to say so. Every report is idempotent; late ones are ignored.
"""

from math import inf
from typing import Final

from routing.decision import Decision, FailedAttempt, Phase
from routing.disaggregation import Disaggregation
from routing.endpoint import EndpointState
from routing.fleet import Fleet
from routing.legs import LegPhase, PrefillLeg
from routing.pinned import Pinned
from routing.prefix.views import Views

_TRUSTED: Final = 0.9


class Prefilling:
    """Books and learns what happens to prefill legs, for one router."""

    def __init__(
        self, fleet: Fleet, views: Views, disaggregation: Disaggregation, default_cache_tokens: int
    ) -> None:
        self._fleet = fleet
        self._views = views
        self._disaggregation = disaggregation
        self._default_cache_tokens = default_cache_tokens
        self.stranded_tokens = 0
        """KV tokens that were left for nobody, ever."""
        self._stranded: set[EndpointState] = set()  # where something is pinned for nobody

    # -- reservations ----------------------------------------------------------------------

    def reserve(self, decision: Decision, leg: PrefillLeg, now: float) -> None:
        """Book both halves: the prompt on the leg's endpoint, the answer on the decode one."""
        state, timing = leg.endpoint, leg.endpoint.timing
        prefill = timing.prefill
        self._fleet.sending(state, leg)
        ahead, before = state.ledger.queued_prefill(now, prefill.slope, prefill.tilt)
        leg.prefill_tokens = ahead + leg.own_tokens
        leg.prefill_context = before + leg.context
        unseen = inf
        if not decision.request.streamed:  # its end may show only with the end of the answer
            unseen = now + prefill.seconds(leg.prefill_tokens, leg.prefill_context)
        state.ledger.reserve(
            leg,
            leg.own_tokens,
            0,
            now,
            prefilled_at=unseen,
            prompt_tokens=round(leg.prompt_tokens),
            prefill_context=leg.context,
        )
        work = leg.own_tokens * prefill.slope + leg.context * prefill.tilt
        self._disaggregation.booked(state, work, now)
        decision.own_tokens = 0
        decision.prefill_tokens = decision.prefill_context = 0.0
        decision.endpoint.ledger.expect(
            decision, decision.output_tokens, round(decision.prompt_tokens)
        )

    def drop(self, decision: Decision, now: float, reason: str) -> None:
        """The decision's attempt is over: a leg that still runs is nobody's any more."""
        leg = decision.prefill
        if leg is not None and leg.in_flight and leg.enter(LegPhase.SKIPPED):
            leg.reason = reason
            self._release(leg, now)
            self._fleet.unproven(leg.endpoint, leg)

    # -- reports ---------------------------------------------------------------------------

    def sent(self, decision: Decision, now: float) -> None:
        """The leg went out: its prompt will be in that endpoint's cache."""
        leg = decision.prefill
        if leg is None or not leg.enter(LegPhase.SENT):
            return
        leg.sent_at = now
        state = leg.endpoint
        if self._belongs(state):
            tokens = state.cache_tokens
            if tokens is None:
                tokens = self._default_cache_tokens
            self._views.sent(state.name, decision.request, tokens, now)

    def done(
        self, decision: Decision, now: float, prompt_tokens: int | None, cached_tokens: int | None
    ) -> bool:
        """The prefill is over, its KV cache can be read; False when that is not news."""
        leg = decision.prefill
        if leg is None or not leg.enter(LegPhase.DONE):
            return False
        leg.done_at = now
        leg.reported_prompt_tokens = prompt_tokens
        leg.reported_cached_tokens = cached_tokens
        state = leg.endpoint
        self._release(leg, now)
        state.prefilled_tokens += leg.own_tokens
        if cached_tokens is not None:
            state.trust.observe(leg.cached_tokens, cached_tokens)
            self._fleet.table.touch(state)
        self._learn(leg, now)
        if self._belongs(state):
            self._fleet.observe_success(state.name, leg, now)
        self._fleet.table.settle()
        return True

    def give_up(self, decision: Decision, phase: LegPhase, now: float, reason: str) -> bool:
        """The leg failed or is skipped: the decode endpoint has the whole prompt to compute."""
        leg = decision.prefill
        if leg is None or not leg.enter(phase):
            return False
        leg.reason = reason
        self._release(leg, now)
        return True

    def blame(
        self, decision: Decision, leg: PrefillLeg, now: float, *, refused: bool, blameless: bool
    ) -> None:
        """Book a failure with whoever failed."""
        reason = "" if leg.reason is None else leg.reason
        decision.prefill_attempts.append(FailedAttempt(leg.name, now, reason, refused))
        if blameless:
            self._fleet.unproven(leg.endpoint, leg)
        elif self._belongs(leg.endpoint):
            self._fleet.observe_failure(leg.name, now, reason, refused=refused, request=leg)

    def stranded(self, decision: Decision, now: float, until: float) -> None:
        """Nobody will read the leg's KV cache: it stays pinned until its lease ends."""
        leg = decision.prefill
        if leg is None or leg.stranded_until is not None or until <= now:
            return
        if leg.sent_at is None and leg.done_at is None:  # nothing was ever computed there
            return
        leg.stranded_until = until
        tokens = round(leg.prompt_tokens)
        self.stranded_tokens += tokens
        state = leg.endpoint
        if state.pinned is None:
            state.pinned = Pinned()
        state.pinned.add(leg, tokens, until)
        self._stranded.add(state)

    def transferred(self, decision: Decision, now: float, amount: float, seconds: float) -> None:
        """The KV cache moved: ``amount`` bytes in ``seconds``. The first report counts."""
        leg = decision.prefill
        if leg is None or leg.transfer_observed is not None or leg.done_at is None:
            return
        if amount < 0.0 or seconds < 0.0:
            raise ValueError(f"a transfer can't be negative: {amount} bytes in {seconds} s")
        leg.transfer_observed = (amount, seconds)
        source, sink = leg.endpoint.endpoint, decision.endpoint.endpoint
        links = self._disaggregation.links
        if amount > 0.0 and seconds > 0.0:
            links.predicted += leg.transfer_seconds
        links.observe(source, sink, amount, seconds, now)

    def stranded_now(self, now: float) -> int:
        """KV tokens that lie somewhere for nobody now."""
        for state in list(self._stranded):
            if state.pinned is None or not state.pinned.expire(now):
                self._stranded.discard(state)
        return sum(state.pinned.tokens for state in self._stranded if state.pinned is not None)

    # -- within ----------------------------------------------------------------------------

    def _release(self, leg: PrefillLeg, now: float) -> None:
        leg.endpoint.ledger.release(leg, now)

    def _belongs(self, state: EndpointState) -> bool:
        return self._fleet.get(state.name) is state

    def _learn(self, leg: PrefillLeg, now: float) -> None:
        """A leg ends with its prefill: what it took teaches like a first token."""
        state, sent = leg.endpoint, leg.sent_at
        if sent is None:
            return
        surprise = 0.0
        if leg.reported_cached_tokens is not None:
            surprise = leg.uncached_tokens - max(
                leg.prompt_tokens - leg.reported_cached_tokens, 0.0
            )
        elif state.trust.share < _TRUSTED:
            return
        room = state.room_tokens
        if room is not None and room < leg.prefill_tokens:
            return  # it may have waited for room instead
        tokens = max(leg.prefill_tokens - surprise, 0.0)
        state.timing.observe_prefill(tokens, now - sent, leg.prefill_context)


def in_flight(decision: Decision) -> bool:
    """Whether the decision's current attempt may still need its prefill."""
    return decision.phase is Phase.ROUTED or decision.phase is Phase.SENT
