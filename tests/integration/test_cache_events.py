"""Cache events over real sockets: a publisher that speaks as vLLM's does, and misbehaves."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import zmq
import zmq.asyncio

from endpoints.events import EventSettings, EventWatch, FeedView, new_residency
from routing.endpoint import Endpoint
from routing.fleet import Fleet
from routing.prefix.residency import Residency
from routing.prefix.tokens import blocks_of, token_salt
from tests.support.event_messages import SIZE, batch, stored, tokens_of

PATIENCE = 10.0  # seconds a test waits for what must come soon
SETTINGS = EventSettings(
    replay_idle=0.3,
    replay_timeout=5.0,
    replay_cooldown=0.01,
    reconnect_first=0.02,
    reconnect_ceiling=0.05,
)
END = b"\xff" * 8


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.005)


class Publisher:
    """An engine's publisher: a PUB socket, and a ROUTER that sends again what is buffered.

    Message number *n* stores one block, ``block + n``. ``holes`` are numbers that its replays leave
    out the first time, ``mute`` makes it ignore who asks, ``no_end`` leaves the end marker out.
    """

    def __init__(self, context: zmq.asyncio.Context, block: int = 1) -> None:
        self._context = context
        self._block = block
        self.buffer: dict[int, bytes] = {}
        self.holes: set[int] = set()
        self.mute = False
        self.no_end = False
        self.asked: list[int] = []
        self.number = -1
        self.topic = b"kv@10.9.9.9@m"
        self.port = self.replay_port = 0

    async def __aenter__(self) -> "Publisher":
        self._live = self._context.socket(zmq.XPUB)  # a PUB that shows its subscriptions
        self._live.linger = 0
        self._router = self._context.socket(zmq.ROUTER)
        self._router.linger = 0
        self.port = await self._bind(self._live, self.port)
        self.replay_port = await self._bind(self._router, self.replay_port)
        self._serving = asyncio.create_task(self._serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._serving.cancel()
        await asyncio.gather(self._serving, return_exceptions=True)
        self._live.close()
        self._router.close()

    @staticmethod
    async def _bind(socket: zmq.asyncio.Socket, port: int) -> int:
        if not port:
            return socket.bind_to_random_port("tcp://127.0.0.1")
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    socket.bind(f"tcp://127.0.0.1:{port}")
                except zmq.ZMQError:  # the one before is being closed by its context's thread
                    await asyncio.sleep(0.01)
                else:
                    return port

    async def subscribed(self) -> None:
        async with asyncio.timeout(PATIENCE):
            assert (await self._live.recv())[:1] == b"\x01"

    def lose(self, *events: Any) -> None:
        """A message that is buffered but that no subscriber gets."""
        self.number += 1
        event = stored([self._block + self.number])
        self.buffer[self.number] = batch(*(events or (event,)), ts=float(self._block + self.number))

    async def publish(self, *events: Any) -> None:
        self.lose(*events)
        number = self.number.to_bytes(8, "big")
        await self._live.send_multipart([self.topic, number, self.buffer[self.number]])

    async def send(self, *frames: bytes) -> None:
        await self._live.send_multipart(list(frames))

    async def _serve(self) -> None:
        while True:
            client, _, first = await self._router.recv_multipart()
            self.asked.append(int.from_bytes(first, "big"))
            if self.mute:
                continue
            head, holes = [client, b"", self.topic], self.holes
            self.holes = set()
            for number, payload in self.buffer.items():
                if number >= self.asked[-1] and number not in holes:
                    await self._router.send_multipart([*head, number.to_bytes(8, "big"), payload])
            if not self.no_end:
                await self._router.send_multipart([*head, END, b""])


class Follower:
    """A gateway's side: a fleet of one endpoint, and what is known of its cache."""

    def __init__(self, publisher: Publisher, settings: EventSettings, *, replays: bool) -> None:
        labels: list[tuple[str, str]] = [("kv_events", f"tcp://127.0.0.1:{publisher.port}")]
        if replays:
            labels.append(("kv_events_replay", f"tcp://127.0.0.1:{publisher.replay_port}"))
        self.endpoint = Endpoint("pod", "http://127.0.0.1:8000", labels=tuple(labels))
        self.fleet = Fleet()
        self.fleet.upsert(self.endpoint, 0.0)
        self.view: Residency = new_residency(settings)
        self.now = 1000.0
        self.requests = 0
        self.watch = EventWatch(
            self.fleet,
            self.view,
            settings,
            requests=lambda _: self.requests,
            clock=lambda: self.now,
        )

    @property
    def stream(self) -> FeedView:
        (view,) = self.watch.views()
        return view

    def has(self, *blocks: int) -> bool:
        held = all(
            "pod" in self.view.look({SIZE: blocks_of(token_salt(None, None), tokens_of(one), SIZE)})
            for one in blocks
        )
        return held and self.view.blocks("pod") == len(blocks)


@pytest.fixture
async def publisher() -> AsyncIterator[Publisher]:
    context = zmq.asyncio.Context()
    async with Publisher(context) as one:
        yield one
    context.destroy(linger=0)


@asynccontextmanager
async def following(
    publisher: Publisher, settings: EventSettings = SETTINGS, *, replays: bool = True
) -> AsyncIterator[Follower]:
    follower = Follower(publisher, settings, replays=replays)
    async with follower.watch:
        await publisher.subscribed()
        await until(lambda: follower.stream.connected and not follower.stream.catching_up)
        yield follower
    assert len(asyncio.all_tasks()) <= 2  # this test and the publisher's


async def test_live_messages_reach_the_view(publisher: Publisher) -> None:
    async with following(publisher, replays=False) as follower:
        for _ in range(3):
            await publisher.publish()
        await until(lambda: follower.has(1, 2, 3))
        assert follower.stream.health.sequence == 2
        assert not follower.stream.incomplete
        assert publisher.asked == []


async def test_who_comes_late_gets_what_was_before(publisher: Publisher) -> None:
    for _ in range(5):
        publisher.lose()
    async with following(publisher) as follower:
        await until(lambda: follower.has(1, 2, 3, 4, 5))
        await publisher.publish()
        await until(lambda: follower.has(1, 2, 3, 4, 5, 6))
        assert publisher.asked == [0]
        assert not follower.stream.incomplete


async def test_an_empty_cache_is_known_to_be_empty(publisher: Publisher) -> None:
    async with following(publisher) as follower:
        assert follower.view.covers("pod")


async def test_lost_messages_are_fetched(publisher: Publisher) -> None:
    async with following(publisher) as follower:
        await publisher.publish()
        publisher.lose()
        publisher.lose()
        await publisher.publish()
        await publisher.publish()
        await until(lambda: follower.has(1, 2, 3, 4, 5))
        health = follower.stream.health
        assert (health.gaps, health.lost, health.restarts) == (1, 0, 0)
        assert not follower.stream.incomplete


async def test_what_cannot_be_fetched_is_marked_and_the_stream_goes_on(
    publisher: Publisher,
) -> None:
    async with following(publisher) as follower:
        await publisher.publish()
        publisher.mute = True
        publisher.lose()
        await publisher.publish()
        await publisher.publish()
        await until(lambda: follower.has(1, 3, 4))
        assert follower.stream.health.failed_replays == 1
        assert follower.stream.incomplete


async def test_a_replay_that_leaves_messages_out_is_asked_again(publisher: Publisher) -> None:
    for _ in range(6):
        publisher.lose()
    publisher.holes = {3, 4}
    async with following(publisher) as follower:
        await until(lambda: follower.has(*range(1, 7)))
        assert publisher.asked == [0, 3]
        assert not follower.stream.incomplete


async def test_a_replay_without_an_end_gives_what_it_has(publisher: Publisher) -> None:
    publisher.lose()
    publisher.no_end = True
    async with following(publisher) as follower:
        await until(lambda: follower.has(1))
        assert publisher.asked == [0, 1]
        await publisher.publish()
        await until(lambda: follower.has(1, 2))


@pytest.mark.parametrize("messages", [2, 9])
@pytest.mark.parametrize("replays", [True, False])
async def test_another_process_at_the_same_address_is_found_out(
    publisher: Publisher, messages: int, replays: bool
) -> None:
    context = zmq.asyncio.Context()
    async with following(publisher, replays=replays) as follower:
        for _ in range(5):
            await publisher.publish()
        await until(lambda: follower.has(1, 2, 3, 4, 5))
        await publisher.__aexit__()
        await until(lambda: not follower.stream.connected)
        anew = Publisher(context, block=51)
        anew.port, anew.replay_port = publisher.port, publisher.replay_port
        for _ in range(messages):
            anew.lose()
        async with anew:
            await anew.subscribed()
            await anew.publish()
            expected = range(51, 52 + messages) if replays else [51 + messages]
            await until(lambda: follower.has(*expected))
            assert follower.stream.health.restarts == 1
            assert follower.stream.incomplete is not replays
    context.destroy(linger=0)


async def test_a_broken_connection_to_the_same_process_keeps_the_view(
    publisher: Publisher,
) -> None:
    async with following(publisher) as follower:
        await publisher.publish()
        await until(lambda: follower.has(1))
        await publisher.__aexit__()
        await until(lambda: not follower.stream.connected)
        publisher.lose()
        async with publisher:
            await until(lambda: follower.has(1, 2))
            assert follower.stream.health.restarts == 0
            assert not follower.stream.incomplete
        publisher._serving = asyncio.create_task(asyncio.sleep(0))


async def test_a_restart_seen_by_probes_is_checked_by_a_replay(publisher: Publisher) -> None:
    async with following(publisher) as follower:
        await publisher.publish()
        await until(lambda: follower.has(1))
        follower.watch.restarted("pod")
        await until(lambda: publisher.asked == [0, 0] and not follower.stream.catching_up)
        assert follower.has(1)
        publisher.buffer = {0: batch(stored([77]), ts=0.5)}
        follower.watch.restarted("pod")
        await until(lambda: follower.has(77))


async def test_a_restart_seen_by_probes_wipes_the_view_when_nothing_can_tell(
    publisher: Publisher,
) -> None:
    async with following(publisher, replays=False) as follower:
        await publisher.publish()
        await until(lambda: follower.has(1))
        follower.watch.restarted("pod")
        follower.watch.restarted("unknown")
        assert follower.has()


async def test_frames_that_are_no_message_do_no_harm(publisher: Publisher) -> None:
    async with following(publisher) as follower:
        await publisher.send(b"")
        await publisher.send(b"t", b"1234", b"x")
        await publisher.publish()
        await until(lambda: follower.has(1))
        assert follower.stream.health.undecodable == 2


async def test_many_messages_leave_the_loop_its_turns(publisher: Publisher) -> None:
    settings = replace(SETTINGS, bytes_per_wake=1)
    turns = 0

    async def work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    for _ in range(300):
        publisher.lose()
    worker = asyncio.create_task(work())
    async with following(publisher, settings) as follower:
        for _ in range(300):
            await publisher.publish()
        await until(lambda: follower.stream.health.messages == 600)
        assert turns > 300
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def test_it_stops_while_a_replay_hangs(publisher: Publisher) -> None:
    publisher.mute = True
    follower = Follower(publisher, SETTINGS, replays=True)
    async with follower.watch:
        await until(lambda: publisher.asked == [0])
        assert follower.stream.catching_up
    assert len(asyncio.all_tasks()) <= 2


async def test_it_follows_the_fleet(publisher: Publisher) -> None:
    async with following(publisher) as follower:
        await publisher.publish()
        await until(lambda: follower.has(1))
        follower.fleet.remove("pod")
        follower.watch.sync()
        assert follower.watch.views() == ()
        assert not follower.view.covers("pod")
        follower.fleet.upsert(follower.endpoint, 1.0)
        follower.watch.sync()
        await until(lambda: follower.has(1))
        follower.fleet.upsert(replace(follower.endpoint, labels=(("kv_events", "off"),)), 2.0)
        follower.watch.sync()
        assert follower.watch.views() == ()
        follower.fleet.upsert(replace(follower.endpoint, labels=(("kv_events", "nowhere"),)), 3.0)
        follower.watch.sync()
        assert follower.watch.views() == ()


async def test_problems_are_shown_and_logged_once(
    publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(publisher) as follower:
        follower.watch.diagnose()
        with caplog.at_level(logging.INFO, "endpoints.events.watch"):
            for _ in range(3):
                follower.now += 100
                follower.requests += 100
                follower.watch.diagnose()
        assert len(caplog.records) == 1
        (complaint,) = follower.stream.complaints
        assert "sent no event" in complaint
        await publisher.publish()
        await until(lambda: follower.has(1))
        with caplog.at_level(logging.INFO, "endpoints.events.watch"):
            follower.watch.diagnose()
        (complaint,) = follower.stream.complaints
        assert "10.9.9.9" in complaint
        assert len(caplog.records) == 3  # one is well again, one is new
