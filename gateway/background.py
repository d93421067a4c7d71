"""Handing finished requests to a thread, so that writing never holds up the event loop.

`BackgroundWriter.put` appends to a queue. A thread takes everything queued ten times a second and
writes it at once, so that a slow terminal, pipe or disk delays that thread only. (A pipe can't
simply be made non-blocking: the flag would hold for every process that shares it.) The queue is
bounded: what finds no room is dropped, counted, and the count is logged.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

_FLUSH_SECONDS = 0.1

T = TypeVar("T")


class BackgroundWriter(Generic[T]):
    """A bounded queue, and the thread that empties it.

    ``write`` gets what was queued, in order, always in the same thread; when it raises OSError
    (the reader is gone, the disk is full) the batch counts as dropped and the thread goes on.
    ``name`` says in the log what was dropped: "access lines dropped".
    """

    def __init__(
        self,
        name: str,
        write: Callable[[list[T]], object],
        *,
        limit: int,
        log: logging.Logger,
    ) -> None:
        self.dropped = 0
        """Items that could not be written."""
        self._name = name
        self._write = write
        self._limit = limit
        self._log = log
        self._items: deque[T] = deque()
        self._waiting = threading.Event()  # there are items, or it is time to go
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def full(self) -> bool:
        """Whether the next item would find no room."""
        return len(self._items) >= self._limit

    def put(self, item: T) -> None:
        """Queue one item, or count it as dropped."""
        if self.full:
            self.dropped += 1
            return
        self._items.append(item)
        if not self._waiting.is_set():
            self._waiting.set()

    def close(self, seconds: float) -> bool:
        """Write what is queued, for at most ``seconds``: nobody may be reading.

        Returns whether everything was written.
        """
        self._closing.set()
        self._waiting.set()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def queued(self) -> int:
        """Items that wait to be written."""
        return len(self._items)

    def _run(self) -> None:
        told = 0
        while not self._closing.is_set() or self._items:
            self._waiting.wait()
            self._closing.wait(_FLUSH_SECONDS)
            self._waiting.clear()
            self._flush()
            if self.dropped > told:
                self._log.warning("%s dropped", self._name, extra={"lines": self.dropped - told})
                told = self.dropped

    def _flush(self) -> None:
        # The only consumer: what is counted now is there to be taken.
        items = [self._items.popleft() for _ in range(len(self._items))]
        if not items:
            return
        try:
            self._write(items)
        except OSError:
            self.dropped += len(items)
