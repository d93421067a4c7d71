"""Writes that leave together, at the end of the event loop's turn.

A write to a socket wakes whoever sleeps at its other end, and waking costs more than sending:
on a virtual machine half of what a short request costs. Peers that are still busy with the
first write of a turn need not be woken for the second. So connections leave what they have to
send here, and what one turn brought goes out at its end; what several writes of a turn left
for one connection goes out as one.

Nothing waits long: a turn is the handling of what had arrived at its beginning, and beyond a
few writes, or much data, everything goes out at once.
"""

import asyncio
from typing import Final

_MOST_WRITES: Final = 32
_MOST_BYTES: Final = 1 << 18


class Outbox:
    """What the connections of one event loop have to send in this turn."""

    __slots__ = ("_bytes", "_loop", "_waiting")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[Sender] = []
        self._bytes = 0

    def enter(self, sender: "Sender") -> None:
        """A connection has something to send, for the first time since it was flushed."""
        waiting = self._waiting
        waiting.append(sender)
        if len(waiting) == 1:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self.flush)

    def grew(self, size: int) -> None:
        """So many bytes more wait. One turn may bring megabytes for one connection alone."""
        self._bytes += size
        if self._bytes >= _MOST_BYTES or len(self._waiting) >= _MOST_WRITES:
            self.flush()

    def flush(self) -> None:
        """Send everything that waits."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        for sender in waiting:
            sender.flush()


class Sender:
    """What one connection has to send."""

    __slots__ = ("_more", "_outbox", "_transport", "_unsent")

    def __init__(self, outbox: Outbox, transport: asyncio.WriteTransport) -> None:
        self._outbox = outbox
        self._transport = transport
        self._unsent = b""
        self._more: list[bytes] = []  # with the first, when there are several

    @property
    def sent(self) -> bool:
        """Whether everything is with the system."""
        return not self._unsent and not self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Send bytes with this turn's others."""
        if not self._unsent:
            self._unsent = data
            self._outbox.enter(self)
        else:
            if not self._more:
                self._more.append(self._unsent)
            self._more.append(data)
        self._outbox.grew(len(data))

    def flush(self) -> None:
        """Send what waits now, as must be done before the transport's sending side is closed."""
        data, more = self._unsent, self._more
        if not data:
            return
        self.drop()
        transport = self._transport
        try:
            if more:
                transport.writelines(more)
            else:
                transport.write(data)
        except RuntimeError:  # it was closed meanwhile; nobody else's writes may suffer from it
            transport.abort()

    def close(self) -> None:
        """Close the connection once everything is sent."""
        self.flush()
        self._transport.close()

    def drop(self) -> None:
        """Forget what waits: the connection is cut."""
        self._unsent = b""
        if self._more:
            self._more = []
