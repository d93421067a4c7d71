"""Follows one publisher over ZeroMQ: reads what comes, fetches what did not.

No task waits for messages: the event loop calls when the socket has some, a bounded number of
bytes is applied, and if more is there the loop is asked to come back, so that other work gets its
turn. While a replay runs the live socket is left alone; its queue is bounded, and what does not
fit is missing afterwards and fetched again.

ZeroMQ connects again by itself. Its monitor says when it has: then messages may be missing, or
another process may be there, and a replay finds out which.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing

import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

from endpoints.events.feed import Feed, Replayed
from endpoints.events.replay import NUMBER_BYTES, ReplayError, replayed
from endpoints.events.settings import EventSettings
from endpoints.events.source import EventSource

_FRAMES = 3  # topic, number, payload
_HEARTBEAT_MS, _HEARTBEAT_TIMEOUT_MS = 10_000, 30_000  # finds connections that died silently


class Subscriber:
    """One publisher's messages, from `start` to `stop`, into its ``feed``.

    ``replays`` bounds how many subscribers fetch at the same time; ``wall`` is the time in Unix
    seconds.
    """

    def __init__(
        self,
        source: EventSource,
        feed: Feed,
        settings: EventSettings,
        context: zmq.Context[zmq.Socket[bytes]],
        replays: asyncio.Semaphore,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.source = source
        self.feed = feed
        self.connected = False
        self.topic: str | None = None
        """The topic of the last message."""
        self._settings = settings
        self._context = context
        self._replays = replays
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._catch_up_again = False
        self._no_replay_before = 0.0  # on the loop's clock
        self._resumption: asyncio.Handle | None = None

    @property
    def catching_up(self) -> bool:
        """Whether messages are being fetched."""
        return self._catching_up is not None

    def start(self) -> None:
        """Connect and begin to follow. Raises ValueError for an address ZeroMQ does not take."""
        socket = self._context.socket(zmq.SUB)
        settings = self._settings
        monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        try:
            socket.linger = 0
            socket.ipv6 = True
            socket.rcvhwm = settings.queue_messages
            socket.setsockopt(zmq.MAXMSGSIZE, settings.max_message_bytes)
            socket.setsockopt(zmq.RECONNECT_IVL, int(settings.reconnect_first * 1000))
            socket.setsockopt(zmq.RECONNECT_IVL_MAX, int(settings.reconnect_ceiling * 1000))
            if self.source.address.startswith("tcp:"):
                socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
                socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
            socket.subscribe(self.source.topic)
            socket.connect(self.source.address)
        except zmq.ZMQError as error:
            socket.disable_monitor()
            monitor.close()
            socket.close()
            raise ValueError(f"{self.source.address}: {error}") from error
        self._socket, self._monitor = socket, monitor
        self._loop.add_reader(monitor.fileno(), self._notice)
        self._loop.add_reader(socket.fileno(), self._read)
        self._notice()
        self._read()

    def close(self) -> None:
        """Stop following at once. What the feed told the view stays there."""
        socket, monitor = self._socket, self._monitor
        self._socket = self._monitor = None
        self.connected = False
        if self._resumption is not None:
            self._resumption.cancel()
        if self._catching_up is not None:
            self._catching_up.cancel()
        if socket is not None and monitor is not None:
            self._loop.remove_reader(socket.fileno())
            self._loop.remove_reader(monitor.fileno())
            socket.disable_monitor()
            monitor.close()
            socket.close()

    async def stop(self) -> None:
        """`close`, and wait until a replay that was running has closed its socket."""
        self.close()
        if self._catching_up is not None:
            await asyncio.gather(self._catching_up, return_exceptions=True)

    def doubt(self) -> None:
        """The engine may have started anew: find out, or take it as given when nothing can tell."""
        if self.source.replay is None:
            self.feed.restarted(self._wall())
        elif self.connected:
            self.feed.doubt()
            self._catch_up(None)

    # -- what the loop calls ---------------------------------------------------------------

    def _notice(self) -> None:
        """Read what the monitor saw of the connection."""
        while self._monitor is not None:
            try:
                frames = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.connected = parse_monitor_message(frames)["event"] != zmq.EVENT_DISCONNECTED
            if self.connected:
                self.feed.connected()
                if self.source.replay is not None:
                    self._catch_up(None)

    def _read(self) -> None:
        """Apply messages that are there, up to a bounded number of bytes."""
        self._resumption = None
        left = self._settings.bytes_per_wake
        while self._socket is not None and self._catching_up is None:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._take(frames)
            left -= sum(map(len, frames))
            if left <= 0:
                if self._catching_up is None:
                    self._resumption = self._loop.call_soon(self._read)
                return

    def _take(self, frames: list[bytes]) -> None:
        if len(frames) != _FRAMES or len(frames[1]) != NUMBER_BYTES:
            self.feed.broken(len(frames))
            return
        self.topic = frames[0].decode("utf-8", "replace")
        number, payload = int.from_bytes(frames[1], "big"), frames[2]
        now = self._wall()
        if not self.feed.live(number, payload, now):
            if self.source.replay is None or self._loop.time() < self._no_replay_before:
                self.feed.accept(number, payload, now)
            else:
                self._catch_up((number, payload))

    # -- catching up -----------------------------------------------------------------------

    def _catch_up(self, held: tuple[int, bytes] | None) -> None:
        """Leave the live stream alone, fetch what is missing, then apply ``held`` and go on."""
        if self._socket is None:
            return
        if self._catching_up is not None:
            self._catch_up_again = True
        elif self._loop.time() >= self._no_replay_before:
            # Its descriptor would wake the loop all the time while nobody reads.
            self._loop.remove_reader(self._socket.fileno())
            self._catching_up = self._loop.create_task(self._fetch_and_resume(held))

    async def _fetch_and_resume(self, held: tuple[int, bytes] | None) -> None:
        try:
            self._catch_up_again = True
            while self._catch_up_again and self._loop.time() >= self._no_replay_before:
                self._catch_up_again = False
                async with self._replays:
                    await self._fetch()
            if held is not None:
                self.feed.accept(*held, self._wall())
        finally:
            self._catching_up = None
            self._catch_up_again = False
            if self._socket is not None:
                self._loop.add_reader(self._socket.fileno(), self._read)
                self._read()

    async def _fetch(self) -> None:
        """Replay until nothing is missing, as far as the publisher has it."""
        deadline = self._loop.time() + self._settings.replay_timeout
        while True:
            before = self.feed.health.sequence
            try:
                outcome = await self._replay_once(deadline)
            except ReplayError as error:
                if self.feed.health.sequence != before and self._loop.time() < deadline:
                    continue  # the end was dropped on the way: go on from where we are
                self.feed.replay_failed(str(error))
                self._no_replay_before = self._loop.time() + self._settings.replay_cooldown
                return
            if outcome is Replayed.TAKEN:
                return

    async def _replay_once(self, deadline: float) -> Replayed:
        settings, taken = self._settings, 0
        assert self.source.replay is not None
        answers = replayed(
            zmq.asyncio.Context.shadow(self._context.underlying),
            self.source.replay,
            self.feed.replay_from(),
            idle=settings.replay_idle,
            deadline=deadline,
            max_message_bytes=settings.max_message_bytes,
        )
        async with aclosing(answers):
            async for number, payload in answers:
                outcome = self.feed.replayed(number, payload, self._wall())
                if outcome is not Replayed.TAKEN:
                    return outcome
                taken += len(payload)
                if taken >= settings.bytes_per_wake:
                    taken = 0
                    await asyncio.sleep(0)
        return self.feed.replay_ended(self._wall())
