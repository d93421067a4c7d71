"""A request on its way to plain addresses, which nobody's brain chose.

Phases, as in `delivery`::

    CONNECTING -> WAITING -> REVIEWED -> RELAYING -> OVER
        ^  |         |
        +--+---------+     next address, while nothing of the request was sent
                     +-> OVER   failed, timed out, or the client left

REVIEWED is there only with somebody else's picker, which is told who served and may change the
response's fields. What reached an address is never sent to another one: nothing is known of
what the request does there.
"""

from collections.abc import Sequence
from typing import Final

from gateway.apis.call import ApiError
from gateway.apis.errors import OpenAIDialect
from gateway.ours import FROM_PICKERS
from gateway.proxy.context import ProxyContext
from gateway.proxy.delivery import ClientSide, Owner
from gateway.proxy.heads import Headers, RequestHead, request_head
from gateway.proxy.picking import Picking
from gateway.proxy.pool import ConnectAttempt, EndpointPool, Waiter
from gateway.proxy.relay import Relay
from gateway.proxy.upstream import ResponseSink, UpstreamConnection
from gateway.record import RequestRecord
from routing.fleet import Endpoint

_STREAM_ERRORS: Final = OpenAIDialect()


class PlainDelivery(ResponseSink, Waiter):
    """One request, from the first address tried to the end of its answer."""

    def __init__(
        self,
        context: ProxyContext,
        client: ClientSide,
        owner: Owner,
        head: RequestHead,
        body: bytes,
        record: RequestRecord,
        endpoints: Sequence[Endpoint],
        picking: Picking | None = None,
        *,
        keep_alive: bool,
    ) -> None:
        self._context = context
        self._client = client
        self._owner = owner
        self._head = head
        self._body = body
        self._record = record
        self._endpoints = endpoints
        self._picking = picking
        self._keep_alive = keep_alive
        self._at = 0
        self._pool: EndpointPool = context.pools.of(endpoints[0])
        self._connecting: ConnectAttempt | None = None
        self._upstream: UpstreamConnection | None = None
        self._reconnected = False
        self._relay: Relay | None = None
        self._relaying = False
        self._reviewing = False
        self._status = 0
        self._held: list[bytes] = []  # of a body that came while its head is reviewed
        self._ended = False  # and the response with it
        self._over = False
        self._now = context.now
        self._latest = record.started + context.settings.request_timeout

    def start(self) -> None:
        """Begin with the first address."""
        self._attempt()

    # --- an attempt --------------------------------------------------------------------------

    def _attempt(self, *, fresh: bool = False) -> None:
        self._reconnected = fresh
        self._record.attempts += 1
        self._pool = self._context.pools.of(self._endpoints[self._at])
        self._expect_within(self._context.settings.first_byte_timeout, self._now())
        connection = None if fresh else self._pool.take()
        if connection is not None:
            self.connected(connection)
        else:
            self._connecting = self._pool.connect(self)

    def connected(self, connection: UpstreamConnection) -> None:
        """A connection is there: send the request."""
        context, fields = self._context, self._head.fields
        self._connecting = None
        self._upstream = connection
        further = []
        coding = fields.get(b"accept-encoding")
        if coding is not None:
            further.append(b"accept-encoding: %b\r\n" % coding)
        if self._picking is not None:  # what clients said of this was taken out before it was asked
            for name, value in self._head.headers:
                if name.startswith(FROM_PICKERS):
                    further.append(b"%b: %b\r\n" % (name, value))
        head = request_head(
            self._head,
            fields.get(b"host", self._pool.address.authority),
            self._record.request_id.encode(),
            len(self._body),
            self._client.origin,
            b"".join(further),
        )
        self._relay = Relay(
            self._client,
            self._head,
            request_id=self._record.request_id.encode(),
            endpoint=self._pool.address.authority,
            extra=context.cors.response_fields(self._head),
            own_cors=context.cors.on,
            keep_alive=self._keep_alive,
            edits=context.edits,
        )
        connection.send(self, head, self._body, bodiless=self._head.method == "HEAD")
        if self._client.write_blocked:
            connection.pause()

    def not_connected(self, reason: str) -> None:
        """The address can't be reached: nothing was sent, so another one may have it."""
        self._connecting = None
        if self._at + 1 < len(self._endpoints):
            self._record.retries += (reason,)
            self._at += 1
            self._attempt()
        else:
            self._fail(ApiError(502, reason, f"No backend could be reached ({reason})."))

    def _fail(self, error: ApiError) -> None:
        self._finish()
        self._owner.undeliverable(error)

    def _finish(self) -> None:
        self._over = True
        if self._picking is not None:
            self._picking.over()

    # --- the response, as it comes -----------------------------------------------------------

    def response_head(self, status: int, headers: Headers) -> None:
        """A head came; whoever picked may look at it first."""
        assert self._relay is not None
        if self._picking is None:
            self._relay.head(status, headers)
            return
        self._status = status
        self._reviewing = True
        if self._upstream is not None:
            self._upstream.pause()
        self._picking.served(self._pool.address.authority.decode(), status, headers)

    def reviewed(self, headers: Headers) -> None:
        """The picker has looked at the head."""
        if self._over or not self._reviewing:
            return
        self._reviewing = False
        assert self._relay is not None
        self._relay.head(self._status, headers)
        held, self._held = self._held, []
        for data in held:
            self.response_data(data)
        if self._ended:
            self.response_complete()
        elif self._upstream is not None and not self._client.write_blocked:
            self._upstream.resume()

    def response_data(self, data: bytes) -> None:
        """Relay a piece of the body."""
        if self._reviewing:
            self._held.append(data)
            return
        relay = self._relay
        assert relay is not None
        now = self._now()
        if not self._relaying:
            self._relaying = True
            self._body = b""
            if relay.is_event_stream:
                self._record.ttft = now - self._record.started
            self._expect_within(self._context.settings.idle_timeout, now)
        relay.data(data, now)

    def response_complete(self) -> None:
        """The response is whole."""
        self._upstream = None
        if self._reviewing:
            self._ended = True
            return
        relay = self._relay
        assert relay is not None
        relay.end()
        self._finish()
        self._owner.delivered(relay, f"status_{relay.status}" if relay.status >= 400 else "")

    def response_failed(self, reason: str, *, untouched: bool) -> None:
        """The connection ended before the response did."""
        self._upstream = None
        relay = self._relay
        if relay is not None and relay.committed:
            self._break_off(relay, reason)
        elif untouched and not self._reconnected:
            self._attempt(fresh=True)
        else:
            self._fail(ApiError(502, reason, f"The backend failed before it answered ({reason})."))

    def _break_off(self, relay: Relay, reason: str) -> None:
        message = f"The backend failed in the middle of the stream ({reason})."
        relay.break_off(_STREAM_ERRORS.stream_error(ApiError(502, reason, message)))
        self._finish()
        self._owner.delivered(relay, reason)

    # --- ends, time and pressure -------------------------------------------------------------

    def timed_out(self) -> None:
        """The deadline on the client's side passed."""
        settings, now = self._context.settings, self._now()
        whole = now >= self._latest
        relay = self._relay
        if self._relaying and not whole:
            assert relay is not None
            if relay.meter.last_at + settings.idle_timeout > now:
                self._expect_within(settings.idle_timeout, relay.meter.last_at)
                return
        if self._client.write_blocked and not whole:
            self.cancel()
            self._owner.stalled()
            return
        self._drop()
        if relay is not None and relay.committed:
            self._break_off(relay, "request_timeout" if whole else "idle_timeout")
            return
        reason = "request_timeout" if whole else "first_byte_timeout"
        self._fail(ApiError(504, reason, "The backend did not answer in time."))

    def cancel(self) -> None:
        """Nobody waits for the answer any more. Idempotent."""
        if not self._over:
            self._finish()
            self._drop()

    def _drop(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.cancel()

    def _expect_within(self, seconds: float, now: float) -> None:
        soon = now + seconds
        self._client.expect_until(soon if soon < self._latest else self._latest)

    def client_blocked(self) -> None:
        """The client does not keep up."""
        if self._upstream is not None:
            self._upstream.pause()

    def client_unblocked(self) -> None:
        """The client caught up."""
        if self._upstream is not None and not self._reviewing:
            self._upstream.resume()
