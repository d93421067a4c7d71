"""A request whose prompt one endpoint computes and another one continues: two legs, one answer.

Stages, beside the phases of a delivery, which are those of the leg that answers::

    PREFILLING --answered, KV offered--> HANDED ---------> the answer is relayed
      |   ^  |                             |
      |   |  +--failed, slow, no KV--+     | the decode endpoint failed: the KV is left to its lease
      |   +---another prefill leg----+     v
      |                              +-> LOCAL ----------> the answer is relayed
      +--4xx--> that is the answer          ^
                                            |
    MEETING --decode answers--------------------> relayed; the prefill leg ends on its own
      |   ^                                 |
      |   +--prefill failed: both anew------+ or no other one is left

A sequential connector begins in PREFILLING, a concurrent one in MEETING, where both legs are out at
once. In LOCAL the decode endpoint gets the client's own body and computes the prompt itself. A
request is answered by exactly one decode leg: before another one is sent, the former is cut, and
after the first relayed byte there is no other one.

KV that was computed and will not be read stays pinned on the prefill endpoint until its lease ends:
the brain is told (`stranded`), whichever way it came about.
"""

from enum import Enum
from typing import Final

from endpoints.engines.transfer.answer import PrefillAnswer, read_answer
from endpoints.engines.transfer.dialect import Leg, NoHandoverError
from gateway.apis.call import Api, ApiError
from gateway.proxy.carrier import ClientSide, Owner, Phase
from gateway.proxy.context import ProxyContext
from gateway.proxy.delivery import Delivery
from gateway.proxy.heads import Headers, RequestHead
from gateway.proxy.legplan import LegPlan, leg_body, leg_head, plan_legs
from gateway.proxy.legrun import LegRun, RunOwner
from gateway.proxy.restoring import UsageRestorer, with_length
from gateway.record import RequestRecord, SplitRecord
from routing.decision import Decision
from routing.legs import PrefillLeg
from routing.router import Router

_TOLD_IN_STREAM: Final = frozenset({"stream_error", "empty_stream"})
"""Failures that engines tell inside of a 200: they answer before they have the KV."""


class Stage(Enum):
    """Where the two legs are."""

    PREFILLING = 1  # the prefill leg is out, the decode leg waits for it
    MEETING = 2  # both are out
    HANDED = 3  # the decode leg is out, and knows where the KV is
    LOCAL = 4  # the decode leg is out, and computes the prompt itself


class SplitDelivery(Delivery, RunOwner):
    """One request in two legs, from the first of them to the end of the answer."""

    def __init__(
        self,
        context: ProxyContext,
        client: ClientSide,
        owner: Owner,
        head: RequestHead,
        body: bytes,
        record: RequestRecord,
        api: Api,
        router: Router,
        decision: Decision,
        *,
        keep_alive: bool,
        asked_model: str = "",
    ) -> None:
        super().__init__(
            context,
            client,
            owner,
            head,
            body,
            record,
            api,
            router,
            decision,
            keep_alive=keep_alive,
            asked_model=asked_model,
        )
        self._whole = body  # as the client wrote it
        self._stage = Stage.LOCAL
        self._run: LegRun | None = None
        self._tries = 0  # prefill legs so far
        self._legs: LegPlan | None = None  # of the latest prefill leg
        self._decode_leg: Leg | None = None  # what the decode leg says besides the body
        self._prefill_sent = 0.0
        self._prefill_until = 0.0
        self._kv_until: float | None = None  # end of the lease of KV that nobody has read yet
        self._restorer: UsageRestorer | None = None
        self._held_head: tuple[int, Headers] | None = None
        split = SplitRecord()
        record.split = split
        self._split = split

    # --- planning ----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin with the prefill leg, if it can be."""
        self._plan()

    def _again(self) -> None:
        """Another decode endpoint: the KV was not meant for it, but another leg may be found."""
        if self._replan():
            self._plan()
        elif self._alone:
            self._local("decode_failed")
        else:
            self._nobody()

    @property
    def _alone(self) -> bool:
        """Whether a decode endpoint can answer without a prefill leg."""
        return self._legs is None or self._legs.dialect.alone

    def _nobody(self) -> None:
        """No prefill leg is left for a decode endpoint that needs one."""
        if not self._try_next("prefill_failed", blameless=True):
            failures = ", ".join(self._split.prefill_failures) or "there is none"
            message = f"No endpoint could compute the prompt ({failures})."
            self._give_up(ApiError(502, "prefill_failed", message, retry_after=1))

    def _replan(self) -> bool:
        """Whether there is another prefill leg to try."""
        if self._tries > self._context.settings.prefill_retries:
            return False
        return self.router.replan_prefill(self.decision, self._context.now())

    def _plan(self) -> None:
        """Send what the decision says; without KV to hand over the decode leg alone."""
        context, leg = self._context, self.decision.prefill
        self._restorer = None
        if leg is None or not self.decision.split:
            self._local("")
            return
        suffix = f"-p{self._tries}" if self._tries else ""
        name = self._record.request_id + suffix
        try:
            legs = plan_legs(context, self.decision, leg, self._api.name, self._whole, name)
        except NoHandoverError as error:
            self.router.prefill_skipped(self.decision, context.now(), error.reason)
            self._local(error.reason)
            return
        self._send_legs(leg, legs)

    def _send_legs(self, leg: PrefillLeg, legs: LegPlan) -> None:
        """Send the prefill leg, and the decode leg with it if they are to meet."""
        context = self._context
        self._legs = legs
        self._tries += 1
        self._split.connector = legs.dialect.name
        self._split.prefill_endpoint = leg.name
        self._stage = Stage.MEETING if legs.concurrent else Stage.PREFILLING
        self._prefill_sent = now = context.now()
        budget = context.patience.budget(leg.name, leg.seconds)
        self._prefill_until = now + budget
        if legs.decode is not None:
            self._decode_leg = legs.decode
            self._body = leg_body(self._whole, legs.decode)
            self._attempt()
        else:
            self._phase = Phase.CONNECTING
        self._expect_within(budget, now)
        pool = context.pools.of(leg.endpoint.endpoint)
        body = leg_body(self._whole, legs.prefill)
        name = legs.handover.request_id
        head = leg_head(
            self._head, self._authority_of(pool), legs.prefill, name, len(body), self._client.origin
        )
        self._run = LegRun(pool, head, body, self, drain=legs.concurrent)
        self._run.start()

    def _local(self, cause: str) -> None:
        """Have the decode endpoint compute the prompt; ``cause`` is for the books."""
        if cause:
            self._split.fallback = cause
        self._stage = Stage.LOCAL
        self._decode_leg = None
        self._restorer = None
        self._body = self._whole
        self._attempt()

    # --- the decode leg ----------------------------------------------------------------------

    def _attempt(self, *, fresh: bool = False) -> None:
        # While a prompt was computed elsewhere, a pool without connections may have been dropped.
        self._pool = self._context.pools.of(self.decision.endpoint.endpoint)
        super()._attempt(fresh=fresh)

    def _request_head(self) -> bytes:
        leg, record = self._decode_leg, self._record
        if leg is None:
            return super()._request_head()
        suffix = f"-{record.attempts - 1}" if record.attempts > 1 else ""
        name = f"{record.request_id}{suffix}"
        authority, origin = self._authority_of(self._pool), self._client.origin
        return leg_head(self._head, authority, leg, name, len(self._body), origin)

    def _hand_over(self, leg: Leg, answer: PrefillAnswer) -> None:
        """The prompt is computed: let the decode endpoint go on from there."""
        assert self._legs is not None
        self._decode_leg = leg
        self._body = leg_body(self._whole, leg)
        self._stage = Stage.HANDED
        if self._legs.dialect.restores_usage and answer.cached_tokens is not None:
            self._restorer = UsageRestorer(answer.cached_tokens)
        self._attempt()

    # --- the prefill leg ---------------------------------------------------------------------

    def run_sent(self) -> None:
        """The prefill leg went out."""
        self._prefill_sent = self._context.now()
        self.router.prefill_sent(self.decision, self._prefill_sent)

    def run_answered(self, status: int, headers: Headers, body: bytes) -> None:
        """The prefill leg was answered: well, or not."""
        self._run = None
        if status >= 500 or status in self._context.settings.retry_statuses:
            self._prefill_failed(f"status_{status}", blameless=status == 429)
        elif status >= 400:
            self._pass_on(status, headers, body)
        elif status != 200:
            self._prefill_failed(f"status_{status}")
        elif self._stage is Stage.MEETING:
            self._prefill_done(None, None)
            if self._waiting:
                self._expect_within(self._context.settings.first_byte_timeout, self._context.now())
        else:
            self._read_answer(body)

    def _read_answer(self, body: bytes) -> None:
        legs = self._legs
        assert legs is not None
        try:
            answer = read_answer(body)
        except ValueError:
            self._prefill_failed("bad_answer")
            return
        if answer.failure is not None:
            self._prefill_failed(f"finished_{answer.failure}")
            return
        try:
            leg = legs.dialect.decode(legs.handover, answer)
        except NoHandoverError as error:
            if answer.params is not None:  # it holds KV that nobody can be told of
                self._kv_until = self._lease_end()
                self._strand()
            self._fail_leg(error.reason, refused=False, blameless=False)
            self._local(error.reason)
            return
        self._prefill_done(answer.prompt_tokens, answer.cached_tokens)
        self._hand_over(leg, answer)

    def _prefill_done(self, prompt_tokens: int | None, cached_tokens: int | None) -> None:
        now = self._context.now()
        self._context.patience.in_time(self._split.prefill_endpoint)
        self.router.prefill_done(self.decision, now, prompt_tokens, cached_tokens)
        self._split.prefill_seconds = now - self._prefill_sent
        if self._phase is not Phase.RELAYING:
            self._kv_until = self._lease_end()

    def _lease_end(self) -> float | None:
        """When KV that is offered now is given up; None: it is pinned for nobody."""
        assert self._legs is not None
        lease = self._legs.dialect.lease_seconds(self._legs.handover.prefill)
        return None if lease is None else self._context.now() + lease

    def run_lost(self, reason: str, *, refused: bool) -> None:
        """The prefill endpoint gave no answer."""
        self._run = None
        self._prefill_failed(reason, refused=refused)

    def _prefill_failed(
        self, reason: str, *, refused: bool = False, blameless: bool = False
    ) -> None:
        """The prefill leg failed: another one, or none."""
        if self._phase is Phase.RELAYING or self._phase is Phase.OVER:
            return  # it met the decode leg before
        if refused:
            self._forget_facts()  # it may come back as another engine
        self._fail_leg(reason, refused=refused, blameless=blameless)
        self._cut_decode_leg()
        if self._replan():
            self._plan()
        elif self._alone:
            self._local(reason)
        else:
            self._nobody()

    def _forget_facts(self) -> None:
        if self._legs is not None:
            self._context.kv_facts.forget(self._legs.dialect, self._legs.handover.prefill)

    def _fail_leg(self, reason: str, *, refused: bool, blameless: bool) -> None:
        self._split.prefill_failures += (reason,)
        self.router.prefill_failed(
            self.decision, self._context.now(), reason, refused=refused, blameless=blameless
        )

    def _cut_decode_leg(self) -> None:
        """Take back a decode leg that waits for KV which will not come."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self._drop_upstream()

    def _drop_run(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.cancel()

    def _pass_on(self, status: int, headers: Headers, body: bytes) -> None:
        """The prefill endpoint refuses the request itself: so would any other one."""
        self._cut_decode_leg()
        now, record = self._context.now(), self._record
        self.router.prefill_skipped(self.decision, now, f"status_{status}")
        self.router.abandoned(self.decision, now)
        record.endpoint = self._split.prefill_endpoint
        relay = self._new_relay()
        relay.head(status, headers)
        if body:
            relay.data(body, now)
        relay.end()
        self._phase = Phase.OVER
        self._owner.delivered(relay, f"status_{status}")

    # --- failures of the decode leg ------------------------------------------------------------

    def _strand(self) -> None:
        """KV that was computed will not be read: it stays where it is until its lease ends."""
        until, self._kv_until = self._kv_until, None
        leg = self.decision.prefill
        if until is None or leg is None or leg.stranded_until is not None:
            return
        self.router.stranded(self.decision, self._context.now(), until)
        self._split.stranded_tokens += round(leg.prompt_tokens)

    def _try_next(self, reason: str, *, refused: bool = False, blameless: bool = False) -> bool:
        if self._expects_kv and reason in _TOLD_IN_STREAM:
            return self._handover_failed(f"decode_{reason}")
        self._strand()
        self._drop_run()
        return super()._try_next(reason, refused=refused, blameless=blameless)

    @property
    def _expects_kv(self) -> bool:
        return self._stage is Stage.HANDED or self._stage is Stage.MEETING

    def response_head(self, status: int, headers: Headers) -> None:
        """A head of the decode leg came."""
        broken = status >= 500 and status not in self._context.settings.retry_statuses
        # It could not get the KV, or not use it: the endpoint may be well otherwise.
        if self._expects_kv and broken and self._handover_failed(f"decode_status_{status}"):
            return
        restorer = self._restorer
        super().response_head(status, headers)
        if restorer is None or self._restorer is not restorer or self._relay is None:
            return
        if status >= 300:
            self._restorer = None
            return
        restorer.streams = self._relay.is_event_stream
        self._held_head = None if restorer.streams else (status, headers)

    def _handover_failed(self, reason: str) -> bool:
        """The same decode endpoint again: the pair is to blame, not it. False: that can't be."""
        self._strand()
        self._drop_run()
        self._forget_facts()
        self._fail_leg(reason, refused=False, blameless=True)
        if self._alone:
            self._cut_decode_leg()
            self._local(reason)
            return True
        if self._replan():
            self._cut_decode_leg()
            self._plan()
            return True
        return False

    # --- the answer ----------------------------------------------------------------------------

    def response_data(self, data: bytes) -> None:
        """A piece of the answer came."""
        if self._restorer is not None:
            data = self._restorer.feed(data)
            if not data:
                return
        super().response_data(data)
        if self._phase is Phase.RELAYING:
            self._kv_until = None  # it was read
            self._whole = b""

    def response_complete(self) -> None:
        """The answer is whole."""
        restorer, self._restorer = self._restorer, None
        if restorer is not None:
            rest = restorer.rest()
            if self._held_head is not None and self._relay is not None:
                status, headers = self._held_head
                self._relay.head(status, with_length(headers, len(rest)))
            if rest:
                upstream = self._upstream
                super().response_data(rest)
                if self._upstream is not upstream or self._phase is not Phase.RELAYING:
                    return  # it was given up because of what it says
        super().response_complete()
        if self._phase is Phase.OVER:
            self._ended()

    def _ended(self) -> None:
        """The decode leg is over and answered."""
        relay = self._relay
        if relay is not None and relay.status < 400:
            self._kv_until = None
        else:
            self._drop_run()
        self._strand()
        leg = self.decision.prefill
        if leg is not None and leg.transfer_observed is not None:
            moved, self._split.transfer_seconds = leg.transfer_observed
            self._split.transfer_bytes = moved or None  # a sidecar knows of no size
        run, self._run = self._run, None
        if run is not None and not run.over:
            # Cut now, it would take away KV that may still be on its way.
            run.detach(_Finishing(self._context, self.router, self.decision))

    def response_failed(self, reason: str, *, untouched: bool) -> None:
        """The decode leg's connection ended first."""
        if self._relay is not None and self._relay.committed:
            self._drop_run()
        super().response_failed(reason, untouched=untouched)

    @property
    def _waiting(self) -> bool:
        """Whether nothing was relayed yet."""
        return self._phase is Phase.CONNECTING or self._phase is Phase.WAITING

    # --- time and the end ------------------------------------------------------------------------

    def timed_out(self) -> None:
        """The deadline on the client's side passed."""
        now = self._context.now()
        whole = now - self._record.started >= self._context.settings.request_timeout
        waiting = self._waiting
        if not whole and waiting and self._run is not None and now >= self._prefill_until:
            self._too_slow(now)
            return
        if self._stage is Stage.PREFILLING and self._run is not None:
            self._drop_run()
            seconds = self._context.settings.request_timeout
            self._fail_leg("request_timeout", refused=False, blameless=False)
            self.router.abandoned(self.decision, now)
            self._give_up(
                ApiError(504, "request_timeout", f"There was no answer within {seconds:g} s.")
            )
            return
        if waiting:
            self._strand()
        self._drop_run()
        super().timed_out()

    def _too_slow(self, now: float) -> None:
        """The prefill leg outlived its budget: the decode endpoint does it, if it can."""
        settings = self._context.settings
        self._prefill_until = self._latest
        if not self._alone:
            self._expect_within(settings.first_byte_timeout, now)
            return
        self._context.patience.too_slow(self._split.prefill_endpoint)
        self._drop_run()
        self._cut_decode_leg()
        self._fail_leg("prefill_slow", refused=False, blameless=True)
        self._local("prefill_slow")

    def cancel(self) -> None:
        """Nobody waits for the answer any more: free both engines. Idempotent."""
        if self._phase is Phase.OVER:
            return
        super().cancel()
        if self._relay is not None and self._relay.status and self._owner_was_told():
            self._ended()
            return
        self._strand()
        self._drop_run()

    def _owner_was_told(self) -> bool:
        """Whether the answer was whole when the client left."""
        return self.decision.outcome == "done"


class _Finishing(RunOwner):
    """A prefill leg whose decode leg is done: it is waited for by the books only."""

    def __init__(self, context: ProxyContext, router: Router, decision: Decision) -> None:
        self._context = context
        self._router = router
        self._decision = decision

    def run_sent(self) -> None:
        """It went out late."""

    def run_answered(self, status: int, headers: Headers, body: bytes) -> None:
        """It is over."""
        if status < 400:
            self._router.prefill_done(self._decision, self._context.now())

    def run_lost(self, reason: str, *, refused: bool) -> None:
        """It is over; the KV was read, whatever became of it afterwards."""
