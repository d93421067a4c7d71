"""What a peer may do, so that none can make us work or remember without end."""

from dataclasses import dataclass

from gateway.h2.frames import ConnectionFaultError, ErrorCode


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one connection; sizes in bytes, rates in events a second.

    A peer that keeps to its windows can make us hold at most ``stream_window`` a stream that is
    not read, and ``send_backlog`` a stream that it does not read itself: beyond that its windows
    are not opened again.
    """

    max_streams: int = 10_000
    """Streams open at a time; more are refused, which tells the peer to try elsewhere."""
    stream_window: int = 1 << 20
    connection_window: int = 1 << 24
    max_frame: int = 1 << 18
    """The longest payload taken."""
    max_header_list: int = 65_536
    """Of one field block: encoded, and decoded as RFC 9113 section 6.5.2 counts it."""
    max_continuations: int = 16
    """CONTINUATION frames of one block."""
    send_backlog: int = 1 << 18
    """Unsent bytes of a stream from which on its peer's window stays shut."""
    idle_frames: int = 1_000
    """Frames that carry no work (PING, SETTINGS, PRIORITY, empty DATA, unknown ones) at once."""
    idle_rate: float = 100.0
    """How many of them there may be for ever."""
    resets: int = 10_000
    """Streams that the peer may open and reset at once."""
    reset_rate: float = 1_000.0
    """How many of them there may be for ever."""


class Budget:
    """A bucket of ``size`` tokens that refills with ``rate`` a second."""

    __slots__ = ("_left", "_rate", "_since", "_size", "_what")

    def __init__(self, size: int, rate: float, what: str) -> None:
        self._size = float(size)
        self._left = float(size)
        self._rate = rate
        self._since: float | None = None
        self._what = what

    def spend(self, now: float) -> None:
        """Take one; a connection that has none left ends with ENHANCE_YOUR_CALM."""
        since = now if self._since is None else self._since
        self._left = min(self._size, self._left + (now - since) * self._rate) - 1.0
        self._since = now
        if self._left < 0.0:
            raise ConnectionFaultError(ErrorCode.ENHANCE_YOUR_CALM, f"too many {self._what}")

    def earn(self) -> None:
        """Useful work gives one back."""
        if self._left < self._size:
            self._left += 1.0
