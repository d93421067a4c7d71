"""One request that a picker is asked about: its protocol, without sockets or clocks.

    PICKING ──► PICKED ──► REVIEWING ──► REVIEWED ──► OVER
       │ the picker answers, fails, is late ▲
       └───────────────────────────────────┴──► OVER

PICKING: head and body are with the picker. PICKED: it has named endpoints and given the body
back. REVIEWING: it was told who served, and may change the response's fields. A picker that
leaves after it picked changes nothing: the response goes on as it is.
"""

from collections.abc import Callable
from enum import Enum

from gateway.picking.wire import (
    BodyReply,
    Fields,
    HeadReply,
    ImmediateReply,
    Mutation,
    PickerProtocolError,
    read,
    request_messages,
    response_message,
)
from gateway.proxy.heads import RequestHead
from gateway.proxy.picking import Answered, Asker, Picked, Picking

LONGEST_BODY = 256 << 20
"""Bytes that a picker may make of a request's body."""


class Stage(Enum):
    """Where a call is in its life."""

    PICKING = 1
    PICKED = 2
    REVIEWING = 3
    REVIEWED = 4
    OVER = 5


class PickerCall(Picking):
    """``send`` sends a message, ``hang_up`` ends the stream: after a pick in order, else at once.

    ``expect`` starts the clock for the next answer; whoever keeps it calls `late`.
    """

    def __init__(
        self,
        asker: Asker,
        send: Callable[[bytes], None],
        hang_up: Callable[[bool], None],
        expect: Callable[[], None],
    ) -> None:
        self.stage = Stage.PICKING
        self._asker = asker
        self._send = send
        self._hang_up = hang_up
        self._expect = expect
        self._fields: Fields = []
        self._mutation = Mutation()
        self._destination: str | None = None
        self._bodiless = False
        self._body: list[bytes] = []
        self._size = 0
        self._response: Fields = []

    # --- from the proxy ----------------------------------------------------------------------

    def begin(self, head: RequestHead, body: bytes, scheme: bytes) -> None:
        """Say what the request is."""
        self._fields = head.headers
        self._bodiless = not body
        self._expect()
        authority = head.header(b"host", b"")
        for message in request_messages(
            head.method.encode(), head.target, scheme, authority, head.headers, body
        ):
            self._send(message)

    def served(self, address: str, status: int, fields: Fields) -> None:
        """Tell who answered."""
        self._response = fields
        if self.stage is not Stage.PICKED:
            # It hung up after its pick: nobody wants to know.
            self._asker.reviewed(fields)
            return
        self.stage = Stage.REVIEWING
        self._expect()
        self._send(response_message(status, fields, address))

    def over(self) -> None:
        """The request is over."""
        if self.stage is not Stage.OVER:
            in_order = self.stage is not Stage.PICKING
            self.stage = Stage.OVER
            self._hang_up(in_order)

    # --- from the picker ---------------------------------------------------------------------

    def message(self, message: bytes) -> None:
        """The picker said something."""
        if self.stage is Stage.OVER:
            return
        try:
            reply = read(message)
            if isinstance(reply, HeadReply):
                self._head(reply)
            elif isinstance(reply, BodyReply):
                self._piece(reply)
            elif isinstance(reply, ImmediateReply):
                self._immediate(reply)
        except PickerProtocolError:
            self._fail("picker_protocol")

    def _head(self, reply: HeadReply) -> None:
        if reply.response:
            if self.stage is Stage.REVIEWING:
                self.stage = Stage.REVIEWED
                self._asker.reviewed(reply.mutation.applied(self._response))
            return
        if self.stage is not Stage.PICKING or self._destination is not None:
            raise PickerProtocolError("a second reply to the request's head")
        if reply.destination is None:
            self._fail("picker_no_endpoint")
            return
        self._destination, self._mutation = reply.destination, reply.mutation
        if self._bodiless:
            self._picked()

    def _piece(self, reply: BodyReply) -> None:
        if self.stage is not Stage.PICKING or self._destination is None:
            raise PickerProtocolError("a body before the reply to the head")
        self._size += len(reply.body)
        if self._size > LONGEST_BODY:
            raise PickerProtocolError("the body has grown too long")
        self._body.append(reply.body)
        if reply.ends:
            self._picked()

    def _picked(self) -> None:
        assert self._destination is not None
        self.stage = Stage.PICKED
        addresses = [one.strip() for one in self._destination.split(",") if one.strip()]
        body, self._body = b"".join(self._body), []
        self._asker.picked(Picked(addresses, self._mutation.applied(self._fields), body))

    def _immediate(self, reply: ImmediateReply) -> None:
        if self.stage is Stage.PICKING:
            self.stage = Stage.PICKED  # so that the stream is ended in order
            self._asker.answered(Answered(reply.status, reply.fields, reply.body))
        else:
            self.lost("picker_protocol")  # too late: the endpoint's answer is on its way

    def late(self) -> None:
        """What was expected did not come in time."""
        self.lost("picker_timeout")

    def lost(self, reason: str) -> None:
        """The stream ended, or does not go on."""
        if self.stage is Stage.PICKING:
            self._fail(reason)
        elif self.stage is Stage.REVIEWING:
            self.stage = Stage.REVIEWED
            self._asker.reviewed(self._response)
        elif self.stage is Stage.PICKED:
            self.stage = Stage.REVIEWED

    def _fail(self, reason: str) -> None:
        if self.stage is Stage.PICKING:
            self.stage = Stage.OVER
            self._hang_up(False)
            self._asker.unpicked(reason)
        else:
            self.lost(reason)
