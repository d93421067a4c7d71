"""Retries, their budget and the breaker: failures cost no client anything, outages stay small."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

from routing.breaker import BreakerSettings
from routing.retries import RetrySettings
from tests.support.clients import Answer, load
from tests.support.faults import BEFORE_A_BYTE, Switch, closed_port, reset_after, silent
from tests.support.gateways import ProxyUnderTest, chat, post, running_proxy, send, until
from tests.support.upstreams import (
    SSE_HEAD,
    Received,
    Script,
    Upstream,
    chunk,
    event,
    stream,
    unary,
)

UNARY = post("/v1/chat/completions", chat())
STREAMED = post("/v1/chat/completions", chat(streamed=True))
BUDGET = RetrySettings(share=0.2, minimum_per_second=1.0, memory=10.0)
NO_BREAKER = BreakerSettings(failures_in_a_row=1_000_000, window_requests=1_000_000)


async def served(upstream: Upstream, request: Received, writer: asyncio.StreamWriter) -> None:
    """Answer well: a stream or a whole answer, as asked for."""
    script = stream(3) if b'"stream":true' in request.body else unary()
    await script(upstream, request, writer)


async def before(stack: AsyncExitStack, scripts: Sequence[Script]) -> list[Upstream]:
    """One running endpoint a script."""
    return [await stack.enter_async_context(Upstream(script)) for script in scripts]


def most_retries(requests: int, seconds: float = 0.0) -> float:
    """What the budget allows for so many requests within so many seconds."""
    reserve = BUDGET.minimum_per_second * (BUDGET.memory + seconds)
    return BUDGET.share * requests + reserve


def by_request(upstreams: Sequence[Upstream]) -> Counter[bytes]:
    """How often each of `numbered` was sent to any endpoint; retries add ``-1``, ``-2``, ..."""
    return Counter(
        b"-".join(request.fields[b"x-request-id"].split(b"-")[:2])
        for upstream in upstreams
        for request in upstream.received
    )


def numbered(count: int) -> list[bytes]:
    """Requests with ids of their own, every other one streamed."""
    return [
        post(
            "/v1/chat/completions",
            chat(streamed=number % 2 == 0),
            b"x-request-id: number-%d\r\n" % number,
        )
        for number in range(count)
    ]


# --- one of four -----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["connect", *BEFORE_A_BYTE])
async def test_one_failing_server_of_four_costs_clients_nothing(fault: str) -> None:
    requests = 300
    async with AsyncExitStack() as stack:
        good = await before(stack, [served] * 3)
        bad = await before(stack, [BEFORE_A_BYTE[fault]] if fault != "connect" else [])
        urls = [one.url for one in (*bad, *good)] or []
        if fault == "connect":
            urls.insert(0, f"http://127.0.0.1:{closed_port()}")
        proxy = await stack.enter_async_context(running_proxy(urls, retries=BUDGET))
        answers = await load(proxy.port, numbered(requests))
        assert Counter(answer.status for answer in answers) == {200: requests}
        assert not any(b"error" in answer.body for answer in answers)
        assert by_request(good) == {b"number-%d" % number: 1 for number in range(requests)}
        retried = sum(len(record.retries) for record in proxy.records)
        assert 0 < retried <= most_retries(requests)
        assert sum(len(one.received) for one in bad) <= retried
        assert proxy.in_flight == 0
        assert proxy.context.telemetry.errors == {}


# --- all of four -----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", BEFORE_A_BYTE)
async def test_an_outage_is_not_multiplied(fault: str) -> None:
    requests = 300
    async with AsyncExitStack() as stack:
        bad = await before(stack, [BEFORE_A_BYTE[fault]] * 4)
        urls = [one.url for one in bad]
        proxy = await stack.enter_async_context(
            running_proxy(urls, retries=BUDGET, breaker=NO_BREAKER)
        )
        answers = await load(proxy.port, numbered(requests))
        attempts = sum(len(one.received) for one in bad)
        assert attempts > requests, "nothing was retried: the test proves nothing"
        # Seconds pass while it runs, which earn a little more.
        assert attempts <= requests + most_retries(requests, seconds=10.0)
        assert max(by_request(bad).values()) <= 4
        assert {answer.status for answer in answers} <= {502, 503}
        if fault != "503":
            assert all(answer.retry_after for answer in answers), "when to come again is not said"
        assert proxy.in_flight == 0
        assert len(proxy.context.telemetry.errors) == 1


async def test_in_an_outage_breakers_answer_instead_of_the_servers() -> None:
    requests = 300
    breaker = BreakerSettings(failures_in_a_row=5, open_seconds=30.0)
    async with AsyncExitStack() as stack:
        bad = await before(stack, [BEFORE_A_BYTE["503"]] * 4)
        urls = [one.url for one in bad]
        proxy = await stack.enter_async_context(
            running_proxy(urls, retries=BUDGET, breaker=breaker)
        )
        answers = await load(proxy.port, numbered(requests))
        # Five in a row and the seven that the other workers had on the way, for each of four.
        assert sum(len(one.received) for one in bad) <= 4 * (5 + 7)
        refused = [answer for answer in answers if b"no_endpoint" in answer.body]
        assert len(refused) > requests / 2
        assert all(answer.status == 503 and answer.retry_after for answer in refused)


# --- never twice after a byte was relayed ----------------------------------------------------


@dataclass
class Breaking:
    """Answers well or breaks off at one of several points, and notes what had been said."""

    said_something: dict[bytes, list[bool]] = field(default_factory=lambda: defaultdict(list))
    turn: int = 0

    async def __call__(
        self, upstream: Upstream, request: Received, writer: asyncio.StreamWriter
    ) -> None:
        """One attempt of one request."""
        streamed = b'"stream":true' in request.body
        whole = chunk(event("one"))
        head = b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n"
        points = [
            (False, reset_after(b"")),
            (False, reset_after(SSE_HEAD if streamed else head)),
            (True, reset_after(SSE_HEAD + whole if streamed else head + b'{"a"')),
            (
                True,
                reset_after(SSE_HEAD + whole * 3 + b"9\r\nda" if streamed else head + b"{" * 49),
            ),
            (True, served),
        ]
        self.turn += 1
        said, script = points[self.turn % len(points)]
        number = request.fields[b"x-request-id"].split(b"-")[1]
        self.said_something[number].append(said)
        await script(upstream, request, writer)


async def test_nothing_is_sent_twice_after_a_byte_was_relayed() -> None:
    requests = 200
    breaking = Breaking()
    generous = RetrySettings(share=10.0, minimum_per_second=100.0)
    async with AsyncExitStack() as stack:
        upstreams = await before(stack, [breaking] * 3)
        proxy = await stack.enter_async_context(
            running_proxy([one.url for one in upstreams], retries=generous, breaker=NO_BREAKER)
        )
        one_each = (send(proxy.port, wire, close=False) for wire in numbered(requests))
        await asyncio.gather(*one_each, return_exceptions=True)  # some answers are cut short
        await until(lambda: len(proxy.records) == requests)
        assert proxy.in_flight == 0
    attempts = breaking.said_something.values()
    assert len(attempts) == requests
    assert any(len(said) > 1 for said in attempts), "nothing was retried: the test proves nothing"
    for said in attempts:
        assert not any(said[:-1]), "it was sent again after its answer had begun"


# --- kept-alive connections that died --------------------------------------------------------


@pytest.mark.parametrize("orderly", [True, False], ids=["closed", "reset"])
async def test_connections_that_die_when_used_again_are_nobodys_fault(orderly: bool) -> None:
    seen: Counter[asyncio.StreamWriter] = Counter()

    async def once(upstream: Upstream, request: Received, writer: asyncio.StreamWriter) -> None:
        seen[writer] += 1
        if seen[writer] == 1:
            await served(upstream, request, writer)
        elif orderly:
            writer.close()
        else:
            writer.transport.abort()

    async with Upstream(once) as upstream, running_proxy([upstream.url]) as proxy:
        for _ in range(5):
            answers = await load(proxy.port, [UNARY] * 20, workers=10)
            assert Counter(answer.status for answer in answers) == {200: 20}
        assert max(seen.values()) == 2, "no connection was used again: the test proves nothing"
        assert_blameless(proxy)


async def test_connections_that_die_while_idle_are_nobodys_fault() -> None:
    async def closing(upstream: Upstream, request: Received, writer: asyncio.StreamWriter) -> None:
        await served(upstream, request, writer)
        writer.close()

    async with Upstream(closing) as upstream, running_proxy([upstream.url]) as proxy:
        answers = await load(proxy.port, [UNARY, STREAMED] * 50)
        assert Counter(answer.status for answer in answers) == {200: 100}
        assert_blameless(proxy)


async def test_a_new_connection_that_dies_too_is_the_servers_fault() -> None:
    switch = Switch(served)
    async with Upstream(switch) as upstream, running_proxy([upstream.url]) as proxy:
        await send(proxy.port, UNARY)
        switch.script = reset_after(b"")
        answer = Answer(await send(proxy.port, UNARY))
        assert answer.status == 502 and answer.retry_after
        assert len(upstream.received) == 3, "once on the old connection, once on a new one"
        assert proxy.records[-1].failed_endpoints == (f"127.0.0.1:{upstream.port}",)


def assert_blameless(proxy: ProxyUnderTest) -> None:
    """No client saw an error, no retry was spent, no endpoint is believed to have failed."""
    assert proxy.context.telemetry.errors == proxy.context.telemetry.retries == {}
    assert not any(record.failed_endpoints for record in proxy.records)
    assert [state.breaker.failures for state in proxy.router.fleet] == [0]
    assert proxy.in_flight == 0


# --- the breaker -----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["503", "in head"])
async def test_a_server_that_keeps_failing_is_left_alone_probed_and_used_again(fault: str) -> None:
    settings = BreakerSettings(failures_in_a_row=5, open_seconds=0.3, longest_open_seconds=0.3)
    switch = Switch(BEFORE_A_BYTE[fault])
    async with Upstream(switch) as sick, Upstream(served) as well:
        async with running_proxy([sick.url, well.url], breaker=settings) as proxy:
            state = proxy.router.fleet.get(f"127.0.0.1:{sick.port}")
            assert state is not None
            breaker = state.breaker

            async def ask() -> None:
                answer = await send(proxy.port, UNARY)
                assert answer.startswith(b"HTTP/1.1 200")

            async def ask_until(condition: Callable[[], bool]) -> None:
                async with asyncio.timeout(10):
                    while not condition():
                        await ask()

            await ask_until(lambda: breaker.openings > 0)
            assert (breaker.openings, len(sick.received)) == (1, 5)

            # Failing on, it gets one probe for each time it was opened again.
            await ask_until(lambda: breaker.openings == 3)
            assert len(sick.received) == 5 + 2

            # While a probe is under way it gets nothing else.
            switch.script = silent
            probing: list[asyncio.Task[None]] = []
            async with asyncio.timeout(10):
                while len(sick.received) == 7:
                    probing.append(asyncio.create_task(ask()))
                    await asyncio.sleep(0.02)
            for _ in range(20):
                await ask()
            assert len(sick.received) == 8
            for task in probing:
                task.cancel()
            await asyncio.gather(*probing, return_exceptions=True)

            # Well again, it is used again.
            switch.script = served
            await ask_until(lambda: len(sick.received) == 20)
            assert breaker.circuit.value == "closed"
            assert proxy.in_flight == 0
