"""What a server keeps for others: KV that is pinned until it is read or its lease ends.

    offered --read--> gone         once, by whoever has the key
       |----lease over--> gone     counted: somebody asked for a prefill and never came

A reader may come before the offer and wait for it. Whatever is held stays pinned in the cache, so
strandings show in the server's KV usage, and leaks as holds that are older than their lease.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.fleet.engine.sequence import Sequence


@dataclass(slots=True)
class Hold:
    """The KV of one prompt, and until when it stays."""

    key: str
    sequence: Sequence
    until: float
    timer: asyncio.TimerHandle
    reading: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def tokens(self) -> int:
        """Tokens whose KV is held."""
        return len(self.sequence.prompt)


class Holds:
    """All holds of one server; ``release`` gives a sequence's blocks back to its cache."""

    def __init__(self, lease: float, release: Callable[[Sequence], None]) -> None:
        self.lease = lease
        self.expired = 0
        """Holds that nobody read."""
        self.expired_tokens = 0
        self.read = 0
        self.late_reads = 0
        """Reads that came when the lease was over or somebody else had read."""
        self._release = release
        self._held: dict[str, Hold] = {}
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._gone: set[str] = set()

    def __len__(self) -> int:
        """How many are held."""
        return len(self._held)

    @property
    def tokens(self) -> int:
        """Tokens that are held."""
        return sum(hold.tokens for hold in self._held.values())

    def overdue(self, now: float) -> int:
        """Holds older than their lease: leaks."""
        return sum(hold.until + 1.0 < now and not hold.reading for hold in self._held.values())

    def offer(self, key: str, sequence: Sequence) -> None:
        """Hold a finished sequence's blocks, from now on."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self.lease, self._expire, key)
        self._held[key] = Hold(key, sequence, loop.time() + self.lease, timer)
        for waiter in self._waiting.pop(key, ()):
            if not waiter.done():
                waiter.set_result(None)

    def take(self, key: str) -> Hold | None:
        """The hold, for reading: nobody else gets it any more. None: there is none (any more)."""
        hold = self._held.get(key)
        if hold is None or hold.reading:
            self.late_reads += key in self._gone or hold is not None
            return None
        hold.reading = True
        hold.timer.cancel()
        return hold

    async def offered(self, key: str) -> None:
        """Wait until the key is held."""
        if key in self._held:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(waiter)
        try:
            await waiter
        finally:
            waiters = self._waiting.get(key)
            if waiters is not None and waiter in waiters:
                waiters.remove(waiter)
                if not waiters:
                    del self._waiting[key]

    def done(self, hold: Hold) -> None:
        """It was read, or its reader left: give the blocks back."""
        if self._held.pop(hold.key, None) is hold:
            self.read += 1
            self._end(hold)

    def free(self, sequence: Sequence) -> None:
        """Give back the blocks of a sequence that is held for nobody."""
        self._release(sequence)

    async def left(self, key: str) -> None:
        """Wait until the key is held no more: somebody read it, or its lease is over."""
        hold = self._held.get(key)
        if hold is not None:
            await hold.over.wait()

    def withdraw(self, key: str) -> None:
        """The giver's own client left: nothing is offered any more."""
        hold = self._held.get(key)
        if hold is not None and not hold.reading:
            del self._held[key]
            self._end(hold)

    def clear(self) -> None:
        """The server stops."""
        for hold in self._held.values():
            hold.timer.cancel()

    def _expire(self, key: str) -> None:
        hold = self._held.pop(key)
        self.expired += 1
        self.expired_tokens += hold.tokens
        self._end(hold)

    def _end(self, hold: Hold) -> None:
        hold.timer.cancel()
        hold.over.set()
        self._gone.add(hold.key)
        self._release(hold.sequence)
