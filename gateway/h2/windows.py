"""Our side of flow control: what the peer may still send (RFC 9113 section 5.2)."""


class ReceiveWindow:
    """One window, of a stream or of the connection; opened again when half of it was used."""

    __slots__ = ("_size", "_used", "left")

    def __init__(self, size: int) -> None:
        self.left = size
        """Bytes that the peer may still send."""
        self._size = size
        self._used = 0  # and not allowed again yet

    def take(self, size: int) -> bool:
        """So much came; False when it was more than allowed."""
        self.left -= size
        self._used += size
        return self.left >= 0

    def reopen(self) -> int:
        """By how much to open it now; 0 as long as less than half was used."""
        used = self._used
        if 2 * used < self._size:
            return 0
        self.left += used
        self._used = 0
        return used
