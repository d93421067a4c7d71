"""One gRPC connection to a picker, and the calls on it."""

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.h2.channel import ClientChannel
from gateway.h2.client import ClientConnection
from gateway.h2.frames import ErrorCode
from gateway.h2.limits import Limits
from gateway.h2.stream import Stream
from gateway.picking.call import PickerCall
from gateway.proxy.heads import RequestHead
from gateway.proxy.picking import Asker
from gateway.rpc.messages import Deframer, framed
from gateway.rpc.status import RpcError

PROCESS: Final = b"/envoy.service.ext_proc.v3.ExternalProcessor/Process"
_LONGEST_MESSAGE: Final = 4 << 20
_LIMITS: Final = Limits(max_streams=1_000)


class CallStream:
    """A call's stream: what is between HTTP/2 and the protocol."""

    def __init__(self, seconds: float, done: Callable[["CallStream"], None]) -> None:
        self.call: PickerCall | None = None
        self._stream: Stream | None = None
        self._deframer = Deframer(_LONGEST_MESSAGE)
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._done = done
        self._refused = False

    def open(self, connection: ClientConnection, scheme: bytes, authority: bytes) -> None:
        """Begin. Raises `NoStreamError`."""
        self._stream = connection.open(
            [
                (b":method", b"POST"),
                (b":scheme", scheme),
                (b":path", PROCESS),
                (b":authority", authority),
                (b"content-type", b"application/grpc"),
                (b"te", b"trailers"),
                (b"user-agent", b"inferway"),
            ],
            self,
        )

    # --- for the call ------------------------------------------------------------------------

    def send(self, message: bytes) -> None:
        """Send a message."""
        if self._stream is not None:
            self._stream.send_data(framed(message))

    def expect(self) -> None:
        """Wait for an answer, as long as may be."""
        self._stop_clock()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._late)

    def hang_up(self, in_order: bool) -> None:
        """End the stream."""
        self._stop_clock()
        stream = self._stream
        if stream is None:
            return
        self.call = None
        if in_order:
            stream.send_end(b"")  # the picker sees its end, and ends, too
            self.expect()
        else:
            self._stream = None
            stream.reset(ErrorCode.CANCEL)
            self._done(self)

    def _late(self) -> None:
        self._timer = None
        if self.call is not None:
            self.call.late()
        else:
            self.hang_up(False)  # it does not end by itself

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- from HTTP/2 -------------------------------------------------------------------------

    def fields(self, fields: list[tuple[bytes, bytes]]) -> None:
        """The response begins, or ends with trailers."""
        said = dict(fields)
        if said.get(b":status", b"200") != b"200" or said.get(b"grpc-status", b"0") != b"0":
            self._refused = True

    def data(self, data: bytes) -> None:
        """Bytes of messages came."""
        try:
            messages = self._deframer.feed(data)
        except RpcError:
            self._broken("picker_protocol")
            return
        for message in messages:
            self._stop_clock()
            if self.call is not None:
                self.call.message(message)

    def end(self) -> None:
        """The picker has said everything."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.reset(ErrorCode.NO_ERROR)
        self._broken("picker_refused" if self._refused else "picker_closed")

    def cut(self, _code: ErrorCode) -> None:
        """The stream or the connection is gone."""
        self._stream = None
        self._broken("picker_lost")

    def _broken(self, reason: str) -> None:
        self._stop_clock()
        call, self.call = self.call, None
        self._done(self)
        if call is not None:
            call.lost(reason)


class Channel(ClientChannel):
    """One connection to a picker."""

    def __init__(
        self, scheme: bytes, authority: bytes, gone: Callable[[ClientChannel], None]
    ) -> None:
        super().__init__(_LIMITS, gone)
        self.address = ""
        """``host:port`` that it leads to."""
        self._scheme = scheme
        self._authority = authority
        self._streams: set[CallStream] = set()

    def ask(
        self, asker: Asker, head: RequestHead, body: bytes, scheme: bytes, seconds: float
    ) -> PickerCall:
        """Make a call; ``seconds`` for each answer. Raises `NoStreamError`."""
        stream = CallStream(seconds, self._streams.discard)
        stream.open(self.connection, self._scheme, self._authority)
        self._streams.add(stream)
        call = PickerCall(asker, stream.send, stream.hang_up, stream.expect)
        stream.call = call
        call.begin(head, body, scheme)
        return call
