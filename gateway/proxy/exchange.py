"""One request of a client: read, answered by the gateway itself or delivered to an endpoint.

Phases::

    READING --> TOKENIZING --> WAITING --> DELIVERING --> OVER
       |            |  ^         | ^           ^            ^
       |            +--|---------|-|-----------|------------+   the client left
       |               |         +-------------|------------+   no endpoint came in time
       +---------------+-----------+-----------+                for pools at zero, and busy ones
       +----------------------------------------------------+   answered at once

Whatever happens, exactly one record is written and the client's connection is told once.
"""

import asyncio
from array import array
from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import Final

from mypy_extensions import trait

from endpoints.discovery.kubernetes.rules import PoolRules
from gateway.admission import Admission
from gateway.apis.call import Api, ApiError, Call
from gateway.apis.catalogue import (
    AnswerModel,
    AnswerModels,
    Forward,
    Route,
    error_dialect,
    resolve,
)
from gateway.apis.depth import deeper_than
from gateway.apis.models import model_body, models_body
from gateway.apis.splice import without_fields
from gateway.choosing import refusal, routing_request, token_chains, wants_ids
from gateway.following import renamed, set_priority, shed_if_busy, target_of
from gateway.held import Ticket
from gateway.objectives import targets_of, tenant_of
from gateway.ours import internal_fields
from gateway.paths import BadTargetError, matchable_path
from gateway.proxy.carrier import ClientSide, Owner
from gateway.proxy.context import ProxyContext
from gateway.proxy.delivery import Delivery
from gateway.proxy.heads import RequestHead, own_response
from gateway.proxy.prefill import SplitDelivery
from gateway.proxy.relay import Relay
from gateway.record import RequestRecord
from gateway.waiting import WaitingRoom
from routing.decision import Decision, Rejection
from routing.request import Request
from routing.router import Router

_ALLOWED: Final = "GET, HEAD, POST, OPTIONS"


@trait
class Connection(ClientSide):
    """What an exchange needs of the client's connection."""

    def exchange_over(self, *, keep_alive: bool) -> None:
        """Everything is written: turn to the next request, or close once it is flushed."""


class Exchange(Owner):
    """One request from its last byte read to its record written."""

    def __init__(
        self,
        context: ProxyContext,
        client: Connection,
        head: RequestHead,
        body: bytes,
        record: RequestRecord,
    ) -> None:
        self._context = context
        self._client = client
        self._head = head
        self._body = body
        self._record = record
        self._api: Api | None = None
        self._delivery: Delivery | None = None
        self._tokenizing: asyncio.Task[array[int] | None] | None = None
        self._ticket: Ticket | None = None
        self._priority = 0
        self._over = False
        self._asked_model = ""
        """The model that the client asked for, where it gets another one."""

    # --- reading and deciding ----------------------------------------------------------------

    def start(self) -> None:
        """Read the call, choose an endpoint and send it there, or answer at once."""
        context, head = self._context, self._head
        try:
            if context.overloaded:
                limit = context.settings.max_concurrent_requests
                raise ApiError(
                    429, "too_many_requests", f"{limit} requests are in flight.", retry_after=1
                )
            if head.method == "OPTIONS":
                self._answer_options()
                return
            path = matchable_path(head.target)
            self._record.path = path
            operation = self._operation("GET" if head.method == "HEAD" else head.method, path)
            if isinstance(operation, Forward):
                if b"%" in head.target.partition(b"?")[0]:
                    # The endpoint gets the target as it is: it must be what was matched here.
                    raise ApiError(404, "unknown_path", "Write the path without percent-encoding.")
                self._forward(operation.api)
            else:
                self._answer_models(operation)
        except BadTargetError as wrong:  # names of their own: mypyc gives a variable one type
            self._refuse(ApiError(400, "invalid_path", str(wrong)))
        except ApiError as error:
            self._refuse(error)

    def _operation(self, method: str, path: str) -> Route:
        """What answers a method on a path."""
        return resolve(method, path)

    def _answer_options(self) -> None:
        head = self._head
        preflight = self._context.cors.preflight(head)
        self._record.api = "options"
        self._answer(204, b"", extra=preflight, allow=_ALLOWED)

    def _answer_models(self, query: AnswerModels | AnswerModel) -> None:
        context = self._context
        served = context.brains.models()
        if context.waiting is not None:
            served = context.waiting.with_models(served)
        self._record.api = "models"
        if isinstance(query, AnswerModels):
            body = models_body(served, context.created)
        else:
            body = model_body(served, query.id, context.created)
        self._answer(200, body)

    def _forward(self, api: Api) -> None:
        self._api = api
        self._record.api = api.name
        self._bound_depth()
        call = api.read(self._body)
        self._keep_out_internal_fields(call)
        router = self._context.brains.serving(call.model)
        if router is None:
            raise ApiError(503, "no_pool", "There is no pool of endpoints.", retry_after=1)
        rules = self._context.brains.rules_of(router)
        if rules is not None:
            call = self._follow(rules, api, call)
        objectives = self._context.objectives
        if rules is not None or objectives:
            self._priority = set_priority(rules, objectives, call, self._head.fields)
        if wants_ids(router, self._context.tokenizing, api.name, call):
            self._tokenize(api, call, router)
        else:
            self._route(api, call, router, call.token_ids)

    def _follow(self, rules: PoolRules, api: Api, call: Call) -> Call:
        """The call as the rules of its pool want it."""
        context = self._context
        if call.model is not None:
            target = target_of(rules, call.model, context.dice)
            if target != call.model:
                self._asked_model = call.model
                call, self._body = renamed(api, self._body, target)
        return call

    def _bound_depth(self) -> None:
        limit = self._context.settings.max_json_depth
        if limit is not None and deeper_than(self._body, limit):
            raise ApiError(
                400,
                "json_too_deep",
                f"The body nests arrays and objects more than {limit} levels deep.",
            )

    def _tokenize(self, api: Api, call: Call, router: Router) -> None:
        """Have the prompt tokenized meanwhile; it is routed when the ids are there, or too late."""
        assert self._context.tokenizing is not None
        assert call.model is not None
        self._tokenizing = self._context.tokenizing.ask(call.model, self._body)
        self._tokenizing.add_done_callback(partial(self._tokenized, api, call, router))

    def _tokenized(
        self, api: Api, call: Call, router: Router, task: "asyncio.Task[array[int] | None]"
    ) -> None:
        self._tokenizing = None
        if self._over:
            return
        try:
            self._route(api, call, router, None if task.cancelled() else task.result())
        except ApiError as error:
            self._refuse(error)

    def _keep_out_internal_fields(self, call: Call) -> None:
        """Only the gateway may say where KV comes from; such fields of clients end here."""
        if self._context.settings.internal_fields == "refuse":
            names = [
                name.decode() for name in internal_fields(name for name, _ in self._head.headers)
            ]
            names += call.internal_fields
            if names:
                raise ApiError(
                    400, "internal_field", f"Only the gateway may set {names[0]}.", param=names[0]
                )
        elif call.internal_fields:
            self._body = without_fields(self._body, call.internal_fields)

    def _route(self, api: Api, call: Call, router: Router, token_ids: Sequence[int] | None) -> None:
        record = self._record
        record.model = call.model or ""
        record.streamed = call.streamed
        targets = targets_of(self._head.fields, self._context.objectives)
        request = routing_request(
            call,
            record.request_id,
            streamed=call.streamed,
            token_chains=token_chains(router, call, token_ids),
            ttft_target=targets.ttft,
            itl_target=targets.itl,
        )
        waiting = self._context.waiting
        if waiting is not None:
            ahead = waiting.ahead(call.model, self._context.brains)
            if ahead is not None:
                self._wait(ahead, api, request)
                return
        if self._context.admissions is not None:
            line = self._context.admissions.of(router)
            if line is not None and line.must_wait(request):
                self._stand_in_line(line, api, request)
                return
        elif self._priority < 0:
            shed_if_busy(self._priority, router, call.model, self._context.now())
        began = perf_counter()
        decision = router.route(request, self._context.now())
        record.decision_seconds = perf_counter() - began
        if isinstance(decision, Rejection):
            room = None
            if waiting is not None:
                room = waiting.room(call.model, decision, self._context.brains)
            if room is None:
                raise refusal(decision)
            self._wait(room, api, request)
            return
        self._deliver(api, router, decision)

    # --- waiting: for a pool without endpoints, or one that is busy ---------------------------

    def _wait(self, room: WaitingRoom, api: Api, request: Request) -> None:
        """Stay until the pool has an endpoint, or for as long as its room has patience."""
        since = self._context.now()
        self._ticket = room.enter(
            request.model,
            partial(self._routed_now, room.pool, api, request, since),
            len(self._body),
            self._turned_away,
        )
        self._client.expect_until(self._ticket.deadline)

    def _stand_in_line(self, line: Admission, api: Api, request: Request) -> None:
        """Stay until some endpoint has room and it is this one's turn."""
        since = self._context.now()
        self._ticket = line.enter(
            request,
            priority=self._priority,
            tenant=tenant_of(self._head.fields),
            size=len(self._body),
            again=partial(self._routed_now, line.pool, api, request, since, since),
            refuse=self._turned_away,
        )
        self._client.expect_until(self._ticket.deadline)

    def _turned_away(self, error: ApiError) -> None:
        self._ticket = None
        self._refuse(error)

    def _routed_now(
        self,
        pool: str,
        api: Api,
        request: Request,
        since: float,
        arrived_at: float | None = None,
    ) -> bool:
        """Try again; False when it must go on waiting."""
        context = self._context
        router = context.brains.of(pool)
        if router is None:
            return False
        began = perf_counter()
        decision = router.route(request, context.now(), arrived_at)
        if isinstance(decision, Rejection):
            return False
        self._record.decision_seconds = perf_counter() - began
        self._record.waited_seconds = context.now() - since
        self._ticket = None
        self._deliver(api, router, decision)
        return True

    def _waited_too_long(self, ticket: Ticket) -> None:
        self._ticket = None
        ticket.leave()
        self._refuse(ticket.late())

    def _deliver(self, api: Api, router: Router, decision: Decision) -> None:
        kind = Delivery if decision.prefill is None else SplitDelivery
        self._delivery = kind(
            self._context,
            self._client,
            self,
            self._head,
            self._body,
            self._record,
            api,
            router,
            decision,
            keep_alive=self._keep_alive,
            asked_model=self._asked_model,
        )
        self._body = b""
        self._delivery.start()

    # --- ends --------------------------------------------------------------------------------

    def delivered(self, relay: Relay, reason: str) -> None:
        """The endpoint's response went out."""
        meter = relay.meter
        self._record.bytes_out = meter.bytes
        self._record.output_events = meter.events
        self._record.inter_token = meter.inter_token
        self._end(relay.status, reason)
        self._client.exchange_over(keep_alive=relay.keep_alive and not self._context.draining)

    def undeliverable(self, error: ApiError) -> None:
        """No endpoint answered, and nothing was relayed."""
        self._refuse(error)

    def stalled(self) -> None:
        """The client reads no more."""
        self._end(499, "client_stalled")
        self._client.exchange_over(keep_alive=False)

    def cancel(self) -> None:
        """The client went away: free the engine at once."""
        if not self._over:
            if self._tokenizing is not None:
                self._tokenizing.cancel()
            if self._ticket is not None:
                self._ticket.leave()
                self._ticket = None
            if self._delivery is not None:
                self._delivery.cancel()
        if not self._over:
            self._end(499, "client_gone")

    def _refuse(self, error: ApiError) -> None:
        body = (self._api or error_dialect(self._record.path)).error_body(error)
        self._answer(
            error.status,
            body,
            reason=error.reason,
            retry_after=error.retry_after,
            allow=error.allow,
            extra=self._context.cors.response_fields(self._head),
        )

    def _answer(
        self,
        status: int,
        body: bytes,
        *,
        reason: str = "",
        retry_after: int | None = None,
        allow: str | None = None,
        extra: bytes | None = None,
    ) -> None:
        keep_alive = self._keep_alive
        response = own_response(
            status,
            body,
            keep_alive=keep_alive,
            request_id=self._record.request_id.encode(),
            retry_after=retry_after,
            allow=allow,
            extra=self._context.cors.response_fields(self._head) if extra is None else extra,
            bodiless=self._head.method == "HEAD",
        )
        self._record.bytes_out = len(body)
        self._client.write(response)
        self._end(status, reason)
        self._client.exchange_over(keep_alive=keep_alive)

    def _end(self, status: int, reason: str) -> None:
        self._over = True
        record = self._record
        record.status = status
        record.reason = reason
        record.duration = self._context.now() - record.started
        if self._delivery is not None:
            decision = self._delivery.decision
            choice = decision.choice
            if decision.attempts:
                record.failed_endpoints = tuple(one.endpoint for one in decision.attempts)
            record.predicted_cached_tokens = choice.cached_tokens
            if decision.prefill is not None and decision.split:
                record.predicted_cached_tokens = decision.prefill.cached_tokens
            record.predicted_ttft = choice.predicted_ttft
            self._delivery.router.over(decision)
            if self._context.log_traffic is not None:
                self._context.log_traffic(record, decision.request)
            self._delivery = None  # it refers back: without this only the collector frees both
        self._context.finished(record)

    @property
    def _keep_alive(self) -> bool:
        return self._head.keep_alive and not self._context.draining

    # --- time and pressure, for the delivery -------------------------------------------------

    def timed_out(self) -> None:
        """The deadline on the client's side passed."""
        if self._delivery is not None:
            self._delivery.timed_out()
        elif self._ticket is not None:
            self._waited_too_long(self._ticket)

    def client_blocked(self) -> None:
        """The client does not keep up."""
        if self._delivery is not None:
            self._delivery.client_blocked()

    def client_unblocked(self) -> None:
        """The client caught up."""
        if self._delivery is not None:
            self._delivery.client_unblocked()
