"""One request and its answer: the object that joins a client's side and an endpoint's side.

Phases::

    READING -> CONNECTING -> WAITING -> RELAYING -> OVER
        |          ^  |         |           |
        |          +--+---------+           |   next ranked endpoint, while nothing was relayed
        +-------------+---------+-----------+-> OVER   refused, failed, or the client left

Nothing of a response is relayed before the first byte of its body is there: until then
(connecting, queueing and prefilling, which is where requests spend their time) a lost
endpoint costs the client nothing but time. From that byte on nothing is ever sent again:
a stream that breaks ends with an error event, any other response by closing the connection.
"""

from enum import Enum
from time import perf_counter
from typing import Protocol

from gateway.apis.call import Api, ApiError, Call
from gateway.apis.catalogue import (
    AnswerModel,
    AnswerModels,
    Forward,
    error_dialect,
    resolve,
)
from gateway.apis.models import model_body, models_body
from gateway.apis.usage import is_stream_error
from gateway.proxy.context import ProxyContext
from gateway.proxy.framing import EventAligner, Framing, choose
from gateway.proxy.heads import (
    BadTargetError,
    Headers,
    RequestHead,
    matchable_path,
    own_response,
    request_head,
    response_head,
)
from gateway.proxy.meter import ResponseMeter
from gateway.proxy.pool import ConnectAttempt
from gateway.proxy.upstream import UpstreamConnection
from gateway.record import RequestRecord
from routing.decision import Decision, Rejection, RejectionKind
from routing.request import Request

_TRY_ANOTHER = frozenset({429, 502, 503, 504})  # the endpoint can't now, another may
_REPORT_EVERY = 32  # events between two progress reports to the ledger

_REJECTIONS = {
    RejectionKind.UNKNOWN_MODEL: (404, "unknown_model", "model"),
    RejectionKind.NO_ENDPOINT: (503, "no_endpoint", None),
    RejectionKind.OVERLOADED: (429, "overloaded", None),
}


class Phase(Enum):
    """Where an exchange is in its life."""

    READING = 1
    CONNECTING = 2
    WAITING = 3
    RELAYING = 4
    OVER = 5


class ClientSide(Protocol):
    """What an exchange needs of the client's connection."""

    deadline: float
    write_blocked: bool

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""

    def exchange_over(self, *, keep_alive: bool) -> None:
        """Everything is written: turn to the next request, or close once it is flushed."""


class Exchange:
    """One request from its last byte read to its record written."""

    def __init__(
        self,
        context: ProxyContext,
        client: ClientSide,
        head: RequestHead,
        body: bytes,
        record: RequestRecord,
    ) -> None:
        self._context = context
        self._client = client
        self._head = head
        self._body = body
        self._record = record
        self._phase = Phase.READING
        self._api: Api | None = None
        self._decision: Decision | None = None
        self._connecting: ConnectAttempt | None = None
        self._upstream: UpstreamConnection | None = None
        self._reconnected = False
        self._status = 0
        self._response_headers: Headers = []
        self._framing = Framing.NONE
        self._aligner: EventAligner | None = None
        self._meter = ResponseMeter()
        self._reported = 0

    # --- reading and deciding ----------------------------------------------------------------

    def start(self) -> None:
        """Read the call, choose an endpoint and send it there, or answer at once."""
        try:
            path = matchable_path(self._head.target)
            self._record.path = path
            operation = resolve(self._head.method, path)
            if isinstance(operation, Forward):
                self._api = operation.api
                self._record.api = operation.api.name
                self._route(operation.api.read(self._body))
            else:
                self._answer_models(operation)
        except BadTargetError as error:
            self._refuse(ApiError(400, "invalid_path", str(error)))
        except ApiError as error:
            self._refuse(error)

    def _answer_models(self, query: AnswerModels | AnswerModel) -> None:
        context = self._context
        served = context.router.fleet.models()
        self._record.api = "models"
        if isinstance(query, AnswerModels):
            body = models_body(served, context.created)
        else:
            body = model_body(served, query.id, context.created)
        self._answer(200, body, reason="")

    def _route(self, call: Call) -> None:
        record = self._record
        record.model = call.model or ""
        record.streamed = call.streamed
        request = Request(
            id=record.request_id,
            model=call.model,
            chains=call.chains,
            prompt_tokens=call.prompt_tokens,
            exact_tokens=call.exact_tokens,
            max_output_tokens=call.max_output_tokens,
            streamed=call.streamed,
            priority=call.priority,
        )
        began = perf_counter()
        decision = self._context.router.route(request, self._context.now())
        record.decision_seconds = perf_counter() - began
        if isinstance(decision, Rejection):
            status, reason, param = _REJECTIONS[decision.kind]
            retry_after = (
                None if decision.retry_after is None else max(1, round(decision.retry_after))
            )
            raise ApiError(status, reason, decision.message, param=param, retry_after=retry_after)
        self._decision = decision
        self._attempt()

    # --- an attempt at the current choice ----------------------------------------------------

    def _attempt(self, *, fresh: bool = False) -> None:
        assert self._decision is not None
        self._reconnected = fresh
        self._record.attempts += 1
        self._phase = Phase.CONNECTING
        pool = self._context.pools.of(self._decision.endpoint.endpoint)
        connection = None if fresh else pool.take()
        if connection is not None:
            self.connected(connection)
        else:
            self._connecting = pool.connect(self)

    def connected(self, connection: UpstreamConnection) -> None:
        """A connection is there: send the request."""
        assert self._decision is not None
        context, record = self._context, self._record
        self._connecting = None
        self._upstream = connection
        self._phase = Phase.WAITING
        now = context.now()
        self._client.deadline = now + context.settings.first_byte_timeout
        endpoint = self._decision.endpoint.endpoint
        record.endpoint = endpoint.name
        # An engine must not see one id twice at a time, and an abort may still be under way.
        suffix = f"-{record.attempts - 1}" if record.attempts > 1 else ""
        head = request_head(
            self._head,
            context.pools.of(endpoint).address.authority,
            f"{record.request_id}{suffix}".encode(),
            len(self._body),
        )
        connection.send(self, head, self._body)
        if self._client.write_blocked:
            connection.pause()
        context.router.sent(self._decision, now)

    def not_connected(self, reason: str) -> None:
        """The endpoint can't be reached."""
        self._connecting = None
        self._attempt_failed(reason, refused=True)

    def _attempt_failed(self, reason: str, *, refused: bool = False) -> None:
        if not self._try_next(reason, refused=refused):
            self._refuse(
                ApiError(
                    502,
                    reason,
                    f"The endpoint failed before it answered ({reason}) and no other one is left.",
                    retry_after=1,
                )
            )

    def _try_next(self, reason: str, *, refused: bool = False, blameless: bool = False) -> bool:
        """Give the current attempt up for the next ranked endpoint; False when there is none."""
        assert self._decision is not None
        router, now = self._context.router, self._context.now()
        router.failed(self._decision, now, reason, refused=refused, blameless=blameless)
        if not router.retry(self._decision, now):
            return False
        self._record.retries.append(reason)
        self._drop_upstream()
        self._response_headers = []
        self._aligner = None
        self._meter = ResponseMeter()
        self._attempt()
        return True

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.cancel()

    # --- the response, as it comes -----------------------------------------------------------

    def response_head(self, status: int, headers: Headers) -> None:
        """Keep the head until the body begins."""
        if status in _TRY_ANOTHER and self._try_next(f"status_{status}", blameless=status == 429):
            return
        self._status = status
        self._response_headers = headers
        if status < 300 and _is_event_stream(headers):
            self._aligner = EventAligner()

    def response_data(self, data: bytes) -> None:
        """Meter and relay a piece of the body."""
        context, meter = self._context, self._meter
        now = context.now()
        if meter.first_at is None and not self._begin(data, now):
            return
        meter.add(data, now)
        self._client.deadline = now + context.settings.idle_timeout
        if meter.events - self._reported >= _REPORT_EVERY and self._decision is not None:
            self._reported = meter.events
            context.router.progress(self._decision, now, meter.events)
        if self._aligner is not None:
            data = self._aligner.align(data)
        if data:
            self._relay(data)

    def _begin(self, data: bytes, now: float) -> bool:
        """Look at the first piece; False when the attempt was given up because of it."""
        if self._aligner is not None:
            # Some engines answer 200 and then say in the first event that they failed, or
            # end a stream that never began.
            failed = data.startswith(b"data: [DONE]") or is_stream_error(data)
            if failed and self._try_next("stream_error"):
                return False
            assert self._decision is not None
            self._context.router.first_token(self._decision, now)
            self._record.ttft = now - self._record.started
        return True

    def _relay(self, data: bytes) -> None:
        if self._phase is Phase.WAITING:
            self._phase = Phase.RELAYING
            self._body = b""  # it will not be sent again; a long stream need not keep it
            self._client.write(self._client_head() + self._framing.frame(data))
        else:
            self._client.write(self._framing.frame(data))

    def _client_head(self) -> bytes:
        assert self._decision is not None
        self._framing, line = choose(
            self._status, self._response_headers, chunked_ok=self._head.chunked_ok
        )
        return response_head(
            self._status,
            self._response_headers,
            line,
            request_id=self._record.request_id.encode(),
            endpoint=self._decision.endpoint.name.encode(),
            keep_alive=self._keep_alive,
        )

    @property
    def _keep_alive(self) -> bool:
        return (
            self._head.keep_alive
            and self._framing is not Framing.CLOSE
            and not self._context.draining
        )

    def response_complete(self) -> None:
        """Write what is left and learn from what the engine reported."""
        self._upstream = None
        aligner = self._aligner
        if aligner is not None:
            if self._meter.first_at is None:
                self._attempt_failed("empty_stream")
                return
            if rest := aligner.rest():
                self._relay(rest)
        if self._phase is Phase.WAITING:
            self._client.write(self._client_head())
        self._client.write(self._framing.end)
        self._settle()

    def _settle(self) -> None:
        assert self._api is not None
        assert self._decision is not None
        record, router, now = self._record, self._context.router, self._context.now()
        tail = self._meter.tail
        if self._status >= 400:
            reason = f"status_{self._status}"
        elif self._aligner is not None and is_stream_error(tail):
            reason = "stream_error"
            router.failed(self._decision, now, reason)
        else:
            reason = ""
            usage = self._api.usage(tail)
            if usage is not None:
                record.prompt_tokens = usage.prompt_tokens
                record.cached_tokens = usage.cached_tokens
                record.completion_tokens = usage.completion_tokens
        router.finished(
            self._decision,
            now,
            prompt_tokens=record.prompt_tokens,
            cached_tokens=record.cached_tokens,
            completion_tokens=record.completion_tokens,
        )
        self._over(self._status, reason, keep_alive=self._keep_alive)

    def response_failed(self, reason: str, *, untouched: bool) -> None:
        """The endpoint's connection ended before the response did."""
        self._upstream = None
        if self._phase is Phase.RELAYING:
            self._break_off(reason)
        elif untouched and not self._reconnected:
            self._attempt(fresh=True)
        else:
            self._attempt_failed(reason)

    # --- ends --------------------------------------------------------------------------------

    def _break_off(self, reason: str) -> None:
        """End a response that is partly with the client, as honestly as its framing allows."""
        assert self._api is not None
        assert self._decision is not None
        self._context.router.failed(self._decision, self._context.now(), reason)
        keep_alive = False
        aligner = self._aligner
        if aligner is not None and not aligner.torn and self._framing is not Framing.LENGTH:
            error = ApiError(
                502, reason, f"The endpoint failed in the middle of the stream ({reason})."
            )
            event = self._api.stream_error(error)
            self._client.write(self._framing.frame(event) + self._framing.end)
            keep_alive = self._keep_alive
        self._over(self._status, reason, keep_alive=keep_alive)

    def timed_out(self) -> None:
        """The deadline on the client's side passed while this exchange was in flight."""
        if self._phase is Phase.RELAYING and self._client.write_blocked:
            self._drop_upstream()
            self._abandon("client_stalled")
            self._client.exchange_over(keep_alive=False)
        elif self._phase is Phase.RELAYING:
            self._drop_upstream()
            self._break_off("upstream_timeout")
        elif self._decision is not None:
            self._drop_upstream()
            self._context.router.failed(self._decision, self._context.now(), "upstream_timeout")
            seconds = self._context.settings.first_byte_timeout
            self._refuse(
                ApiError(504, "upstream_timeout", f"The endpoint did not answer in {seconds:g} s.")
            )

    def cancel(self) -> None:
        """The client went away: free the engine at once."""
        if self._phase is not Phase.OVER:
            self._drop_upstream()
            self._abandon("client_gone")

    def _abandon(self, reason: str) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self._decision is not None:
            self._context.router.abandoned(self._decision, self._context.now())
        self._phase = Phase.OVER
        self._write_record(499, reason)

    def _refuse(self, error: ApiError) -> None:
        body = (self._api or error_dialect(self._record.path)).error_body(error)
        self._answer(error.status, body, reason=error.reason, error=error)

    def _answer(
        self, status: int, body: bytes, *, reason: str, error: ApiError | None = None
    ) -> None:
        keep_alive = self._keep_alive
        response = own_response(
            status,
            body,
            keep_alive=keep_alive,
            request_id=self._record.request_id.encode(),
            retry_after=error.retry_after if error is not None else None,
            allow=error.allow if error is not None else None,
        )
        self._meter.bytes = len(body)
        self._client.write(response)
        self._over(status, reason, keep_alive=keep_alive)

    def _over(self, status: int, reason: str, *, keep_alive: bool) -> None:
        self._phase = Phase.OVER
        self._write_record(status, reason)
        self._client.exchange_over(keep_alive=keep_alive)

    def _write_record(self, status: int, reason: str) -> None:
        record, meter = self._record, self._meter
        record.status = status
        record.reason = reason
        record.bytes_out = meter.bytes
        record.output_events = meter.events
        record.inter_token = meter.inter_token
        record.duration = self._context.now() - record.started
        if self._decision is not None:
            record.failed_endpoints = [failed.endpoint for failed in self._decision.attempts]
            choice = self._decision.choice
            record.predicted_cached_tokens = choice.cached_tokens
            record.predicted_ttft = choice.predicted_ttft
        self._context.finished(record)

    # --- back-pressure -----------------------------------------------------------------------

    def client_blocked(self) -> None:
        """The client does not keep up: stop reading from the endpoint."""
        if self._upstream is not None:
            self._upstream.pause()

    def client_unblocked(self) -> None:
        """The client caught up."""
        if self._upstream is not None:
            self._upstream.resume()


def _is_event_stream(headers: Headers) -> bool:
    for name, value in headers:
        if len(name) == 12 and name.lower() == b"content-type":
            return value.lstrip().lower().startswith(b"text/event-stream")
    return False
