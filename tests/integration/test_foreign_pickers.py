"""Pools whose endpoints somebody else's picker chooses: right ones, and wrong, slow, dead ones."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.extproc.server import ExtProcServer
from gateway.gatewayapi.backends import PickerPlan
from gateway.picking.pickers import GrpcPicker
from gateway.proxy.destinations import PlainDestination
from gateway.routes.rules import Rule
from gateway.selfsigned import self_signed_context
from gateway.settings import PickerSettings
from routing.fleet import Endpoint
from tests.support.gateways import MODEL, chat, post, send, until
from tests.support.lwepp import (
    SERVED_HEADER,
    Picker,
    body_reply,
    fields_of,
    head_reply,
    immediate,
    running_picker,
)
from tests.support.processors import processor, running_processor
from tests.support.routed import RoutedPort, pool, routed_port, to
from tests.support.upstreams import Received, Upstream, stream, unary

PATH = "/v1/chat/completions"


def status(answer: bytes) -> int:
    return int(answer[9:12])


@asynccontextmanager
async def picked_port(
    picker_port: int | None,
    *urls: str,
    fail_open: bool = False,
    seconds: float = 5.0,
) -> AsyncIterator[RoutedPort]:
    """A routed port whose one pool has a picker there; None: the picker has no address."""
    addresses = () if picker_port is None else (f"127.0.0.1:{picker_port}",)
    picker = GrpcPicker(
        PickerPlan(addresses, fail_open, "picker.ns"), PickerSettings(timeout=seconds)
    )
    endpoints = [Endpoint(url.removeprefix("http://"), url) for url in urls]
    destination = PlainDestination("ns/pool", endpoints, picker, fail_open=fail_open)
    async with routed_port([Rule(backends=(to(pool("p")),))], {pool("p"): destination}) as port:
        try:
            yield port
        finally:
            picker.close()


async def test_the_picked_endpoint_answers_and_the_picker_hears_of_it() -> None:
    async with Upstream(unary()) as one, Upstream(unary()) as two:
        addresses = [url.removeprefix("http://") for url in (one.url, two.url)]
        async with running_picker(addresses[1:]) as picker:
            async with picked_port(picker.port, one.url, two.url) as port:
                answers = [await send(port.port, post(PATH, chat())) for _ in range(3)]
                await until(lambda: picker.open == 0)
        assert [status(answer) for answer in answers] == [200] * 3
        assert all(f"{SERVED_HEADER}: {addresses[1]}".encode() in one for one in answers)
        assert (len(one.received), len(two.received)) == (0, 3)
        assert two.received[0].body == chat()
        assert b"x-gateway-destination-endpoint" not in two.received[0].head.lower()
        assert picker.served == [addresses[1]] * 3
        head = picker.heads[0]
        assert (head[":method"], head[":path"], head[":authority"]) == ("POST", PATH, "gateway")


@pytest.mark.parametrize("size", [0, 1, 62_000, 62_001, 1_500_000])
async def test_bodies_come_back_byte_for_byte(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    async with Upstream(unary()) as upstream:
        async with running_picker([upstream.url.removeprefix("http://")]) as picker:
            async with picked_port(picker.port, upstream.url) as port:
                answer = await send(port.port, post(PATH, body))
        assert status(answer) == 200
        assert upstream.received[0].body == body


async def test_requests_without_a_body_are_picked_for_too() -> None:
    async with Upstream(unary()) as upstream:
        async with running_picker([upstream.url.removeprefix("http://")]) as picker:
            async with picked_port(picker.port, upstream.url) as port:
                answer = await send(port.port, b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n")
        assert status(answer) == 200


async def test_a_stream_passes_behind_a_reviewed_head() -> None:
    async with Upstream(stream(tokens=4)) as upstream:
        async with running_picker([upstream.url.removeprefix("http://")]) as picker:
            async with picked_port(picker.port, upstream.url) as port:
                answer = await send(port.port, post(PATH, chat(streamed=True)))
                await until(lambda: picker.open == 0)
        assert answer.count(b'"content":"t') == 4
        assert SERVED_HEADER.encode() in answer


async def test_our_own_processor_is_a_picker() -> None:
    async with Upstream(unary()) as one, Upstream(unary()) as two:
        urls = [one.url, two.url]
        async with running_processor(urls, models=(MODEL,)) as processor:
            async with picked_port(processor.port, *urls) as port:
                answers = [await send(port.port, post(PATH, chat())) for _ in range(4)]
                unknown = await send(port.port, post(PATH, b'{"model":"x","messages":[]}'))
                await until(lambda: processor.in_flight == 0)
        assert [status(answer) for answer in answers] == [200] * 4
        assert status(unknown) == 404
        assert json.loads(unknown.partition(b"\r\n\r\n")[2])["error"]["code"] == "unknown_model"
        assert len(one.received) + len(two.received) == 4


async def test_the_list_is_walked_when_the_first_can_not_be_reached() -> None:
    async with Upstream(unary()) as upstream:
        dead, alive = "127.0.0.1:9", upstream.url.removeprefix("http://")

        async def script(picker: Picker, requests: Any, context: Any) -> None:
            async for message in requests:
                kind = message.WhichOneof("request")
                if kind == "request_headers":
                    head = fields_of(message.request_headers)
                    assert head[":path"] == PATH
                elif kind == "request_body":
                    await context.write(head_reply(f"10.9.9.9:1, {dead},{alive}", echo=False))
                    await context.write(body_reply(message.request_body.body, ends=True))
                elif kind == "response_headers":
                    space = message.metadata_context.filter_metadata["envoy.lb"]
                    key = "x-gateway-destination-endpoint-served"
                    picker.served.append(space.fields[key].string_value)
                    return

        async with running_picker(script=script) as picker:
            async with picked_port(picker.port, f"http://{dead}", upstream.url) as port:
                answer = await send(port.port, post(PATH, chat()))
                await until(lambda: picker.served == [alive])
        assert status(answer) == 200
        assert port.records[0].retries == ("connect_failed",)


async def test_only_the_picker_may_tell_a_sidecar_something() -> None:
    async def script(_: Picker, requests: Any, context: Any) -> None:
        async for message in requests:
            if message.WhichOneof("request") == "request_headers":
                seen.append(fields_of(message.request_headers))
            elif message.WhichOneof("request") == "request_body":
                reply = head_reply(where, echo=False)
                option = reply.request_headers.response.header_mutation.set_headers.add()
                option.header.key = "x-prefiller-host-port"
                option.header.raw_value = b"10.0.0.9:8000"
                await context.write(reply)
                await context.write(body_reply(message.request_body.body, ends=True))

    seen: list[dict[str, str]] = []
    async with Upstream(unary()) as upstream:
        where = upstream.url.removeprefix("http://")
        async with running_picker(script=script) as picker:
            async with picked_port(picker.port, upstream.url, seconds=0.5) as port:
                fields = (
                    b"x-prefiller-host-port: evil:1\r\nx-gateway-destination-endpoint: evil:2\r\n"
                    b"x-gateway-inference-objective: gold\r\nx-data-parallel-host-port: evil:3\r\n"
                )
                answer = await send(port.port, post(PATH, chat(), fields))
    assert status(answer) == 200
    assert seen[0]["x-gateway-inference-objective"] == "gold"
    assert not any("evil" in value for value in seen[0].values())
    head = upstream.received[0].fields
    assert head[b"x-prefiller-host-port"] == b"10.0.0.9:8000"
    assert not any(b"evil" in value for value in head.values())


async def test_who_is_not_in_the_pool_is_nobody() -> None:
    async with Upstream(unary()) as upstream, Upstream(unary()) as stranger:
        async with running_picker([stranger.url.removeprefix("http://")]) as picker:
            async with picked_port(picker.port, upstream.url) as port:
                answer = await send(port.port, post(PATH, chat()))
        assert status(answer) == 503
        assert not stranger.received


@pytest.mark.parametrize("fail_open", [False, True])
async def test_a_refusal_is_an_answer_in_both_failure_modes(fail_open: bool) -> None:
    async def script(_: Picker, requests: Any, context: Any) -> None:
        async for _message in requests:
            await context.write(immediate(429, b"later"))
            return

    async with Upstream(unary()) as upstream:
        async with running_picker(script=script) as picker:
            async with picked_port(picker.port, upstream.url, fail_open=fail_open) as port:
                answer = await send(port.port, post(PATH, chat()))
        assert status(answer) == 429
        assert answer.endswith(b"later")
        assert not upstream.received


async def _never(_: Picker, requests: Any, __: Any) -> None:
    async for _message in requests:
        pass
    await asyncio.sleep(30)


async def _refuses(_: Picker, __: Any, context: Any) -> None:
    import grpc

    await context.abort(grpc.StatusCode.UNAVAILABLE, "not ready")


async def _leaves(_: Picker, requests: Any, __: Any) -> None:
    async for _message in requests:
        return


async def _breaks_the_protocol(_: Picker, requests: Any, context: Any) -> None:
    async for message in requests:
        if message.WhichOneof("request") == "request_body":
            await context.write(head_reply("127.0.0.1:9", echo=False))
            reply = body_reply(b"", ends=True)
            reply.request_body.response.ClearField("body_mutation")
            await context.write(reply)


async def _forgets_the_endpoint(_: Picker, requests: Any, context: Any) -> None:
    async for message in requests:
        if message.WhichOneof("request") == "request_body":
            reply = head_reply("x", echo=False)
            reply.request_headers.response.ClearField("header_mutation")
            reply.ClearField("dynamic_metadata")
            await context.write(reply)


async def _keeps_the_body(_: Picker, requests: Any, context: Any) -> None:
    async for message in requests:
        if message.WhichOneof("request") == "request_body":
            await context.write(head_reply("127.0.0.1:9", echo=False))
            return


BAD = {
    "slow": _never,
    "refusing": _refuses,
    "leaving": _leaves,
    "wrong": _breaks_the_protocol,
    "silent about the endpoint": _forgets_the_endpoint,
    "keeping the body": _keeps_the_body,
}


@pytest.mark.parametrize("fail_open", [False, True])
@pytest.mark.parametrize("kind", BAD)
async def test_a_picker_that_does_not_answer(kind: str, fail_open: bool) -> None:
    async with Upstream(unary()) as upstream:
        async with running_picker(script=BAD[kind]) as picker:
            async with picked_port(
                picker.port, upstream.url, fail_open=fail_open, seconds=0.3
            ) as port:
                answer = await send(port.port, post(PATH, chat()))
        if fail_open:
            assert status(answer) == 200
            assert upstream.received[0].body == chat()
        else:
            assert status(answer) == 503
            assert not upstream.received


@pytest.mark.parametrize("fail_open", [False, True])
@pytest.mark.parametrize("port_of_it", [9, None])
async def test_a_picker_that_is_not_there(port_of_it: int | None, fail_open: bool) -> None:
    async with Upstream(unary()) as upstream:
        async with picked_port(port_of_it, upstream.url, fail_open=fail_open) as port:
            answer = await send(port.port, post(PATH, chat()))
    assert status(answer) == (200 if fail_open else 503)


async def test_a_picker_that_comes_back_is_asked_again() -> None:
    async with Upstream(unary()) as upstream:
        address = upstream.url.removeprefix("http://")
        async with running_picker([address]) as first:
            async with picked_port(first.port, upstream.url, fail_open=True) as port:
                assert status(await send(port.port, post(PATH, chat()))) == 200
                assert len(first.heads) == 1
                # The connection is lost without a word; the next request finds a new one.
                destination = next(iter(port.routing._destinations.values()))
                for channel in destination.picker._channels:  # type: ignore[attr-defined]
                    channel.close()
                await until(lambda: not destination.picker._channels)  # type: ignore[attr-defined]
                assert status(await send(port.port, post(PATH, chat()))) == 200
                assert len(first.heads) == 2


async def test_a_picker_late_for_the_response_holds_it_no_longer_than_its_time() -> None:
    async def script(_: Picker, requests: Any, context: Any) -> None:
        async for message in requests:
            if message.WhichOneof("request") == "request_body":
                await context.write(head_reply(where, echo=False))
                await context.write(body_reply(message.request_body.body, ends=True))
            # and never a word to the response

    async with Upstream(unary(b"whole")) as upstream:
        where = upstream.url.removeprefix("http://")
        async with running_picker(script=script) as picker:
            async with picked_port(picker.port, upstream.url, seconds=0.3) as port:
                answer = await send(port.port, post(PATH, chat()))
    assert status(answer) == 200
    assert answer.endswith(b"whole")


async def test_a_client_that_leaves_ends_the_pickers_stream_and_the_request() -> None:
    async def silent(_: Upstream, __: Received, ___: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async with Upstream(silent) as upstream:
        async with running_picker([upstream.url.removeprefix("http://")]) as picker:
            async with picked_port(picker.port, upstream.url) as port:
                _, writer = await asyncio.open_connection("127.0.0.1", port.port)
                writer.write(post(PATH, chat()))
                await until(lambda: len(upstream.received) == 1)
                writer.transport.abort()
                await until(lambda: picker.open == 0 and upstream.closed_by_peer == 1)
                assert port.records[0].status == 499


async def test_many_requests_share_a_connection() -> None:
    async with Upstream(unary()) as one, Upstream(unary()) as two:
        addresses = [url.removeprefix("http://") for url in (one.url, two.url)]
        async with running_picker(addresses) as picker:
            async with picked_port(picker.port, one.url, two.url) as port:
                answers = await asyncio.gather(
                    *(send(port.port, post(PATH, chat("x" * 5_000))) for _ in range(60))
                )
                await until(lambda: picker.open == 0)
        assert {status(answer) for answer in answers} == {200}
        assert len(one.received) == len(two.received) == 30


async def test_a_picker_may_show_any_certificate() -> None:
    async with Upstream(unary()) as upstream:
        made = processor([upstream.url], models=(MODEL,))
        made.readiness.ready()
        made.server = ExtProcServer(made.context, made.readiness)
        await made.server.start(self_signed_context(("h2",)))
        settings = PickerSettings(tls="unverified")
        plan = PickerPlan((f"127.0.0.1:{made.port}",), False, "picker.ns")
        picker = GrpcPicker(plan, settings)
        endpoints = [Endpoint(upstream.url.removeprefix("http://"), upstream.url)]
        where = {pool("p"): PlainDestination("ns/pool", endpoints, picker)}
        try:
            async with routed_port([Rule(backends=(to(pool("p")),))], where) as port:
                answer = await send(port.port, post(PATH, chat()))
        finally:
            picker.close()
            await made.server.stop()
    assert status(answer) == 200
