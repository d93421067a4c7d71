"""A request of our own to an endpoint: sent once, its answer taken whole. A prefill leg is one.

States::

    CONNECTING -> WAITING -> OVER      answered, lost, or cancelled
        ^------------+                 a kept-alive connection that was dead: once, for free

It has no deadline of its own; whoever waits for it does. A detached one runs to its end although
nobody waits any more.
"""

from enum import Enum
from typing import Final

from mypy_extensions import trait

from gateway.proxy.heads import Headers
from gateway.proxy.pool import ConnectAttempt, EndpointPool, Waiter
from gateway.proxy.upstream import ResponseSink, UpstreamConnection

MOST_BYTES: Final = 16 << 20
"""Of an answer; longer ones are cut off, which nobody reads to the end anyway."""


class RunPhase(Enum):
    """Where a run is in its life."""

    CONNECTING = 1
    WAITING = 2
    OVER = 3


@trait
class RunOwner:
    """Who waits for a run. Exactly one is called, and only if it was not cancelled."""

    def run_sent(self) -> None:
        """It went out."""

    def run_answered(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole answer is there."""

    def run_lost(self, reason: str, *, refused: bool) -> None:
        """There will be none. ``refused``: the endpoint did not even accept the connection."""


class LegRun(ResponseSink, Waiter):
    """One such request. ``drain``: the body of a good answer is read and dropped."""

    def __init__(
        self, pool: EndpointPool, head: bytes, body: bytes, owner: RunOwner, *, drain: bool
    ) -> None:
        self._pool = pool
        self._head = head
        self._body = body
        self._owner = owner
        self._drain = drain
        self._phase = RunPhase.CONNECTING
        self._connecting: ConnectAttempt | None = None
        self._upstream: UpstreamConnection | None = None
        self._reconnected = False
        self._status = 0
        self._headers: Headers = []
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self._phase is RunPhase.OVER

    def start(self) -> None:
        """Send it."""
        connection = self._pool.take()
        if connection is not None:
            self.connected(connection)
        else:
            self._connecting = self._pool.connect(self)

    def detach(self, owner: RunOwner) -> None:
        """Have it reported to somebody else from now on."""
        self._owner = owner

    def cancel(self) -> None:
        """Nobody wants the answer: drop the connection, so that the engine stops. Idempotent."""
        self._phase = RunPhase.OVER
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.cancel()

    # --- from the pool and the connection ----------------------------------------------------

    def connected(self, connection: UpstreamConnection) -> None:
        """A connection is there: send."""
        self._connecting = None
        self._upstream = connection
        self._phase = RunPhase.WAITING
        connection.send(self, self._head, self._body, bodiless=False)
        self._owner.run_sent()

    def not_connected(self, reason: str) -> None:
        """It can't be reached."""
        self._connecting = None
        self._phase = RunPhase.OVER
        self._owner.run_lost(reason, refused=True)

    def response_head(self, status: int, headers: Headers) -> None:
        """A head came."""
        self._status = status
        self._headers = headers

    def response_data(self, data: bytes) -> None:
        """A piece of the body came."""
        if self._drain and self._status < 400:
            return
        self._size += len(data)
        if self._size > MOST_BYTES:
            self.cancel()
            self._owner.run_lost("answer_too_large", refused=False)
            return
        self._pieces.append(data)

    def response_complete(self) -> None:
        """The answer is whole."""
        self._upstream = None
        self._phase = RunPhase.OVER
        self._owner.run_answered(self._status, self._headers, b"".join(self._pieces))

    def response_failed(self, reason: str, *, untouched: bool) -> None:
        """The connection ended first."""
        self._upstream = None
        if untouched and not self._reconnected:
            self._reconnected = True
            self._phase = RunPhase.CONNECTING
            self._connecting = self._pool.connect(self)
            return
        self._phase = RunPhase.OVER
        self._owner.run_lost(reason, refused=False)
