"""A routed request on its way: attempts at ranked endpoints until one answers, and its answer.

`carrier` has the phases. Until the first byte of an answer's body (connecting, queueing and
prefilling, which is where requests spend their time) a lost endpoint costs the client nothing but
time: the next ranked one is tried. A stream that breaks after it ends with an error event, any
other response by closing the connection.
"""

from typing import Final

from gateway.apis.call import Api, ApiError
from gateway.apis.usage import is_last_event, is_stream_error
from gateway.proxy.carrier import Carrier, ClientSide, Owner, Phase
from gateway.proxy.context import ProxyContext
from gateway.proxy.heads import Headers, RequestHead, request_head
from gateway.proxy.pool import EndpointPool
from gateway.proxy.relay import Relay
from gateway.proxy.upstream import UpstreamConnection
from gateway.record import RequestRecord
from routing.decision import Decision
from routing.router import Router

_REPORT_EVERY: Final = 32  # events between two progress reports to the ledger


class Delivery(Carrier):
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
        super().__init__(
            context,
            client,
            owner,
            head,
            body,
            record,
            context.pools.of(decision.endpoint.endpoint),
            keep_alive=keep_alive,
        )
        self.decision = decision
        self.router = router
        self._api = api
        self._asked_model = asked_model
        self._reported = 0  # events the ledger was told of

    def start(self) -> None:
        """Begin with the first choice."""
        self._attempt()

    # --- an attempt at the current choice ----------------------------------------------------

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

    def connected(self, connection: UpstreamConnection) -> None:
        """A connection is there: send the request."""
        self._record.endpoint = self.decision.endpoint.endpoint.name
        super().connected(connection)

    def _answering(self) -> bytes:
        """The last endpoint that was sent the request."""
        return self._record.endpoint.encode()

    def _new_relay(self) -> Relay:
        """The way to the client, where the model may have another name."""
        relay = super()._new_relay()
        if self._asked_model:
            relay.rename_back(self._record.model, self._asked_model)
        return relay

    def _sent(self) -> None:
        """The request is on its way."""
        self.router.sent(self.decision, self._context.now())

    def _attempt_failed(self, reason: str, *, refused: bool = False) -> None:
        """Try the next ranked endpoint, or give up."""
        if not self._try_next(reason, refused=refused):
            message = f"The endpoint failed before it answered ({reason}) and no other one is left."
            self._give_up(ApiError(502, reason, message, retry_after=1))

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

    # --- ends --------------------------------------------------------------------------------

    def _break_off(self, relay: Relay, reason: str, *, blameless: bool = False) -> None:
        """End a response that is partly with the client, as honestly as its framing allows."""
        now = self._context.now()
        self.router.failed(self.decision, now, reason, blameless=blameless)
        message = f"The endpoint failed in the middle of the stream ({reason})."
        relay.break_off(self._api.stream_error(ApiError(502, reason, message)))
        self._phase = Phase.OVER
        self._owner.delivered(relay, reason)

    def _unanswered(self, reason: str, seconds: float) -> None:
        """The time is over, and nothing was relayed."""
        self.router.failed(self.decision, self._context.now(), reason)
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
        self._drop()
        self.router.abandoned(self.decision, self._context.now())
