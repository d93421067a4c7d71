"""Backends that are spoken to in HTTP/2 without TLS."""

import asyncio
from pathlib import Path

import pytest

from gateway.h2.frames import ErrorCode
from gateway.h2.headers import literal_block
from gateway.proxy.destinations import PlainDestination
from gateway.routes.rules import Rule
from routing.fleet import Endpoint
from tests.support.envoy import OVERRIDE_HOST, Config, manager_of, running_envoy
from tests.support.gateways import post, send, until
from tests.support.h2servers import Fields, H2Server, Request, h2_server
from tests.support.routed import routed_port, service, to
from tests.support.upstreams import Upstream, unary

CLOSING = post("/", b"x", b"connection: close\r\n")
RULES = [Rule(backends=(to(service("s")),))]


def behind(*ports: int) -> PlainDestination:
    urls = [f"127.0.0.1:{port}" for port in ports]
    return PlainDestination("ns/h2c", [Endpoint(url, f"h2c://{url}") for url in urls])


def status(answer: bytes) -> int:
    return int(answer[9:12])


async def ask(server: H2Server, data: bytes = post("/x?y=1", b"hello"), **settings: float) -> bytes:
    async with routed_port(RULES, {service("s"): behind(server.port)}, **settings) as port:
        return await send(port.port, data)


async def test_a_request_goes_over_and_its_answer_comes_back() -> None:
    def respond(request: Request) -> None:
        request.answer(b"world", [(b"x-a", b"1"), (b"set-cookie", b"a"), (b"set-cookie", b"b")])

    async with h2_server(respond) as server:
        answer = await ask(server, post("/x?y=1", b"hello", b"X-B: 2\r\n"))
    assert status(answer) == 200
    assert b"world" in answer
    assert answer.count(b"set-cookie: ") == 2
    assert b"x-trailer" not in answer
    [seen] = server.requests
    assert seen.body == b"hello"
    assert seen.fields[b":path"] == b"/x?y=1"
    assert seen.fields[b":authority"] == b"gateway"
    assert seen.fields[b"x-b"] == b"2"
    assert b"host" not in seen.fields


async def test_requests_share_a_connection() -> None:
    async with h2_server(lambda request: request.answer(request.body)) as server:
        async with routed_port(RULES, {service("s"): behind(server.port)}) as port:
            bodies = [b"%d" % number * 50_000 for number in range(20)]
            answers = await asyncio.gather(*(send(port.port, post("/", one)) for one in bodies))
            assert server.connections == 1
    for body, answer in zip(bodies, answers, strict=True):
        assert status(answer) == 200
        assert answer.count(body[:1]) >= 50_000


async def test_a_server_with_few_streams_gets_more_connections() -> None:
    async def later(request: Request) -> None:
        await asyncio.sleep(0.05)
        request.answer(b"ok")

    tasks = set()

    def respond(request: Request) -> None:
        tasks.add(asyncio.get_running_loop().create_task(later(request)))

    async with h2_server(respond, max_streams=2) as server:
        async with routed_port(RULES, {service("s"): behind(server.port)}) as port:
            await send(port.port, post("/", b"x"))  # from here on the limit is known
            answers = await asyncio.gather(*(send(port.port, post("/", b"x")) for _ in range(6)))
    assert {status(answer) for answer in answers} == {200}
    assert server.connections >= 3


@pytest.mark.parametrize(
    "fields",
    [
        [(b"content-length", b"3")],
        [(b"content-length", b"7")],
        [(b"content-length", b"5"), (b"content-length", b"5")],
        [(b"content-length", b"+5")],
        [(b"x-a", b"1\r\nx-evil: 1")],
        [(b"x a", b"1")],
        [(b"X-A", b"1")],
    ],
)
async def test_what_would_be_malformed_in_http_1_is_refused(fields: Fields) -> None:
    async with h2_server(lambda request: request.answer(b"hello", fields)) as server:
        async with routed_port(RULES, {service("s"): behind(server.port)}) as port:
            answer = await send(port.port, CLOSING, close=True)
    assert b"x-evil" not in answer
    # A body that is too short shows only after the head went out: then the connection is closed.
    if fields != [(b"content-length", b"7")]:
        assert status(answer) == 502


async def test_a_refused_stream_is_tried_once_more_and_a_reset_one_is_not() -> None:
    def refuse_first(request: Request) -> None:
        if len(server.requests) == 1:
            request.stream.reset(ErrorCode.REFUSED_STREAM)
        else:
            request.answer(b"ok")

    async with h2_server(refuse_first) as server:
        assert status(await ask(server)) == 200
    assert len(server.requests) == 2
    async with h2_server(lambda request: request.stream.reset(ErrorCode.INTERNAL_ERROR)) as other:
        assert status(await ask(other)) == 502
    assert len(other.requests) == 1


async def test_an_address_that_is_not_there_is_passed_over() -> None:
    async with h2_server(lambda request: request.answer(b"ok")) as server:
        where = {service("s"): behind(9, server.port)}
        async with routed_port(RULES, where) as port:
            answers = [await send(port.port, post("/", b"x")) for _ in range(4)]
    assert {status(answer) for answer in answers} == {200}


async def test_a_head_only_answer_and_one_without_a_body() -> None:
    def respond(request: Request) -> None:
        head = [(b":status", b"200"), (b"content-length", b"9")]
        if request.fields[b":method"] == b"HEAD":
            request.stream.send_headers(literal_block(head))
            request.stream.send_end(literal_block([(b"x-end", b"1")]))
        else:
            request.stream.send_end(literal_block([(b":status", b"204")]))

    async with h2_server(respond) as server:
        async with routed_port(RULES, {service("s"): behind(server.port)}) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
            writer.write(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            nothing = await reader.readuntil(b"\r\n\r\n")
            writer.close()
    assert b"content-length: 9" in head
    assert nothing.startswith(b"HTTP/1.1 204")


async def test_a_client_that_leaves_resets_its_stream_only() -> None:
    async with h2_server(lambda _: None) as server:
        async with routed_port(RULES, {service("s"): behind(server.port)}) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port.port)
            writer.write(post("/", b"x"))
            await until(lambda: len(server.requests) == 1)
            writer.transport.abort()
            await until(lambda: server.requests[0].cut_by is ErrorCode.CANCEL)
            server.respond = lambda request: request.answer(b"ok")
            assert status(await send(port.port, post("/", b"x"))) == 200
    assert server.connections == 1


async def test_a_client_that_does_not_read_holds_its_stream_back() -> None:
    whole = 12 << 20

    def respond(request: Request) -> None:
        request.answer(b"z" * whole)

    async with h2_server(respond) as server:
        async with routed_port(RULES, {service("s"): behind(server.port)}) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port.port, limit=1024)
            writer.write(post("/", b"x"))
            await until(lambda: bool(server.requests))
            await asyncio.sleep(0.3)
            waiting = server.requests[0].stream.pending_bytes
            assert waiting > whole // 2  # most of it never left the server
            read = 0
            while read < whole:
                read += len(await reader.read(1 << 20))
            writer.close()


async def test_real_envoy_as_the_backend(tmp_path: Path) -> None:
    """An HTTP/2 server that is not ours."""

    def without_picker(config: Config) -> None:
        manager = manager_of(config)
        manager["http_filters"] = manager["http_filters"][1:]

    async with Upstream(unary(b"from behind", fields=b"x-own: 1\r\n")) as upstream:
        async with running_envoy(
            OVERRIDE_HOST, tmp_path, picker=9, pool=[upstream.port], change=without_picker
        ) as envoy:
            async with routed_port(RULES, {service("s"): behind(envoy.port)}) as routed:
                data = post("/a/b", b"body" * 50_000)
                answers = await asyncio.gather(*(send(routed.port, data) for _ in range(5)))
    assert {status(answer) for answer in answers} == {200}
    assert all(answer.endswith(b"from behind") for answer in answers)
    assert all(b"x-own: 1" in answer for answer in answers)
    assert {len(one.body) for one in upstream.received} == {200_000}
