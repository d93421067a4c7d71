"""A routed request on its way: attempts at endpoints until one answers, and its answer.

Phases::

    CONNECTING -> WAITING -> RELAYING -> OVER
        ^  |         |           |
        +--+---------+           |   next ranked endpoint, while nothing was relayed
           +---------+-----------+-> OVER   failed, timed out, or the client left

Nothing of a response is relayed before the first byte of its body is there: until then
(connecting, queueing and prefilling, which is where requests spend their time) a lost
endpoint costs the client nothing but time. From that byte on nothing is ever sent again:
a stream that breaks ends with an error event, any other response by closing the connection.
"""

from enum import Enum
from typing import Final

from mypy_extensions import trait

from gateway.apis.call import Api, ApiError
from gateway.apis.usage import is_last_event, is_stream_error
from gateway.proxy.context import ProxyContext
from gateway.proxy.heads import Headers, Origin, RequestHead, request_head
from gateway.proxy.pool import ConnectAttempt, EndpointPool, Waiter
from gateway.proxy.relay import Relay, Writer
from gateway.proxy.upstream import ResponseSink, UpstreamConnection
from gateway.record import RequestRecord
from routing.decision import Decision
from routing.router import Router

_REPORT_EVERY: Final = 32  # events between two progress reports to the ledger


class Phase(Enum):
    """Where a delivery is in its life."""

    CONNECTING = 1
    WAITING = 2
    RELAYING = 3
    OVER = 4


@trait
class ClientSide(Writer):
    """What a delivery needs of the client's connection."""

    write_blocked: bool
    origin: Origin

    def expect_until(self, deadline: float) -> None:
        """Wait for the next sign of life until then, and call `Delivery.timed_out` after it."""


@trait
class Owner:
    """Whom a delivery reports its end to; the exchange in production. Exactly one is called."""

    def delivered(self, relay: Relay, reason: str) -> None:
        """The response went out, whole or broken off; ``reason`` is empty when all went well."""

    def undeliverable(self, error: ApiError) -> None:
        """Nothing was relayed, and no endpoint is left to try."""

    def stalled(self) -> None:
        """The client reads no more."""


class Delivery(ResponseSink, Waiter):
    """One routed request, from the first attempt to the end of its answer.

    ``asked_model``: what the answer calls its model, where the request was given another one.
    """

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
        self.decision = decision
        self._context = context
        self.router = router
        self._client = client
        self._owner = owner
        self._head = head
        self._body = body
        self._record = record
        self._api = api
        self._keep_alive = keep_alive
        self._asked_model = asked_model
        self._phase = Phase.CONNECTING
        self._pool: EndpointPool = context.pools.of(decision.endpoint.endpoint)
        self._connecting: ConnectAttempt | None = None
        self._upstream: UpstreamConnection | None = None
        self._reconnected = False
        self._relay: Relay | None = None
        self._reported = 0  # events the ledger was told of
        # Read for every chunk.
        self._now = context.now
        self._idle_timeout = context.settings.idle_timeout
        self._latest = record.started + context.settings.request_timeout

    def start(self) -> None:
        """Begin with the first choice."""
        self._attempt()

    # --- an attempt at the current choice ----------------------------------------------------

    def _attempt(self, *, fresh: bool = False) -> None:
        self._reconnected = fresh
        self._record.attempts += 1
        self._phase = Phase.CONNECTING
        self._expect_within(self._context.settings.first_byte_timeout, self._context.now())
        connection = None if fresh else self._pool.take()
        if connection is not None:
            self.connected(connection)
        else:
            self._connecting = self._pool.connect(self)

    def connected(self, connection: UpstreamConnection) -> None:
        """A connection is there: send the request."""
        context, record = self._context, self._record
        self._connecting = None
        self._upstream = connection
        self._phase = Phase.WAITING
        now = context.now()
        record.endpoint = self.decision.endpoint.endpoint.name
        self._relay = self._new_relay()
        connection.send(
            self, self._request_head(), self._body, bodiless=self._head.method == "HEAD"
        )
        if self._client.write_blocked:
            connection.pause()
        self.router.sent(self.decision, now)

    def _request_head(self) -> bytes:
        record = self._record
        # An engine must not see one id twice at a time, and an abort may still be under way.
        suffix = f"-{record.attempts - 1}" if record.attempts > 1 else ""
        return request_head(
            self._head,
            self._authority_of(self._pool),
            f"{record.request_id}{suffix}".encode(),
            len(self._body),
            self._client.origin,
        )

    def _authority_of(self, pool: EndpointPool) -> bytes:
        """The host that an endpoint is told."""
        authority = pool.address.authority
        if self._context.keeps_host:
            return self._head.header(b"host", authority)
        return authority

    def _new_relay(self) -> Relay:
        """The way to the client for an answer of the record's endpoint."""
        context, record = self._context, self._record
        relay = Relay(
            self._client,
            self._head,
            request_id=record.request_id.encode(),
            endpoint=record.endpoint.encode(),
            extra=context.cors.response_fields(self._head),
            own_cors=context.cors.on,
            keep_alive=self._keep_alive,
            edits=context.edits,
        )
        if self._asked_model:
            relay.rename_back(record.model, self._asked_model)
        return relay

    def not_connected(self, reason: str) -> None:
        """The endpoint can't be reached."""
        self._connecting = None
        self._attempt_failed(reason, refused=True)

    def _attempt_failed(self, reason: str, *, refused: bool = False) -> None:
        if not self._try_next(reason, refused=refused):
            message = f"The endpoint failed before it answered ({reason}) and no other one is left."
            self._give_up(ApiError(502, reason, message, retry_after=1))

    def _give_up(self, error: ApiError) -> None:
        self._phase = Phase.OVER
        self._owner.undeliverable(error)

    def _try_next(self, reason: str, *, refused: bool = False, blameless: bool = False) -> bool:
        """Give the current attempt up for the next ranked endpoint; False when there is none."""
        router, now = self.router, self._context.now()
        router.failed(self.decision, now, reason, refused=refused, blameless=blameless)
        if not router.retry(self.decision, now):
            return False
        self._record.retries += (reason,)
        self._drop_upstream()
        self._pool = self._context.pools.of(self.decision.endpoint.endpoint)
        self._again()
        return True

    def _again(self) -> None:
        """Begin at the endpoint that the brain moved the request to."""
        self._attempt()

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.cancel()

    # --- the response, as it comes -----------------------------------------------------------

    def response_head(self, status: int, headers: Headers) -> None:
        """A head came; it is held until the body begins."""
        assert self._relay is not None
        if status in self._context.settings.retry_statuses and self._try_next(
            f"status_{status}", blameless=status == 429
        ):
            return
        self._relay.head(status, headers)

    def response_data(self, data: bytes) -> None:
        """Relay a piece of the body."""
        relay = self._relay
        assert relay is not None
        now = self._now()
        if self._phase is Phase.WAITING and not self._begin(relay, data, now):
            return
        relay.data(data, now)
        events = relay.meter.events
        if events - self._reported >= _REPORT_EVERY:
            self._reported = events
            self.router.progress(self.decision, now, events)

    def _begin(self, relay: Relay, data: bytes, now: float) -> bool:
        """Look at the first piece; False when the attempt was given up because of it."""
        if relay.opens_with_failure(data) and self._try_next("stream_error"):
            return False
        self._phase = Phase.RELAYING
        self._expect_within(self._idle_timeout, now)
        self._body = b""  # it will not be sent again; a long stream need not keep it
        if relay.is_event_stream:
            self.router.first_token(self.decision, now)
            self._record.ttft = now - self._record.started
        return True

    def response_complete(self) -> None:
        """Write what is left and learn from what the engine reported."""
        self._upstream = None
        relay = self._relay
        assert relay is not None
        if relay.is_event_stream and self._phase is Phase.WAITING:
            self._attempt_failed("empty_stream")
            return
        relay.end()
        self._settle(relay)

    def _settle(self, relay: Relay) -> None:
        record, router, now = self._record, self.router, self._context.now()
        tail = relay.meter.tail
        reason = ""
        if relay.status >= 400:
            reason = f"status_{relay.status}"
            if relay.status >= 500:
                router.failed(self.decision, now, reason)
        elif relay.is_event_stream and is_stream_error(tail):
            reason = "stream_error"
            router.failed(self.decision, now, reason)
        elif (usage := self._api.usage(tail)) is not None:
            record.prompt_tokens = usage.prompt_tokens
            record.cached_tokens = usage.cached_tokens
            record.completion_tokens = usage.completion_tokens
        router.finished(
            self.decision,
            now,
            prompt_tokens=record.prompt_tokens,
            cached_tokens=record.cached_tokens,
            completion_tokens=record.completion_tokens,
        )
        self._phase = Phase.OVER
        self._owner.delivered(relay, reason)

    def response_failed(self, reason: str, *, untouched: bool) -> None:
        """The endpoint's connection ended before the response did."""
        self._upstream = None
        if self._relay is not None and self._relay.committed:
            self._break_off(self._relay, reason)
        elif untouched and not self._reconnected:
            self._attempt(fresh=True)
        else:
            self._attempt_failed(reason)

    # --- ends --------------------------------------------------------------------------------

    def _break_off(self, relay: Relay, reason: str, *, blameless: bool = False) -> None:
        """End a response that is partly with the client, as honestly as its framing allows."""
        now = self._context.now()
        self.router.failed(self.decision, now, reason, blameless=blameless)
        message = f"The endpoint failed in the middle of the stream ({reason})."
        relay.break_off(self._api.stream_error(ApiError(502, reason, message)))
        self._phase = Phase.OVER
        self._owner.delivered(relay, reason)

    def timed_out(self) -> None:
        """The deadline on the client's side passed."""
        settings, now = self._context.settings, self._context.now()
        whole = now - self._record.started >= settings.request_timeout
        if self._phase is Phase.RELAYING and not whole:
            assert self._relay is not None
            # The deadline was set when the body began; since then pieces came, it is later.
            latest_piece = self._relay.meter.last_at
            if latest_piece + self._idle_timeout > now:
                self._expect_within(self._idle_timeout, latest_piece)
                return
        if self._client.write_blocked and not whole:
            # It reads nothing, so nothing is read from the endpoint, whose fault it is not.
            self.cancel()
            self._owner.stalled()
            return
        if self._connecting is not None:
            self._connecting.cancel()
        self._drop_upstream()
        if self._relay is not None and self._relay.committed:
            reason = "request_timeout" if whole else "idle_timeout"
            self._break_off(self._relay, reason, blameless=whole)
            return
        reason, seconds = "first_byte_timeout", settings.first_byte_timeout
        if whole:
            reason, seconds = "request_timeout", settings.request_timeout
        self.router.failed(self.decision, now, reason)
        self._give_up(ApiError(504, reason, f"There was no answer within {seconds:g} s."))

    def cancel(self) -> None:
        """Nobody waits for the answer any more: free the engine at once. Idempotent.

        Clients may leave on the last event, before the endpoint has ended its stream: then the
        answer is whole, and delivered.
        """
        if self._phase is Phase.OVER:
            return
        relay = self._relay
        if relay is not None and relay.is_event_stream and is_last_event(relay.meter.tail):
            self._drop_upstream()
            self._settle(relay)
            return
        self._phase = Phase.OVER
        if self._connecting is not None:
            self._connecting.cancel()
        self._drop_upstream()
        self.router.abandoned(self.decision, self._context.now())

    # --- time and pressure -------------------------------------------------------------------

    def _expect_within(self, seconds: float, now: float) -> None:
        """Set the deadline for the next sign of life, within that of the whole request."""
        soon = now + seconds
        self._client.expect_until(soon if soon < self._latest else self._latest)

    def client_blocked(self) -> None:
        """The client does not keep up: stop reading from the endpoint."""
        if self._upstream is not None:
            self._upstream.pause()

    def client_unblocked(self) -> None:
        """The client caught up."""
        if self._upstream is not None:
            self._upstream.resume()
