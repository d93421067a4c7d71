"""The real Envoy before our picker, when clients, endpoints or the picker itself go away."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from tests.support.envoy import (
    ORIGINAL_DST,
    OVERRIDE_HOST,
    Config,
    filter_of,
    free_port,
)
from tests.support.envoy_stage import PATH, in_mode, staged
from tests.support.gateways import chat, post, until
from tests.support.upstreams import Received, Upstream, chunk, stream, unary


async def test_the_next_of_the_list_answers_for_a_dead_first_one(tmp_path: Path) -> None:
    async with Upstream(unary()) as living:
        dead = Upstream(unary(), port=free_port())
        async with staged(tmp_path, [dead, living]) as stage:
            for _ in range(4):
                assert (await stage.ask())[0] == 200
        endpoints = {record.endpoint for record in stage.picker.records}
        assert endpoints == {f"127.0.0.1:{living.port}"}
        assert len(living.received) == 4


@pytest.mark.parametrize("mode", ["recommended", "full duplex", "protocol"])
async def test_a_client_that_leaves_frees_its_endpoint(tmp_path: Path, mode: str) -> None:
    async with Upstream(stream(1_000, 0.02)) as upstream:
        async with staged(tmp_path, [upstream], change=in_mode(mode)) as stage:
            reader, writer = await asyncio.open_connection("127.0.0.1", stage.envoy.port)
            writer.write(post(PATH, chat(streamed=True)))
            await reader.readuntil(b"data:")
            assert stage.picker.in_flight == 1
            writer.transport.abort()
            await until(lambda: stage.picker.in_flight == 0)
            await until(lambda: upstream.closed_by_peer == 1)


@pytest.mark.parametrize("mode", ["recommended", "full duplex", "protocol"])
async def test_a_client_that_leaves_in_the_middle_of_its_prompt(tmp_path: Path, mode: str) -> None:
    async with Upstream(unary()) as upstream:
        async with staged(tmp_path, [upstream], change=in_mode(mode)) as stage:
            _, writer = await asyncio.open_connection("127.0.0.1", stage.envoy.port)
            writer.write(post(PATH, chat("x" * 100_000))[:50_000])
            await until(lambda: stage.picker.context.telemetry.in_flight == 1)
            writer.transport.abort()
            await until(lambda: stage.picker.context.telemetry.in_flight == 0)
        assert stage.picker.records[0].status == 499
        assert upstream.received == []


@pytest.mark.parametrize("mode", ["recommended", "full duplex", "protocol"])
async def test_an_endpoint_that_breaks_off(tmp_path: Path, mode: str) -> None:
    async def script(_: Upstream, __: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n" + chunk(b"data: x\n\n")
        )
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    async with Upstream(script) as upstream:
        async with staged(tmp_path, [upstream], change=in_mode(mode)) as stage:
            with pytest.raises(aiohttp.ClientError):
                await stage.ask(chat(streamed=True))


def closed(config: Config) -> None:
    """FailClose as Envoy has it."""
    filter_of(config)["failure_mode_allow"] = False


def as_it_is(_config: Config) -> None:
    """As deploy/ has it."""


FAILING = pytest.mark.parametrize(
    ("file", "change", "opens"),
    [
        (OVERRIDE_HOST, as_it_is, True),
        (OVERRIDE_HOST, closed, False),
        (ORIGINAL_DST, as_it_is, False),
        (ORIGINAL_DST, closed, False),
    ],
    ids=["open", "override-close", "original-dst", "original-dst-close"],
)


@FAILING
async def test_the_picker_dies_while_it_has_a_request(
    tmp_path: Path, file: Path, change: Callable[[Config], object], opens: bool
) -> None:
    async with Upstream(unary()) as upstream:
        async with staged(tmp_path, [upstream], file=file, change=change, fallbacks=0) as stage:
            request = post(PATH, chat("x" * 1_000))
            reader, writer = await asyncio.open_connection("127.0.0.1", stage.envoy.port)
            writer.write(request[:500])
            await until(lambda: stage.picker.context.telemetry.in_flight == 1)
            assert stage.picker.server is not None
            await stage.picker.server.stop()
            writer.write(request[500:])
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            writer.close()
        status = int(head.split()[1])
        assert status == 200 if opens else status in {500, 503}
        assert len(upstream.received) == opens


@FAILING
async def test_without_a_picker(
    tmp_path: Path, file: Path, change: Callable[[Config], object], opens: bool
) -> None:
    async with Upstream(unary()) as upstream:
        async with staged(tmp_path, [upstream], file=file, change=change, fallbacks=0) as stage:
            assert stage.picker.server is not None
            await stage.picker.server.stop()
            status, _ = await stage.ask()
        assert status == 200 if opens else status in {500, 503}
        assert len(upstream.received) == opens


@pytest.mark.parametrize("file", [OVERRIDE_HOST, ORIGINAL_DST], ids=["open", "close"])
async def test_the_picker_dies_in_the_middle_of_an_answer(tmp_path: Path, file: Path) -> None:
    async with Upstream(stream(100, 0.01)) as upstream:
        async with staged(tmp_path, [upstream], file=file, fallbacks=0) as stage:
            asking = asyncio.ensure_future(stage.ask(chat(streamed=True)))
            await until(lambda: stage.picker.in_flight == 1 and bool(upstream.received))
            await asyncio.sleep(0.2)
            assert stage.picker.server is not None
            await stage.picker.server.stop()
            status, events = await asking
        assert status == 200
        assert events.count(b"data:") == 102


async def test_a_picker_that_is_not_ready_is_not_asked(tmp_path: Path) -> None:
    async with Upstream(unary()) as upstream:
        async with staged(tmp_path, [upstream]) as stage:
            stage.picker.readiness.draining()
            for _ in range(100):
                status, _ = await stage.ask()
                asked, served = len(stage.picker.records), len(upstream.received)
                if status == 200 and asked < served:
                    break
                await asyncio.sleep(0.05)
            else:
                raise AssertionError(f"Envoy goes on asking: {status}, {asked} asked of {served}")


async def test_many_requests_at_a_time(tmp_path: Path) -> None:
    async with Upstream(unary()) as one, Upstream(unary()) as two:
        async with staged(tmp_path, [one, two]) as stage:
            bodies = [chat(f"{number} " * (number * 50)) for number in range(200)]
            answers = await asyncio.gather(*map(stage.ask, bodies))
        assert {status for status, _ in answers} == {200}
        arrived = sorted(received.body for received in one.received + two.received)
        assert arrived == sorted(bodies)
