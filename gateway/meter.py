"""What a response tells while it passes: when its first and last token came, how many, its tail."""

from typing import Final

_TAIL_PIECES: Final = 8
_TAIL_BYTES: Final = 4096


class ResponseMeter:
    """Counts a response's body without decoding it.

    A streamed response carries about one token an event; ``events`` counts its ``data:``
    lines. The last pieces are kept (8 to 16 of at most 4 KB) since usage stands at the end.
    """

    __slots__ = ("_tail", "bytes", "events", "first_at", "last_at")

    def __init__(self) -> None:
        self.bytes = 0
        self.events = 0
        self.first_at: float | None = None
        self.last_at = 0.0
        self._tail: list[bytes] = []

    def add(self, data: bytes, now: float) -> None:
        """Account for one piece of the body."""
        if self.first_at is None:
            self.first_at = now
        self.last_at = now
        self.bytes += len(data)
        self.events += data.count(b"data:")
        tail = self._tail
        tail.append(data if len(data) <= _TAIL_BYTES else data[-_TAIL_BYTES:])
        if len(tail) >= 2 * _TAIL_PIECES:
            del tail[:_TAIL_PIECES]

    @property
    def tail(self) -> bytes:
        """The last bytes of the body."""
        return b"".join(self._tail)

    @property
    def inter_token(self) -> float | None:
        """Mean seconds between events, None before the second."""
        if self.first_at is None or self.events < 2:
            return None
        return (self.last_at - self.first_at) / (self.events - 1)
