"""A request on its way to plain addresses, which nobody's brain chose.

`carrier` has the phases. With somebody else's picker there is one more before the answer is
relayed: the picker is told who served, and may change the response's fields. What reached an
address is never sent to another one: nothing is known of what the request does there.
"""

from collections.abc import Sequence
from typing import Final

from gateway.apis.call import ApiError
from gateway.apis.errors import OpenAIDialect
from gateway.ours import FROM_PICKERS
from gateway.proxy.carrier import Carrier, ClientSide, Owner, Phase
from gateway.proxy.context import ProxyContext
from gateway.proxy.heads import Headers, RequestHead, request_head
from gateway.proxy.picking import Picking
from gateway.proxy.relay import Relay
from gateway.record import RequestRecord
from routing.fleet import Endpoint

_STREAM_ERRORS: Final = OpenAIDialect()


class PlainDelivery(Carrier):
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
        super().__init__(
            context,
            client,
            owner,
            head,
            body,
            record,
            context.pools.of(endpoints[0]),
            keep_alive=keep_alive,
        )
        self._endpoints = endpoints
        self._picking = picking
        self._at = 0
        self._reviewing = False
        self._status = 0
        self._held: list[bytes] = []  # of a body that came while its head is reviewed
        self._ended = False  # and the response with it

    def start(self) -> None:
        """Begin with the first address."""
        self._attempt()

    # --- an attempt --------------------------------------------------------------------------

    def _request_head(self) -> bytes:
        """As the client wrote it, and what a picker adds."""
        fields = self._head.fields
        further = []
        coding = fields.get(b"accept-encoding")
        if coding is not None:
            further.append(b"accept-encoding: %b\r\n" % coding)
        if self._picking is not None:  # what clients said of this was taken out before it was asked
            for name, value in self._head.headers:
                if name.startswith(FROM_PICKERS):
                    further.append(b"%b: %b\r\n" % (name, value))
        return request_head(
            self._head,
            fields.get(b"host", self._pool.address.authority),
            self._record.request_id.encode(),
            len(self._body),
            self._client.origin,
            b"".join(further),
        )

    def _answering(self) -> bytes:
        """The address that is tried."""
        return self._pool.address.authority

    def _attempt_failed(self, reason: str, *, refused: bool = False) -> None:
        """Where nothing was sent another address may have it."""
        if not refused:
            message = f"The backend failed before it answered ({reason})."
            self._give_up(ApiError(502, reason, message))
        elif self._at + 1 < len(self._endpoints):
            self._record.retries += (reason,)
            self._at += 1
            self._pool = self._context.pools.of(self._endpoints[self._at])
            self._attempt()
        else:
            self._give_up(ApiError(502, reason, f"No backend could be reached ({reason})."))

    def _give_up(self, error: ApiError) -> None:
        self._finish()
        super()._give_up(error)

    def _finish(self) -> None:
        self._phase = Phase.OVER
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
        if self._phase is Phase.OVER or not self._reviewing:
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
        if self._phase is Phase.WAITING:
            self._phase = Phase.RELAYING
            self._body = b""
            if relay.is_event_stream:
                self._record.ttft = now - self._record.started
            self._expect_within(self._idle_timeout, now)
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

    # --- ends and pressure -------------------------------------------------------------------

    def _break_off(self, relay: Relay, reason: str, *, blameless: bool = False) -> None:
        """End a response that is partly with the client, as honestly as its framing allows."""
        message = f"The backend failed in the middle of the stream ({reason})."
        relay.break_off(_STREAM_ERRORS.stream_error(ApiError(502, reason, message)))
        self._finish()
        self._owner.delivered(relay, reason)

    def _unanswered(self, reason: str, seconds: float) -> None:
        """The time is over, and nothing was relayed."""
        self._give_up(ApiError(504, reason, f"The backend did not answer within {seconds:g} s."))

    def cancel(self) -> None:
        """Nobody waits for the answer any more. Idempotent."""
        if self._phase is not Phase.OVER:
            self._finish()
            self._drop()

    def client_unblocked(self) -> None:
        """The client caught up; what is under review is not read on for that."""
        if not self._reviewing:
            super().client_unblocked()
