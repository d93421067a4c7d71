"""One request of a client, as the brain sees it: chosen for, followed, written down.

    exchange.choose(...)     # a `Pick` or an `ApiError`, at once or when the prompt is tokenized
    exchange.began(...)      # the endpoint's head came
    exchange.data(...)       # a piece of its body, where Envoy sends us any
    exchange.ended()         # the response is complete
    exchange.over()          # Envoy is done with the request, however it ended; always the last

What is reserved at the brain is given back by `over` at the latest, and exactly one record is
written. How the request travels between Envoy and us is the session's business.
"""

import asyncio
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import NamedTuple

from gateway.admission import DROPPED, Admission
from gateway.apis.call import Api, ApiError, Call
from gateway.apis.catalogue import AnswerModel, AnswerModels, error_dialect
from gateway.apis.models import model_body, models_body
from gateway.apis.renaming import NameBack
from gateway.apis.usage import is_stream_error
from gateway.choosing import refusal, routing_request, token_chains, wants_ids
from gateway.extproc.addresses import address_of
from gateway.extproc.context import ProcessorContext
from gateway.extproc.operations import operation_of, path_of
from gateway.extproc.reading import Asked, read, refuse_internal
from gateway.extproc.wire import DESTINATION, NO_CHANGE, PREFILLER, Change, Fields
from gateway.held import Ticket
from gateway.meter import ResponseMeter
from gateway.objectives import targets_of, tenant_of
from gateway.ours import internal_fields
from gateway.pickerbooks import Flow
from gateway.record import RequestRecord, SplitRecord
from routing.decision import Decision, Rejection
from routing.request import Request

_REPORT_EVERY = 32  # events between two progress reports to the ledger
_TEST_SELECTION = b"test-epp-endpoint-selection"
_SERVED = "x-inferway-endpoint"
_NO_FIELDS: Mapping[bytes, bytes] = {}


class Pick(NamedTuple):
    """Where the request goes. ``body``: what to send instead of its own, None: its own."""

    change: Change
    body: bytes | None = None


class Answer(NamedTuple):
    """We answer ourselves: a status, fields and JSON."""

    status: int
    fields: dict[str, bytes]
    body: bytes
    reason: str = ""


Chosen = Callable[[Pick | Answer], None]


class Exchange:
    """One request from its head to its record."""

    def __init__(self, context: ProcessorContext, call: Mapping[bytes, bytes] = _NO_FIELDS) -> None:
        self._context = context
        self._call = call  # fields of the gRPC call, which may tell the pool
        self._router = context.router
        self._book = context.book
        self._renaming: NameBack | None = None
        self._record = RequestRecord("", "", "", "", context.now())
        self._decision: Decision | None = None
        self._api: Api | None = None
        self._meter = ResponseMeter()
        self._event_stream = False
        self._reported = 0  # events the ledger was told of
        self._answered = False  # the endpoint's head came
        self._tokenizing: asyncio.Task[array[int] | None] | None = None
        self._ticket: Ticket | None = None
        self._over = False
        self._priority = 0
        self._asked_model = ""  # before any rewrite
        self._flow: Flow | None = None  # known once the request is read
        context.telemetry.started()

    # --- choosing ----------------------------------------------------------------------------

    def choose(self, asked: Asked, chosen: Chosen) -> None:
        """Tell ``chosen`` where the request goes, or what to answer."""
        try:
            self._choose(asked, chosen)
        except ApiError as error:
            self._refuse(error, chosen)

    def _choose(self, asked: Asked, chosen: Chosen) -> None:
        context, record, fields = self._context, self._record, asked.fields
        record.method = fields.get(b":method", b"").decode("latin-1")
        record.bytes_in = len(asked.body)
        record.request_id = fields.get(b"x-request-id", b"").decode("latin-1")
        if not record.request_id:
            record.request_id = context.request_id()
        forwarded = fields.get(b"x-forwarded-for")
        if forwarded is not None:
            record.client = forwarded.rpartition(b",")[2].strip().decode("latin-1")
        if context.overloaded:
            limit = context.settings.max_concurrent_requests
            raise ApiError(
                429, "too_many_requests", f"{limit} requests are in flight.", retry_after=1
            )
        record.path = path_of(fields)
        operation = operation_of(record.method, record.path)
        if isinstance(operation, AnswerModels | AnswerModel):
            self._answer_models(operation, chosen)
            return
        self._api = operation
        record.api = operation.name
        said = read(context, self._call, operation, asked)
        call, body, router = said.call, said.body, said.router
        self._router, self._book = router, said.book
        self._asked_model, self._renaming = said.asked_model, said.renaming
        self._priority = said.priority
        context.books.started(self._flow_of(asked, call))
        if wants_ids(router, context.tokenizing, operation.name, call):
            assert context.tokenizing is not None
            assert call.model is not None
            self._tokenizing = context.tokenizing.ask(call.model, body)
            self._tokenizing.add_done_callback(partial(self._tokenized, asked, call, body, chosen))
        else:
            self._route(asked, call, body, chosen, call.token_ids)

    def _flow_of(self, asked: Asked, call: Call) -> Flow:
        """Whose request it is, for the books."""
        self._flow = self._context.books.flow(
            self._asked_model or call.model or "",
            call.model or "",
            tenant_of(asked.fields),
            call.priority,
        )
        return self._flow

    def _tokenized(
        self,
        asked: Asked,
        call: Call,
        body: bytes,
        chosen: Chosen,
        task: "asyncio.Task[array[int] | None]",
    ) -> None:
        self._tokenizing = None
        if self._over:
            return
        try:
            self._route(asked, call, body, chosen, None if task.cancelled() else task.result())
        except ApiError as error:
            self._refuse(error, chosen)

    def _route(
        self,
        asked: Asked,
        call: Call,
        body: bytes,
        chosen: Chosen,
        token_ids: Sequence[int] | None,
    ) -> None:
        """Have an endpoint chosen, now or when the pool is less busy."""
        context, record = self._context, self._record
        router = self._router
        record.model = call.model or ""
        record.streamed = call.streamed
        targets = targets_of(asked.fields, context.objectives)
        request = routing_request(
            call,
            record.request_id,
            streamed=call.streamed and asked.streamed,
            token_chains=token_chains(router, call, token_ids),
            ttft_target=targets.ttft,
            itl_target=targets.itl,
            within=self._within(asked),
        )
        if context.admissions is not None:
            line = context.admissions.of(router)
            if line is not None and line.must_wait(request):
                self._stand_in_line(line, request, asked, body, chosen)
                return
        began = perf_counter()
        decision = router.route(request, context.now())
        record.decision_seconds = perf_counter() - began
        if isinstance(decision, Rejection):
            assert self._flow is not None
            context.books.chosen(self._flow, None)
            raise refusal(decision)
        chosen(self._picked(decision, asked, body))

    def _stand_in_line(
        self, line: Admission, request: Request, asked: Asked, body: bytes, chosen: Chosen
    ) -> None:
        """Stay until some endpoint has room and it is this one's turn."""
        self._ticket = line.enter(
            request,
            priority=self._priority,
            tenant=tenant_of(asked.fields),
            size=len(body),
            again=partial(self._routed_now, request, asked, body, chosen, self._context.now()),
            refuse=partial(self._turned_away, chosen),
        )

    def _routed_now(
        self, request: Request, asked: Asked, body: bytes, chosen: Chosen, since: float
    ) -> bool:
        """Try again; False when it must go on waiting."""
        context, record = self._context, self._record
        began = perf_counter()
        decision = self._router.route(request, context.now(), since)
        if isinstance(decision, Rejection):
            return False
        record.decision_seconds = perf_counter() - began
        record.waited_seconds = context.now() - since
        self._ticket = None
        try:
            pick = self._picked(decision, asked, body)
        except ApiError as error:
            self._refuse(error, chosen)
        else:
            chosen(pick)
        return True

    def _turned_away(self, chosen: Chosen, error: ApiError) -> None:
        self._ticket = None
        self._refuse(error, chosen)

    def _picked(self, decision: Decision, asked: Asked, body: bytes) -> Pick:
        """Book the choice, and say what becomes of the request."""
        context, record, router = self._context, self._record, self._router
        assert self._flow is not None
        self._decision = decision
        context.books.chosen(self._flow, decision.endpoint.name)
        record.attempts = 1
        record.endpoint = decision.endpoint.name
        now = context.now()
        if decision.prefill is not None:
            router.prefill_sent(decision, now)  # by the sidecar, as soon as it has the request
        router.sent(decision, now)
        change = Change(
            set=self._set_fields(asked, decision),
            remove=self._taken_out(asked, splits=decision.prefill is not None),
            destination=self._book.destination(decision, context.settings.fallbacks),
        )
        return Pick(change, None if body is asked.body else body)

    def _set_fields(self, asked: Asked, decision: Decision) -> tuple[tuple[str, bytes], ...]:
        own: tuple[tuple[str, bytes], ...] = ()
        if b"x-request-id" not in asked.fields:
            own = (("x-request-id", self._record.request_id.encode()),)
        if decision.prefill is None:
            return own
        # The sidecar beside the decode endpoint sends the prefill leg there (llm-d's contract).
        prefill = decision.prefill.endpoint.endpoint
        self._record.split = split = SplitRecord()
        split.connector = prefill.connector
        split.prefill_endpoint = prefill.name
        return (*own, (PREFILLER, address_of(prefill.url)[1].encode()))

    def _within(self, asked: Asked) -> frozenset[str] | None:
        context = self._context
        if context.settings.test_selection and (named := asked.fields.get(_TEST_SELECTION)):
            return self._book.within(entry.strip() for entry in named.decode("latin-1").split(","))
        return None if asked.subset is None else self._book.within(asked.subset)

    def _taken_out(self, asked: Asked, *, splits: bool) -> tuple[str, ...]:
        """Fields that must not reach the endpoint as the client wrote them."""
        names = [name.decode("latin-1") for name in internal_fields(asked.fields)]
        if names and self._context.internal_fields == "refuse":
            controls = [name for name in names if not name.startswith("x-gateway-")]
            if controls:
                refuse_internal(controls[0])
        for ours in (DESTINATION, PREFILLER) if splits else (DESTINATION,):
            if ours in names:
                names.remove(ours)  # ours takes its place
        if asked.observed and b"accept-encoding" in asked.fields:
            names.append("accept-encoding")  # token counts can't be read from compressed answers
        return tuple(names)

    # --- answering ourselves -----------------------------------------------------------------

    def _answer_models(self, query: AnswerModels | AnswerModel, chosen: Chosen) -> None:
        context = self._context
        self._record.api = "models"
        if context.pools is None:
            served = context.router.fleet.models()
        else:
            served = context.pools.brains.models()
        if isinstance(query, AnswerModels):
            body = models_body(served, context.created)
        else:
            body = model_body(served, query.id, context.created)
        self._close(200, "")
        chosen(Answer(200, {"content-type": b"application/json"}, body))

    def _refuse(self, error: ApiError, chosen: Chosen) -> None:
        fields = {"content-type": b"application/json"}
        if error.reason in DROPPED:
            fields["x-llm-d-request-dropped-reason"] = DROPPED[error.reason]
        if error.retry_after is not None:
            fields["retry-after"] = b"%d" % error.retry_after
        if error.allow is not None:
            fields["allow"] = error.allow.encode()
        body = (self._api or error_dialect(self._record.path)).error_body(error)
        self._record.bytes_out = len(body)
        self._give_back()
        self._close(error.status, error.reason)
        chosen(Answer(error.status, fields, body, error.reason))

    def refuse(self, error: ApiError, chosen: Chosen) -> None:
        """The session can't go on with the request."""
        self._refuse(error, chosen)

    # --- the response --------------------------------------------------------------------------

    def began(self, fields: Fields, served: str | None) -> Change:
        """A head came; what to do to it."""
        context, record, decision = self._context, self._record, self._decision
        if decision is None or self._over:
            return NO_CHANGE
        self._answered = True
        status = fields.get(b":status", b"")
        record.status = int(status) if status.isdigit() else 0
        self._event_stream = (
            fields.get(b"content-type", b"").lstrip().lower().startswith(b"text/event-stream")
        )
        if record.status >= 300:
            self._renaming = None
        if served is not None and (name := self._book.name_of(served)) is not None:
            self._router.served_by(decision, name, context.now())
            record.endpoint = decision.endpoint.name
        return Change(set=((_SERVED, record.endpoint.encode()),))

    def data(self, data: bytes) -> None:
        """A piece of the body came by."""
        decision = self._decision
        if decision is None or self._over or not data:
            return
        now = self._context.now()
        meter = self._meter
        if meter.first_at is None and self._event_stream:
            self._record.ttft = now - self._record.started
            if decision.request.streamed:
                self._router.first_token(decision, now)
        meter.add(data, now)
        if meter.events - self._reported >= _REPORT_EVERY:
            self._reported = meter.events
            self._router.progress(decision, now, meter.events)

    @property
    def renames(self) -> bool:
        """Whether the answer must have the model's name put back that the client asked for."""
        return self._renaming is not None

    def renamed_back(self, data: bytes, *, ends: bool) -> bytes:
        """A piece of the answer as the client is to see it; the last one may be empty."""
        renaming = self._renaming
        if renaming is None:
            return data
        data = renaming.feed(data)
        return data + renaming.rest() if ends else data

    def ended(self) -> None:
        """The response is complete."""
        if self._decision is not None and not self._over:
            self._settle(self._decision)

    def _settle(self, decision: Decision) -> None:
        """Tell the brain how it went, as the proxy does; see `gateway.proxy.delivery`."""
        record, meter, router = self._record, self._meter, self._router
        now = self._context.now()
        tail = meter.tail
        reason = ""
        if record.status >= 400:
            reason = f"status_{record.status}"
            if record.status >= 500 or record.status == 429:
                router.failed(decision, now, reason, blameless=record.status == 429)
        elif self._event_stream and is_stream_error(tail):
            reason = "stream_error"
            router.failed(decision, now, reason)
        elif tail and self._api is not None and (usage := self._api.usage(tail)) is not None:
            record.prompt_tokens = usage.prompt_tokens
            record.cached_tokens = usage.cached_tokens
            record.completion_tokens = usage.completion_tokens
        router.finished(
            decision,
            now,
            prompt_tokens=record.prompt_tokens,
            cached_tokens=record.cached_tokens,
            completion_tokens=record.completion_tokens,
        )
        leg = decision.prefill
        if record.split is not None and leg is not None and leg.transfer_observed is not None:
            record.split.transfer_bytes, record.split.transfer_seconds = leg.transfer_observed
        record.bytes_out = meter.bytes
        record.output_events = meter.events
        record.inter_token = meter.inter_token
        self._close(record.status, reason)

    # --- ends ------------------------------------------------------------------------------------

    def over(self) -> None:
        """Envoy is done with the request. Without bodies this is all we learn of its end."""
        if self._over:
            return
        if self._tokenizing is not None:
            self._tokenizing.cancel()
        if self._ticket is not None:
            self._ticket.leave()
            self._ticket = None
        if self._decision is not None and self._answered and not self._meter.bytes:
            self._settle(self._decision)
            return
        self._give_back()
        self._close(499, "client_gone")

    def _give_back(self) -> None:
        """Nobody waits for the answer any more."""
        if self._decision is not None:
            self._router.abandoned(self._decision, self._context.now())

    def _close(self, status: int, reason: str) -> None:
        self._over = True
        context, record, decision = self._context, self._record, self._decision
        record.status = status
        record.reason = reason
        record.duration = context.now() - record.started
        if decision is not None:
            record.failed_endpoints = tuple(failed.endpoint for failed in decision.attempts)
            record.predicted_cached_tokens = decision.choice.cached_tokens
            record.predicted_ttft = decision.choice.predicted_ttft
            self._router.over(decision)
            if context.log_traffic is not None:
                context.log_traffic(record, decision.request)
        if self._flow is not None:
            context.books.finished(self._flow, record)
        context.finished(record)
