"""A server's publisher of KV-cache events, and the one who replays them.

A message has the frames ``[topic][sequence][payload]``, the sequence as eight bytes, big-endian,
from 0. The newest batches are kept: whoever sends ``[empty][first sequence]`` to the replay
socket (with a DEALER: several answers follow one request) gets each as
``[empty][topic][sequence][payload]``, then an end marker with sequence -1 and no payload. Older
vLLM and SGLang leave the topic out of these. As in vLLM's ``distributed/kv_events.py``.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import zmq
import zmq.asyncio
from xxhash import xxh3_64_intdigest

from bench.fleet.engine.changes import ChangeLog
from bench.fleet.events.encoding import Encoder
from bench.fleet.events.line import Line, Message
from bench.fleet.settings import EventEncoding, EventFaults, KvEventSettings, ServerSettings

_HOST = "127.0.0.1"
_END = (-1).to_bytes(8, "big", signed=True)
_MAX_QUEUE_SIZE = 100_000
"""What vLLM says of its own queue; there is none here."""
_YIELD_EVERY = 64
"""Replayed batches after which others get their turn."""


@dataclass(frozen=True, slots=True)
class EventAddress:
    """Where a server's events are; ``replay_endpoint`` None: it does not replay."""

    endpoint: str
    replay_endpoint: str | None
    topic: str


class EventPublisher:
    """Takes what changed after each step, and sends it as one batch.

    It lives on an event loop, but sending never waits: ZeroMQ's own thread does the rest, and
    drops what a subscriber that is ``hwm`` messages late cannot take.
    """

    def __init__(
        self, settings: KvEventSettings, server: ServerSettings, changes: ChangeLog
    ) -> None:
        faults = server.behaviour.kv_events
        self._settings = settings
        self._model = server.model
        self._seed = server.private_seed
        self._changes = changes
        self._encoder = Encoder(settings, server.block_size, _mask(self._seed, faults.epoch))
        self._line = Line(faults, self._seed)
        self._buffer: deque[Message] = deque(maxlen=settings.buffer_steps)
        self._sequence = 0
        self._topic = b""
        self._address: EventAddress | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._replay: zmq.asyncio.Socket | None = None
        self._replays: asyncio.Task[None] | None = None

    @property
    def address(self) -> EventAddress:
        """Where it publishes; only while it runs."""
        assert self._address is not None, "the publisher does not run"
        return self._address

    @property
    def source(self) -> dict[str, object]:
        """Its settings in the words of vLLM's ``/kv_event_sources``, which names no host."""
        address = self.address
        replay = address.replay_endpoint
        return {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            "endpoint": address.endpoint.replace(_HOST, "*"),
            "replay_endpoint": None if replay is None else replay.replace(_HOST, "*"),
            "buffer_steps": self._settings.buffer_steps,
            "hwm": self._settings.hwm,
            "max_queue_size": _MAX_QUEUE_SIZE,
            "topic": address.topic,
        }

    def start(self, server: str) -> None:
        """Bind on the running event loop; ``server`` is the address (host:port) in the topic.

        Raises OSError when a port is taken.
        """
        topic = self._settings.topic
        topic = f"kv@{server}@{self._model}" if topic is None else topic
        self._topic = topic.encode()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        port = self._settings.port
        replay_endpoint = None
        try:
            endpoint = _bind(self._socket, port, self._settings.hwm)
            if self._settings.replay:
                self._replay = zmq.asyncio.Socket(self._context, zmq.ROUTER)
                # A ROUTER drops what exceeds its mark without a word, and a whole buffer is
                # asked for at once.
                replay_endpoint = _bind(self._replay, port + 1 if port else 0, 0)
        except OSError:
            self._close()
            raise
        self._address = EventAddress(endpoint, replay_endpoint, topic)
        if self._replay is not None:
            self._replays = asyncio.create_task(self._answer(self._replay), name="kv-replays")

    async def stop(self) -> None:
        """Close the sockets at once."""
        if self._replays is not None:
            self._replays.cancel()
            with suppress(asyncio.CancelledError):
                await self._replays
            self._replays = None
        self._close()

    def publish(self) -> None:
        """Send what changed since the last time, if anything did."""
        changes = self._changes.take()
        if changes:
            message = (self._sequence, self._encoder.batch(changes, time.time()))
            self._sequence += 1
            self._buffer.append(message)
            self._send(self._line.pass_on(message))

    def cleared(self) -> None:
        """The cache was cleared outside of any step."""
        if not self._line.faults.late_clear:
            self.publish()

    def change(self, faults: EventFaults) -> None:
        """Suffer other faults from the next batch on; a new epoch begins with an empty cache."""
        if faults.epoch != self._line.faults.epoch:
            self._changes.take()
            self._buffer.clear()
            self._sequence = 0
            self._line = Line(faults, self._seed)
            self._encoder.mask = _mask(self._seed, faults.epoch)
            return
        self._line.faults = faults
        if not faults.silent:
            self._send(self._line.release())

    def _close(self) -> None:
        for socket in (self._socket, self._replay):
            if socket is not None:
                socket.close(linger=0)
        if self._context is not None:
            self._context.term()
        self._context = self._socket = self._replay = None

    def _send(self, messages: Iterable[Message]) -> None:
        assert self._socket is not None, "the publisher does not run"
        for sequence, payload in messages:
            self._socket.send_multipart((self._topic, sequence.to_bytes(8, "big"), payload))

    async def _answer(self, socket: zmq.asyncio.Socket) -> None:
        while True:
            request = await socket.recv_multipart()
            # As in vLLM, what is no request gets no answer.
            if len(request) != 3 or len(request[2]) != 8 or self._line.faults.silent:
                continue
            client, _, start = request
            first = int.from_bytes(start, "big")
            wanted = [message for message in self._buffer if message[0] >= first]
            for index, (sequence, payload) in enumerate(wanted, 1):
                await self._reply(socket, client, self._topic, sequence.to_bytes(8, "big"), payload)
                if not index % _YIELD_EVERY:
                    await asyncio.sleep(0)
            await self._reply(socket, client, b"", _END, b"")

    async def _reply(
        self, socket: zmq.asyncio.Socket, client: bytes, topic: bytes, number: bytes, payload: bytes
    ) -> None:
        named = (topic,) if self._settings.encoding is EventEncoding.MAP else ()
        await socket.send_multipart((client, b"", *named, number, payload))


def _bind(socket: "zmq.Socket[bytes] | zmq.asyncio.Socket", port: int, hwm: int) -> str:
    """Bind on the loopback, to any free port for 0; the address."""
    socket.setsockopt(zmq.SNDHWM, hwm)
    try:
        socket.bind(f"tcp://{_HOST}:{port or '*'}")
    except zmq.ZMQError as error:
        raise OSError(error.errno, f"port {port} for KV-cache events: {error}") from None
    return socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")


def _mask(seed: int, epoch: int) -> int:
    """The publisher's own part in its hashes."""
    return xxh3_64_intdigest(epoch.to_bytes(8, "big"), seed=seed)
