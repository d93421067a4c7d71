"""grpcio, an implementation that is not ours, is satisfied with our gRPC server."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from gateway.h2.limits import Limits
from tests.support.gateways import until
from tests.support.rpc import BURST, ECHO, FAIL, STREAM, Echo, running_server

_LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def _channel(port: int, options: list[tuple[str, int]] | None = None) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options or _LARGE)


async def test_unary_calls_of_all_sizes() -> None:
    async with running_server() as server, _channel(server.port) as channel:
        echo = channel.unary_unary(ECHO)
        for size in (0, 1, 16_383, 16_384, 16_385, 65_536, 3_000_000):
            message = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
            assert await echo(message) == message


async def test_many_calls_at_a_time_on_many_channels() -> None:
    async with running_server() as server:
        channels = [
            _channel(server.port, [*_LARGE, ("grpc.use_local_subchannel_pool", 1)])
            for _ in range(8)
        ]
        calls = [
            channel.unary_unary(ECHO)(b"%d " % number * 1_000)
            for channel in channels
            for number in range(100)
        ]
        answers = await asyncio.gather(*calls)
        assert answers == [b"%d " % number * 1_000 for _ in channels for number in range(100)]
        assert server.connections == 8
        for channel in channels:
            await channel.close()


async def test_streams_in_both_directions() -> None:
    async with running_server() as server, _channel(server.port) as channel:
        call = channel.stream_stream(STREAM)()
        for number in range(200):
            await call.write(b"%d" % number * 300)
            assert await call.read() == b"%d" % number * 300
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_a_client_that_reads_slowly_gets_everything_in_order() -> None:
    async with running_server() as server, _channel(server.port) as channel:
        call = channel.stream_stream(BURST)()
        await call.write(b"x" * 10_000)
        await call.done_writing()
        total = 0
        while (message := await call.read()) is not grpc.aio.EOF:
            assert message == b"x" * 10_000
            total += 1
            if total % 100 == 0:
                await asyncio.sleep(0.01)
        assert total == 1_000


async def test_errors_have_their_code_and_message() -> None:
    async with running_server() as server, _channel(server.port) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(FAIL)(b"this")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == "näh: this 100%"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/test.Echo/Nothing")(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_message_that_is_too_long_is_refused() -> None:
    async with running_server(longest=1_000) as server, _channel(server.port) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(ECHO)(b"x" * 1_001)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await channel.unary_unary(ECHO)(b"x" * 1_000) == b"x" * 1_000


async def test_cancellations_and_deadlines_end_the_call_here_too() -> None:
    async with running_server() as server, _channel(server.port) as channel:
        call = channel.stream_stream(STREAM)()
        await call.write(b"x")
        assert await call.read() == b"x"
        assert Echo.open == 1
        call.cancel()
        await until(lambda: Echo.open == 0)
        late = channel.stream_stream(STREAM)(timeout=0.2)
        await late.write(b"x")
        assert await late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: Echo.open == 0 and server.streams == 0)


async def test_more_streams_than_allowed_wait_for_each_other() -> None:
    async with running_server(Limits(max_streams=4)) as server, _channel(server.port) as channel:
        calls = [channel.stream_stream(STREAM)() for _ in range(12)]

        async def talk(call: grpc.aio.StreamStreamCall) -> bytes:
            await call.write(b"x")
            answer = await call.read()
            await call.done_writing()
            assert await call.code() is grpc.StatusCode.OK
            return bytes(answer)

        assert await asyncio.gather(*map(talk, calls)) == [b"x"] * 12


async def test_draining_lets_a_call_end_and_takes_no_new_one() -> None:
    async with running_server() as server, _channel(server.port) as channel:
        call = channel.stream_stream(STREAM)()
        await call.write(b"x")
        assert await call.read() == b"x"
        draining = asyncio.ensure_future(server.drain(5.0))
        await asyncio.sleep(0.05)
        await call.write(b"y")
        assert await call.read() == b"y"
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
        await draining
        assert server.connections == 0
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary(ECHO)(b"", timeout=1.0)


async def test_health() -> None:
    async with running_server() as server, _channel(server.port) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        serving = await stub.Check(health_pb2.HealthCheckRequest())
        assert serving.status == health_pb2.HealthCheckResponse.SERVING
        not_yet = await stub.Check(health_pb2.HealthCheckRequest(service="readiness"))
        assert not_yet.status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="other"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        listed = await stub.List(health_pb2.HealthListRequest())
        assert set(listed.statuses) == {"", "readiness"}


async def test_reflection() -> None:
    async with running_server() as server:

        def ask() -> tuple[set[str], str]:
            with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                database = ProtoReflectionDescriptorDatabase(channel)
                file = database.FindFileContainingSymbol("grpc.health.v1.Health")
                return set(database.get_services()), file.name

        services, file = await asyncio.to_thread(ask)
        assert {"test.Echo", "grpc.health.v1.Health"} <= services
        assert file.endswith("v1/health.proto")
