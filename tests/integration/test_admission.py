"""A busy pool's line: who goes first, who is turned away, and that nobody is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.admission import Admission, Admissions
from gateway.settings import AdmissionSettings, Objective
from routing.endpoint import Load
from tests.support.gateways import ProxyUnderTest, chat, post, running_proxy, send, until
from tests.support.upstreams import Received, Upstream

_OBJECTIVES = {"urgent": Objective(priority=10), "batch": Objective(priority=-10)}


async def _answer(upstream: Upstream, received: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")


class Stage:
    """A proxy before one endpoint that is busy or not as tests say."""

    def __init__(self, proxy: ProxyUnderTest, line: Admission, upstream: Upstream) -> None:
        self.proxy = proxy
        self.line = line
        self.upstream = upstream

    def busy(self, waiting: float = 9.0) -> None:
        """So many requests wait in the engine."""
        for state in self.proxy.router.fleet:
            load = Load(at=self.proxy.context.now(), waiting=waiting)
            self.proxy.router.fleet.observe_load(state.name, load)

    async def ask(
        self, prompt: str, *, objective: str = "", tenant: str = ""
    ) -> "asyncio.Task[bytes]":
        """Ask, and wait until the request stands in line."""
        fields = b"x-request-id: %b\r\n" % prompt.encode()
        if objective:
            fields += b"x-gateway-inference-objective: %b\r\n" % objective.encode()
        if tenant:
            fields += b"x-gateway-inference-fairness-id: %b\r\n" % tenant.encode()
        before = len(self.line.queue)
        message = post("/v1/chat/completions", chat(prompt), fields)
        task = asyncio.get_running_loop().create_task(send(self.proxy.port, message))
        await until(lambda: len(self.line.queue) > before or task.done())
        return task

    @property
    def routed(self) -> list[str]:
        """Ids in the order in which requests were routed."""
        return [decision.request.id for decision in self.proxy.router.recent]

    def outcomes(self) -> dict[str, int]:
        """How waiting ended."""
        found: dict[str, int] = {}
        for labels, wait in self.line.books.waits.items():
            found[labels.outcome] = found.get(labels.outcome, 0) + sum(wait.counts)
        return found


@asynccontextmanager
async def _stage(**settings: Any) -> AsyncIterator[Stage]:
    async with (
        Upstream(_answer) as upstream,
        running_proxy([f"http://127.0.0.1:{upstream.port}"]) as proxy,
    ):
        admissions = Admissions(AdmissionSettings(**settings), proxy.context.now)
        admissions.add("default", proxy.router)
        proxy.context.admissions = admissions
        proxy.context.objectives = _OBJECTIVES
        line = admissions.of(proxy.router)
        assert line is not None
        stage = Stage(proxy, line, upstream)
        yield stage
        admissions.close()
        await until(lambda: proxy.in_flight == 0)
        assert len(line.queue) == line.queue.bytes == 0


async def test_with_room_nobody_waits() -> None:
    async with _stage() as stage:
        answer = await (await stage.ask("a"))
        assert answer.startswith(b"HTTP/1.1 200")
        assert (stage.line.books.at_once, stage.outcomes()) == (1, {})
        assert stage.proxy.records[0].waited_seconds is None


async def test_the_more_important_go_first_when_room_comes() -> None:
    async with _stage() as stage:
        stage.busy()
        asked = [
            await stage.ask("later", objective="batch"),
            await stage.ask("first"),
            await stage.ask("second"),
            await stage.ask("soonest", objective="urgent"),
        ]
        await asyncio.sleep(0.05)
        assert stage.routed == []
        stage.busy(0.0)
        answers = await asyncio.gather(*asked)
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        assert stage.routed == ["soonest", "first", "second", "later"]
        assert stage.outcomes() == {"admitted": 4}
        assert all((record.waited_seconds or 0.0) >= 0.05 for record in stage.proxy.records)


async def test_tenants_share_whatever_one_of_them_floods() -> None:
    async with _stage() as stage:
        stage.busy()
        asked = [await stage.ask(f"flood {number}", tenant="flood") for number in range(20)]
        asked.append(await stage.ask("calm", tenant="calm"))
        stage.busy(0.0)
        await asyncio.gather(*asked)
        assert stage.routed.index("calm") <= 1


async def test_a_full_line_makes_room_for_the_more_important() -> None:
    async with _stage(max_requests=2) as stage:
        stage.busy()
        batch = [await stage.ask("one", objective="batch"), await stage.ask("two")]
        refused = await (await stage.ask("three", objective="batch"))
        assert refused.startswith(b"HTTP/1.1 429")
        assert b"admission_queue_full" in refused
        assert b"retry-after:" in refused.lower()
        urgent = await stage.ask("urgent", objective="urgent")
        evicted = await batch[0]
        assert evicted.startswith(b"HTTP/1.1 429")
        assert b"evicted_by_priority" in evicted
        stage.busy(0.0)
        answers = await asyncio.gather(urgent, batch[1])
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        assert stage.outcomes() == {"admitted": 2, "evicted": 1, "refused": 1}


async def test_patience_ends_with_a_clear_word() -> None:
    async with _stage(patience=0.1) as stage:
        stage.busy()
        refused = await (await stage.ask("a"))
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"admission_timeout" in refused
        assert stage.outcomes() == {"expired": 1}
        assert stage.proxy.records[-1].reason == "admission_timeout"


async def test_a_client_that_leaves_gives_its_place_up() -> None:
    async with _stage() as stage:
        stage.busy()
        gone = await stage.ask("gone")
        stays = await stage.ask("stays")
        gone.cancel()
        await until(lambda: len(stage.line.queue) == 1)
        stage.busy(0.0)
        assert (await stays).startswith(b"HTTP/1.1 200")
        assert stage.routed == ["stays"]
        assert stage.outcomes() == {"left": 1, "admitted": 1}


async def test_a_pool_that_goes_sends_everybody_away() -> None:
    async with _stage() as stage:
        stage.busy()
        asked = await stage.ask("a")
        assert stage.proxy.context.admissions is not None
        stage.proxy.context.admissions.remove(stage.proxy.router)
        refused = await asked
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"no_pool" in refused


async def test_a_thousand_that_come_at_once_do_not_drown_the_engine() -> None:
    async with _stage() as stage:
        messages = [
            post("/v1/chat/completions", chat("x" * 4_000 + f"{number}")) for number in range(200)
        ]
        answers = await asyncio.gather(*(send(stage.proxy.port, one) for one in messages))
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        ended = stage.outcomes().get("admitted", 0)
        assert stage.line.books.at_once + ended == 200


async def test_one_broken_request_does_not_hold_up_those_behind() -> None:
    async with _stage() as stage:
        stage.busy()
        broken, fine = await stage.ask("broken"), await stage.ask("fine")
        first = stage.line.queue.oldest
        assert first is not None

        def fail() -> bool:
            raise RuntimeError("a defect")

        stage.line._tickets[first].again = fail
        stage.busy(0.0)
        assert (await fine).startswith(b"HTTP/1.1 200")
        assert (await broken).startswith(b"HTTP/1.1 500")


async def test_the_scaler_is_told_of_those_who_wait() -> None:
    from routing.traffic import Traffic

    async with _stage() as stage:
        traffic = stage.proxy.router.traffic = Traffic()
        stage.busy()
        asked = [await stage.ask("a"), await stage.ask("b")]
        assert (traffic.arrivals, traffic.held, traffic.routed) == (2, 2, 0)
        stage.busy(0.0)
        await asyncio.gather(*asked)
        assert (traffic.arrivals, traffic.held, traffic.routed) == (2, 0, 2)
