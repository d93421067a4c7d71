"""Requests for a pool without endpoints wait, in order, until it has one: none is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from gateway.waiting import WaitingRoom, WaitingRooms
from routing.fleet import Endpoint, ServedModel
from tests.support.gateways import MODEL, ProxyUnderTest, chat, post, running_proxy, send, until
from tests.support.upstreams import Received, Upstream


async def _answer(upstream: Upstream, received: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")


@asynccontextmanager
async def _proxy_at_zero(**bounds: float) -> AsyncIterator[tuple[ProxyUnderTest, WaitingRoom]]:
    async with running_proxy([]) as proxy:
        room = WaitingRoom(
            "default",
            proxy.router.fleet,
            now=proxy.context.now,
            models=[MODEL],
            **bounds,  # type: ignore[arg-type]
        )
        proxy.context.waiting = WaitingRooms()
        proxy.context.waiting.add(room)
        yield proxy, room
        proxy.context.waiting.remove("default")


def _appear(proxy: ProxyUnderTest, upstream: Upstream) -> None:
    fleet, now = proxy.router.fleet, proxy.context.now()
    fleet.upsert(Endpoint("new", f"http://127.0.0.1:{upstream.port}"), now)
    fleet.observe_models("new", [ServedModel(MODEL)], now)
    fleet.observe_health("new", True, now, "test")


def _ask(proxy: ProxyUnderTest, prompt: str) -> "asyncio.Task[bytes]":
    message = post("/v1/chat/completions", chat(prompt), b"x-request-id: %b\r\n" % prompt.encode())
    return asyncio.get_running_loop().create_task(send(proxy.port, message))


async def test_requests_wait_in_order_until_an_endpoint_is_there() -> None:
    woken: list[int] = []
    async with _proxy_at_zero() as (proxy, room), Upstream(_answer) as upstream:
        room.wake = lambda: woken.append(len(room))
        asked = []
        for number in range(100):
            asked.append(_ask(proxy, f"number {number}"))
            await until(lambda: len(room) == len(asked))
        assert woken == [1]
        assert (room.oldest or 0.0) > 0.0
        _appear(proxy, upstream)
        answers = await asyncio.gather(*asked)
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        assert len(upstream.received) == 100
        routed = [decision.request.id for decision in proxy.router.recent]
        assert routed == [f"number {number}" for number in range(100)]
        assert room.entered == room.served == 100
        assert (len(room), room.waits_for(MODEL)) == (0, False)
        assert proxy.in_flight == 0
        again = await _ask(proxy, "later")
        assert again.startswith(b"HTTP/1.1 200")
        assert room.entered == 100  # who finds an endpoint does not come here


async def test_a_full_queue_is_said_with_when_to_come_again() -> None:
    async with _proxy_at_zero(most=2) as (proxy, room), Upstream(_answer) as upstream:
        asked = [_ask(proxy, "a"), _ask(proxy, "b")]
        await until(lambda: len(room) == 2)
        refused = await _ask(proxy, "c")
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 5" in refused.lower()
        assert b"activation_queue_full" in refused
        _appear(proxy, upstream)
        await asyncio.gather(*asked)
        assert (room.full, room.served) == (1, 2)


async def test_bodies_together_are_bounded() -> None:
    async with _proxy_at_zero(most_bytes=300) as (proxy, room):
        asked = _ask(proxy, "x" * 500)  # one may always wait
        await until(lambda: len(room) == 1)
        assert b"activation_queue_full" in await _ask(proxy, "short")
        asked.cancel()
        await until(lambda: not len(room))


async def test_patience_ends_with_a_clear_word() -> None:
    async with _proxy_at_zero(patience=0.1) as (proxy, room):
        refused = await _ask(proxy, "a")
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"activation_timeout" in refused
        assert b"retry-after: 5" in refused.lower()
        assert (len(room), room.gave_up) == (0, 1)
        assert proxy.records[-1].reason == "activation_timeout"


async def test_a_client_that_leaves_gives_its_place_up() -> None:
    async with _proxy_at_zero() as (proxy, room), Upstream(_answer) as upstream:
        gone = _ask(proxy, "gone")
        await until(lambda: len(room) == 1)
        stays = _ask(proxy, "stays")
        await until(lambda: len(room) == 2)
        gone.cancel()
        await until(lambda: len(room) == 1)
        assert room.left == 1
        _appear(proxy, upstream)
        assert (await stays).startswith(b"HTTP/1.1 200")
        assert len(upstream.received) == 1


async def test_who_comes_later_does_not_overtake() -> None:
    async with _proxy_at_zero() as (proxy, room), Upstream(_answer) as upstream:
        first = _ask(proxy, "first")
        await until(lambda: len(room) == 1)
        _appear(proxy, upstream)
        second = _ask(proxy, "second")
        await asyncio.gather(first, second)
        prompts = [b"first" in received.body for received in upstream.received]
        assert prompts == [True, False]


async def test_other_models_are_unknown_as_ever_and_ours_is_listed() -> None:
    async with _proxy_at_zero() as (proxy, room):
        body = chat().replace(MODEL.encode(), b"nobodys")
        refused = await send(proxy.port, post("/v1/chat/completions", body))
        assert refused.startswith(b"HTTP/1.1 404")
        listed = await send(proxy.port, b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        assert MODEL.encode() in listed
        assert len(room) == 0


async def test_nobody_waits_for_what_can_not_come() -> None:
    async with _proxy_at_zero() as (proxy, room):
        room.closed = "the cluster has no free device"
        refused = await _ask(proxy, "a")
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"no free device" in refused
        assert proxy.context.waiting is not None
        assert not proxy.context.waiting.open


async def test_when_the_endpoint_has_no_room_the_others_stay_in_their_place() -> None:
    async with _proxy_at_zero() as (proxy, room), Upstream(_answer) as upstream:
        proxy.router.settings = replace(proxy.router.settings, max_requests_per_endpoint=1)
        asked = [_ask(proxy, str(number)) for number in range(5)]
        await until(lambda: len(room) == 5)
        _appear(proxy, upstream)
        answers = await asyncio.gather(*asked)
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        assert room.served == 5


async def test_the_models_of_a_pool_are_learned_while_it_has_endpoints() -> None:
    async with running_proxy([]) as proxy, Upstream(_answer) as upstream:
        room = WaitingRoom("default", proxy.router.fleet, now=proxy.context.now)
        assert room.models == {}
        _appear(proxy, upstream)
        room.learn()
        proxy.router.remove_endpoint("new")
        assert list(room.models) == [MODEL]
