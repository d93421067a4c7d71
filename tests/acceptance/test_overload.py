"""The gateway as a process under pressure: too many, too slow, failing servers, SIGTERM."""

import asyncio
import json
import re
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.clients import Answer, connected, load
from tests.support.descriptors import open_descriptors, room_for
from tests.support.faults import BEFORE_A_BYTE, Flood, Gate, Switch, as_engine
from tests.support.gateways import MODEL, chat, post, send
from tests.support.processes import Served, serving
from tests.support.upstreams import Script, Upstream, stream, unary

UNARY = post("/v1/chat/completions", chat())
STREAMED = post("/v1/chat/completions", chat(streamed=True))
CROWD = 5_000


@asynccontextmanager
async def gateway(
    directory: Path, *upstreams: Upstream, **settings: Mapping[str, object]
) -> AsyncIterator[Served]:
    """`inferway serve` before scripted endpoints, with sections of settings."""
    config = directory / "inferway.yaml"
    endpoints = [
        {"url": upstream.url, "engine": "generic", "models": [MODEL]} for upstream in upstreams
    ]
    config.write_text(json.dumps({"endpoints": endpoints, **settings}))  # JSON is YAML
    running = serving("--config", str(config), "--policy", "round_robin")
    served = await asyncio.to_thread(running.__enter__)
    try:
        yield served
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


def port_of(served: Served) -> int:
    """Where clients connect."""
    return int(served.url.rsplit(":", 1)[1])


async def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until a condition holds that costs a look at another process."""
    end = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < end, "condition did not come true"
        await asyncio.sleep(0.05)


async def metric(served: Served, sample: str) -> float | None:
    """The value of a sample, named as `/metrics` writes it; None when it is absent."""
    page = await asyncio.to_thread(served.get, "/metrics")
    found = re.search(rf"^{re.escape(sample)} (\S+)$", page, re.MULTILINE)
    return None if found is None else float(found[1])


def posts(upstream: Upstream) -> int:
    """Requests of clients that an endpoint received, probes apart."""
    return sum(request.head.startswith(b"POST") for request in upstream.received)


# --- memory ----------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [True, False])
async def test_stalled_readers_of_a_gigabyte_each_cost_no_memory(
    tmp_path: Path, streamed: bool
) -> None:
    readers = 8  # several, so that what the first one needs once does not hide what each costs
    flood = Flood(1 << 30, streamed=streamed)
    switch = Switch(stream(tokens=5) if streamed else unary())
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream(as_engine(switch)))
        served = await stack.enter_async_context(gateway(tmp_path, upstream))
        await load(port_of(served), [STREAMED] * 200)  # what the same traffic without stalls needs
        switch.script = flood
        process = psutil.Process(served.process.pid)
        before = process.memory_info().rss
        async with AsyncExitStack() as stalled:
            for _ in range(readers):
                reader, writer = await stalled.enter_async_context(
                    connected(port_of(served), holding=1024)
                )
                writer.write(STREAMED)
                await reader.readuntil(b"\r\n\r\n")
            await settled(lambda: flood.sent)
            assert (process.memory_info().rss - before) / readers < 2_000_000
            for _ in range(200):  # a reader that is merely slow costs no more
                await reader.readexactly(100_000)
            assert (process.memory_info().rss - before) / readers < 2_000_000
            assert flood.under_way == readers
            assert flood.sent < readers << 27, "the endpoint was not held back"
        await eventually(lambda: flood.under_way == 0)


async def settled(count: Callable[[], int]) -> None:
    """Wait until a count has grown and stands still for a while."""
    last, still = 0, 0
    async with asyncio.timeout(20):
        while still < 10:
            await asyncio.sleep(0.05)
            now = count()
            still = still + 1 if now == last > 0 else 0
            last = now


# --- crowds ----------------------------------------------------------------------------------


async def test_five_thousand_slow_heads_do_not_slow_the_others(tmp_path: Path) -> None:
    with room_for(CROWD + 1000):
        async with AsyncExitStack() as stack:
            upstream = await stack.enter_async_context(Upstream(as_engine(unary())))
            served = await stack.enter_async_context(
                gateway(tmp_path, upstream, proxy={"header_timeout": 6.0})
            )
            pid, port = served.process.pid, port_of(served)
            wires = [UNARY] * 800
            await load(port, wires)
            alone = await cpu_seconds_of(pid, load(port, wires))
            crowd = [stack.enter_context(closing(slow_head(port))) for _ in range(CROWD)]
            await eventually(lambda: open_descriptors(pid) > CROWD)
            crowded = await cpu_seconds_of(pid, load(port, wires))
            assert open_descriptors(pid) > CROWD, "they did not hang all the time"
            # Work, not waiting: what 800 requests cost the gateway with and without the crowd.
            assert crowded < 3 * alone + 0.2
            await eventually(lambda: open_descriptors(pid) < 100)
            assert Counter(map(said, crowd)) == {b"HTTP/1.1 408": CROWD}
            assert await metric(served, 'inferway_errors_total{reason="header_timeout"}') == CROWD


def slow_head(port: int) -> socket.socket:
    """A client that sent a part of a head."""
    client = socket.create_connection(("127.0.0.1", port))
    client.send(STREAMED[:25])
    return client


def said(client: socket.socket) -> bytes:
    """Protocol and status that a client was answered with before it was closed."""
    client.settimeout(5)
    return client.recv(12, socket.MSG_WAITALL)


async def cpu_seconds_of(pid: int, loading: Any) -> float:
    """CPU time that a process spent on a load, all of which must be answered well."""
    process = psutil.Process(pid)
    before = process.cpu_times()
    answers = await loading
    after = process.cpu_times()
    assert Counter(answer.status for answer in answers) == {200: len(answers)}
    return (after.user - before.user) + (after.system - before.system)


@pytest.mark.parametrize(
    ("limit", "status", "reason"),
    [
        ("max_connections", 503, "too_many_connections"),
        ("max_concurrent_requests", 429, "too_many_requests"),
    ],
)
async def test_beyond_a_limit_new_ones_are_refused_and_the_others_go_on(
    tmp_path: Path, limit: str, status: int, reason: str
) -> None:
    gate = Gate(tokens=20)
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream(as_engine(gate)))
        served = await stack.enter_async_context(gateway(tmp_path, upstream, proxy={limit: 20}))
        port = port_of(served)
        running = [asyncio.create_task(send(port, STREAMED)) for _ in range(20)]
        await eventually(lambda: posts(upstream) == 20)
        refused = [Answer(await send(port, UNARY)) for _ in range(100)]
        assert {(one.status, one.code) for one in refused} == {(status, reason)}
        assert all(one.retry_after for one in refused)
        assert posts(upstream) == 20
        gate.open()
        assert all(b"[DONE]" in answer for answer in await asyncio.gather(*running))
        assert Answer(await send(port, UNARY)).status == 200
        assert await metric(served, f'inferway_errors_total{{reason="{reason}"}}') == 100


# --- failing servers -------------------------------------------------------------------------


async def test_operators_see_the_breaker_of_a_failing_server(tmp_path: Path) -> None:
    breaker = {"failures": 5, "open_seconds": 1.0, "max_open_seconds": 1.0}
    switch = Switch(BEFORE_A_BYTE["503"])
    async with AsyncExitStack() as stack:
        sick = await stack.enter_async_context(Upstream(as_engine(switch)))
        well = await stack.enter_async_context(Upstream(as_engine(unary())))
        served = await stack.enter_async_context(
            gateway(tmp_path, sick, well, routing={"breaker": breaker})
        )

        async def ask_until(condition: Callable[[], bool]) -> None:
            async with asyncio.timeout(10):
                while not condition():
                    answer = await send(port_of(served), UNARY)
                    assert answer.startswith(b"HTTP/1.1 200")

        async def shown() -> str:
            endpoints = json.loads(await asyncio.to_thread(served.get, "/debug/endpoints"))
            name = sick.url.removeprefix("http://")
            (view,) = [one for one in endpoints if one["name"] == name]
            assert view["health"]["state"] == "healthy", "probes find nothing wrong"
            return str(view["breaker"]["state"])

        assert await shown() == "closed"
        await ask_until(lambda: posts(sick) == 5)
        assert await shown() in {"open", "half_open"}
        page = await asyncio.to_thread(served.get, "/metrics")
        assert "inferway_endpoint_breaker_state{" in page
        switch.script = unary()
        await ask_until(lambda: posts(sick) == 10)
        assert await shown() == "closed"
        assert await metric(served, 'inferway_retries_total{reason="status_503"}') is not None


# --- the end ---------------------------------------------------------------------------------


@asynccontextmanager
async def streaming(
    directory: Path, script: Script, **proxy: object
) -> AsyncIterator[tuple[Served, list[asyncio.Task[bytes]]]]:
    """A gateway with 50 streams under way."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream(as_engine(script)))
        served = await stack.enter_async_context(gateway(directory, upstream, proxy=proxy))
        tasks = [asyncio.create_task(one_stream(port_of(served))) for _ in range(50)]
        await eventually(lambda: posts(upstream) == 50)
        yield served, tasks


async def one_stream(port: int) -> bytes:
    """Everything a client gets until its connection ends, however it does."""
    async with connected(port) as (reader, writer):
        writer.write(STREAMED)
        got = b""
        try:
            while piece := await asyncio.wait_for(reader.read(65536), 20):
                got += piece
        except ConnectionError:
            pass  # cut, which is what some tests are about
        return got


def refuses(port: int) -> bool:
    """Whether nobody listens there any more."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def exit_code(served: Served) -> int | None:
    """How the process ends, soon."""
    await eventually(lambda: served.process.poll() is not None)
    return served.process.returncode


async def test_sigterm_lets_streams_finish(tmp_path: Path) -> None:
    gate = Gate(tokens=60)
    async with streaming(tmp_path, gate) as (served, tasks):
        served.process.send_signal(signal.SIGTERM)
        await eventually(lambda: refuses(port_of(served)))
        assert not any(task.done() for task in tasks), "a stream was cut"
        gate.open()
        answers = await asyncio.gather(*tasks)
        assert all(answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") for answer in answers)
        assert all(answer.count(b'"content"') == 60 for answer in answers)
        assert await exit_code(served) == 0


@pytest.mark.parametrize("cut_by", ["a second SIGTERM", "the end of the grace period"])
async def test_streams_that_never_end_are_cut_by(cut_by: str, tmp_path: Path) -> None:
    by_signal = cut_by == "a second SIGTERM"
    grace = 60.0 if by_signal else 1.0
    async with streaming(tmp_path, Gate(tokens=2), drain_seconds=grace) as (served, tasks):
        served.process.send_signal(signal.SIGTERM)
        await eventually(lambda: refuses(port_of(served)))
        if by_signal:
            served.process.send_signal(signal.SIGTERM)
        assert await exit_code(served) == 0
        answers = await asyncio.gather(*tasks)
        assert not any(b"[DONE]" in answer for answer in answers)
