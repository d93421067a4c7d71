"""Carries one request to an endpoint and its answer back: what all deliveries have in common.

Phases::

    CONNECTING -> WAITING -> RELAYING -> OVER
        ^  |         |           |
        +--+---------+           |   another attempt, while nothing was relayed
           +---------+-----------+-> OVER   failed, timed out, or the client left

Nothing of a response is relayed before the first byte of its body is there, and from that byte on
nothing is ever sent again. Which endpoint is tried, what it is told and what comes of its failures
is the delivery's business.
"""

from enum import Enum

from mypy_extensions import trait

from gateway.apis.call import ApiError
from gateway.proxy.context import ProxyContext
from gateway.proxy.heads import Origin, RequestHead
from gateway.proxy.pool import ConnectAttempt, EndpointPool, Waiter
from gateway.proxy.relay import Relay, Writer
from gateway.proxy.upstream import ResponseSink, UpstreamConnection
from gateway.record import RequestRecord


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
        """Wait for the next sign of life until then, and call `Carrier.timed_out` after it."""


@trait
class Owner:
    """Whom a delivery reports its end to; the exchange in production. Exactly one is called."""

    def delivered(self, relay: Relay, reason: str) -> None:
        """The response went out, whole or broken off; ``reason`` is empty when all went well."""

    def undeliverable(self, error: ApiError) -> None:
        """Nothing was relayed, and no endpoint is left to try."""

    def stalled(self) -> None:
        """The client reads no more."""


class Carrier(ResponseSink, Waiter):
    """The connection to the endpoint that is tried, the deadline, and pressure both ways."""

    def __init__(
        self,
        context: ProxyContext,
        client: ClientSide,
        owner: Owner,
        head: RequestHead,
        body: bytes,
        record: RequestRecord,
        pool: EndpointPool,
        *,
        keep_alive: bool,
    ) -> None:
        self._context = context
        self._client = client
        self._owner = owner
        self._head = head
        self._body = body
        self._record = record
        self._pool = pool
        self._keep_alive = keep_alive
        self._phase = Phase.CONNECTING
        self._connecting: ConnectAttempt | None = None
        self._upstream: UpstreamConnection | None = None
        self._reconnected = False
        self._relay: Relay | None = None
        # Read for every chunk.
        self._now = context.now
        self._idle_timeout = context.settings.idle_timeout
        self._latest = record.started + context.settings.request_timeout

    # --- what deliveries differ in -----------------------------------------------------------

    def _request_head(self) -> bytes:
        """What the endpoint is sent before the body."""
        raise NotImplementedError

    def _answering(self) -> bytes:
        """How the client is told who answers."""
        raise NotImplementedError

    def _sent(self) -> None:
        """The request is on its way."""

    def _attempt_failed(self, reason: str, *, refused: bool = False) -> None:
        """Nothing was relayed: try again somewhere, or give up.

        ``refused``: no connection came about.
        """
        raise NotImplementedError

    def _break_off(self, relay: Relay, reason: str, *, blameless: bool = False) -> None:
        """End a response that is partly with the client, as honestly as its framing allows."""
        raise NotImplementedError

    def _unanswered(self, reason: str, seconds: float) -> None:
        """The time is over, and nothing was relayed."""
        raise NotImplementedError

    # --- an attempt --------------------------------------------------------------------------

    def _attempt(self, *, fresh: bool = False) -> None:
        """Begin at the pool; ``fresh``: on a new connection, since a kept one had died."""
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
        self._connecting = None
        self._upstream = connection
        self._phase = Phase.WAITING
        self._relay = self._new_relay()
        connection.send(
            self, self._request_head(), self._body, bodiless=self._head.method == "HEAD"
        )
        if self._client.write_blocked:
            connection.pause()
        self._sent()

    def _new_relay(self) -> Relay:
        """The way to the client for an answer of the endpoint that is tried."""
        context = self._context
        return Relay(
            self._client,
            self._head,
            request_id=self._record.request_id.encode(),
            endpoint=self._answering(),
            extra=context.cors.response_fields(self._head),
            own_cors=context.cors.on,
            keep_alive=self._keep_alive,
            edits=context.edits,
        )

    def not_connected(self, reason: str) -> None:
        """The endpoint can't be reached."""
        self._connecting = None
        self._attempt_failed(reason, refused=True)

    def response_failed(self, reason: str, *, untouched: bool) -> None:
        """The endpoint's connection ended before the response did."""
        self._upstream = None
        if self._relay is not None and self._relay.committed:
            self._break_off(self._relay, reason)
        elif untouched and not self._reconnected:
            self._attempt(fresh=True)
        else:
            self._attempt_failed(reason)

    def _give_up(self, error: ApiError) -> None:
        self._phase = Phase.OVER
        self._owner.undeliverable(error)

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.cancel()

    def _drop(self) -> None:
        """Free the endpoint at once."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self._drop_upstream()

    def cancel(self) -> None:
        """Nobody waits for the answer any more. Idempotent."""
        raise NotImplementedError

    # --- time and pressure -------------------------------------------------------------------

    def timed_out(self) -> None:
        """The deadline on the client's side passed."""
        settings, now = self._context.settings, self._context.now()
        whole = now - self._record.started >= settings.request_timeout
        relay = self._relay
        if self._phase is Phase.RELAYING and not whole:
            assert relay is not None
            # The deadline was set when the body began; since then pieces came, it is later.
            latest_piece = relay.meter.last_at
            if latest_piece + self._idle_timeout > now:
                self._expect_within(self._idle_timeout, latest_piece)
                return
        if self._client.write_blocked and not whole:
            # It reads nothing, so nothing is read from the endpoint, whose fault it is not.
            self.cancel()
            self._owner.stalled()
            return
        self._drop()
        if relay is not None and relay.committed:
            reason = "request_timeout" if whole else "idle_timeout"
            self._break_off(relay, reason, blameless=whole)
        elif whole:
            self._unanswered("request_timeout", settings.request_timeout)
        else:
            self._unanswered("first_byte_timeout", settings.first_byte_timeout)

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
