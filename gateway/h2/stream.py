"""One stream of a connection, as a server sees it (RFC 9113 section 5.1)::

             the peer ends                        we end
    OPEN ─────────────────► HALF_CLOSED_REMOTE ─────────► CLOSED
      │        we end                           the peer ends   ▲
      └───────────────────► HALF_CLOSED_LOCAL ──────────────────┤
      └── a reset of either side, or the connection's end ──────┘

What can't be sent at once, for a window is shut or the socket is full, waits in the stream. A
stream that waits with much does not get its own window opened: a peer that reads nothing can make
us hold no more than what its window lets through.
"""

from collections import deque
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from gateway.h2.frames import ErrorCode
from gateway.h2.windows import ReceiveWindow

if TYPE_CHECKING:
    from gateway.h2.connection import Connection


class State(Enum):
    """Where a stream is in its life; an idle one does not exist yet."""

    __hash__ = object.__hash__

    OPEN = "open"
    HALF_CLOSED_REMOTE = "half-closed (remote)"  # the peer has said everything
    HALF_CLOSED_LOCAL = "half-closed (local)"  # we have
    CLOSED = "closed"


AFTER_PEER_END = MappingProxyType(
    {State.OPEN: State.HALF_CLOSED_REMOTE, State.HALF_CLOSED_LOCAL: State.CLOSED}
)
"""State -> the one after END_STREAM came; any other state makes that an error."""

AFTER_OUR_END = MappingProxyType(
    {State.OPEN: State.HALF_CLOSED_LOCAL, State.HALF_CLOSED_REMOTE: State.CLOSED}
)
"""State -> the one after we sent END_STREAM."""


class Receiver(Protocol):
    """Who a stream's data is for."""

    def data(self, data: bytes) -> None:
        """Bytes came."""

    def end(self) -> None:
        """The peer has said everything."""

    def cut(self, code: ErrorCode) -> None:
        """The stream ended before both sides had said everything; nothing can be sent any more."""


class Stream:
    """A stream from its first HEADERS on. Only its connection touches what has an underscore."""

    __slots__ = (
        "_connection",
        "_pending",
        "_trailers",
        "answered",
        "id",
        "pending_bytes",
        "receive_window",
        "receiver",
        "send_window",
        "state",
    )

    def __init__(
        self, connection: "Connection", stream_id: int, send_window: int, receive_window: int
    ) -> None:
        self.id = stream_id
        self.state = State.OPEN
        self.answered = False
        """Whether our headers were sent."""
        self.receiver: Receiver
        self.send_window = send_window
        """Bytes that the peer takes; below 0 after it made its windows smaller."""
        self.receive_window = ReceiveWindow(receive_window)
        """What the peer may still send."""
        self.pending_bytes = 0
        """Bytes that wait for a window."""
        self._connection = connection
        self._pending: deque[bytes | memoryview] = deque()
        self._trailers: bytes | None = None  # the block to send when nothing is pending any more

    def send_headers(self, block: bytes) -> None:
        """Begin the answer."""
        if self.state is not State.CLOSED:
            self.answered = True
            self._connection.sender.block(self.id, block, end=False)

    def send_data(self, data: bytes) -> None:
        """Send, now or when the windows allow it."""
        if self.state is State.CLOSED or not data:
            return
        if not self._pending:
            sent = self._connection.sender.data(self, data)
            if sent == len(data):
                return
            self._connection.sender.wait(self)
            rest: bytes | memoryview = memoryview(data)[sent:] if sent else data
        else:
            rest = data
        self._pending.append(rest)
        self.pending_bytes += len(rest)

    def send_end(self, block: bytes) -> None:
        """End our side with trailers, behind what is still to be sent."""
        if self.state is State.CLOSED or self._trailers is not None:
            return
        self._trailers = block
        if not self._pending:
            self._connection.our_end(self, block)

    def reset(self, code: ErrorCode) -> None:
        """End both sides at once. The receiver is not told."""
        if self.state is not State.CLOSED:
            self._connection.reset(self, code)

    def pump(self) -> bool:
        """Send what waits, as far as the windows allow; whether nothing waits any more."""
        pending = self._pending
        while pending:
            data = pending[0]
            sent = self._connection.sender.data(self, data)
            self.pending_bytes -= sent
            if sent < len(data):
                if sent:
                    pending[0] = memoryview(data)[sent:]
                return False
            pending.popleft()
        if self._trailers is not None:
            self._connection.our_end(self, self._trailers)
        return True

    def drop(self) -> None:
        """Forget what waits: nobody will get it."""
        self.state = State.CLOSED
        self._pending.clear()
        self.pending_bytes = 0
