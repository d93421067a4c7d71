"""Requests that a route table governs, over real sockets."""

import asyncio

import pytest

from gateway.routes.rules import (
    HeaderEdit,
    PathKind,
    PathMatch,
    PathRewrite,
    Redirect,
    RequestMatch,
    Rewrite,
    Rule,
    Target,
    TargetKind,
)
from tests.support.gateways import MODEL, chat, post, send, until
from tests.support.routed import brain, plain, pool, routed_port, service, to
from tests.support.upstreams import Received, Upstream, stream, unary


def under(prefix: str) -> tuple[RequestMatch, ...]:
    return (RequestMatch(PathMatch(PathKind.PREFIX, prefix)),)


def get(target: str, fields: bytes = b"", host: bytes = b"a.com", method: bytes = b"GET") -> bytes:
    return b"%b %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (method, target.encode(), host, fields)


async def test_a_service_gets_any_method_and_path_as_the_client_wrote_it() -> None:
    async with Upstream(unary(b"hello", fields=b"x-own: 1\r\nkeep-alive: 5\r\n")) as upstream:
        rules = [Rule(under("/files"), (to(service("files")),))]
        async with routed_port(rules, {service("files"): plain(upstream.url)}) as port:
            fields = b"accept-encoding: gzip\r\nte: x\r\nx-gateway-steer: 1\r\n"
            answer = await send(port.port, get("/files/a%20b?x=1", fields, method=b"DELETE"))
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert answer.endswith(b"\r\n\r\nhello")
        assert b"x-own: 1" in answer
        assert b"keep-alive" not in answer
        [seen] = upstream.received
        assert seen.head.startswith(b"DELETE /files/a%20b?x=1 HTTP/1.1\r\n")
        assert seen.fields[b"host"] == b"a.com"
        assert seen.fields[b"accept-encoding"] == b"gzip"
        assert b"te" not in seen.fields
        assert b"x-gateway-steer" not in seen.fields
        [record] = port.records
        assert (record.status, record.api, record.endpoint) == (200, "route", "ns/plain")


async def test_addresses_take_turns_and_a_dead_one_is_passed_over() -> None:
    async with Upstream(unary(b"one")) as one, Upstream(unary(b"two")) as two:
        rules = [Rule(under("/"), (to(service("s")),))]
        backends = plain(one.url, "http://127.0.0.1:9", two.url)
        async with routed_port(rules, {service("s"): backends}) as port:
            answers = [await send(port.port, get("/")) for _ in range(6)]
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
    assert len(one.received) + len(two.received) == 6
    assert one.received
    assert two.received


async def test_a_stream_passes_as_it_comes() -> None:
    async with Upstream(stream(tokens=3, gap=0.01)) as upstream:
        rules = [Rule(under("/"), (to(service("s")),))]
        async with routed_port(rules, {service("s"): plain(upstream.url)}) as port:
            answer = await send(port.port, post("/v1/x", b"{}"))
    assert answer.count(b'"content":"t') == 3
    assert answer.endswith(b"0\r\n\r\n")


async def test_a_pool_is_asked_through_its_brain() -> None:
    async with Upstream(unary()) as upstream:
        destination = brain(upstream.url)
        rules = [
            Rule(
                under("/llm"),
                (to(pool("p")),),
                rewrite=Rewrite("engine.internal", PathRewrite("/", prefix=True)),
                response=HeaderEdit(add=(("x-route", "yes"),)),
            )
        ]
        async with routed_port(rules, {pool("p"): destination}) as port:
            answer = await send(port.port, post("/llm/v1/chat/completions", chat()))
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"x-route: yes\r\n" in answer
            wrong = await send(port.port, post("/llm/v1/chat/completions", b"{"))
            assert wrong.startswith(b"HTTP/1.1 400")
        [seen] = upstream.received
        assert seen.head.startswith(b"POST /v1/chat/completions HTTP/1.1")
        assert seen.fields[b"host"] == b"engine.internal"
        assert port.records[0].model == MODEL
        [(_, router)] = destination.brains
        assert [state.ledger.requests for state in router.fleet] == [0]


async def test_a_rule_for_all_paths_does_not_open_what_engines_serve_for_operators() -> None:
    async with Upstream(unary()) as upstream:
        rules = [
            Rule(under("/"), (to(pool("p")),)),
            Rule(under("/primary"), (to(pool("p")),)),
        ]
        async with routed_port(rules, {pool("p"): brain(upstream.url)}) as port:
            assert (await send(port.port, get("/metrics"))).startswith(b"HTTP/1.1 404")
            assert (await send(port.port, get("/sleep"))).startswith(b"HTTP/1.1 404")
            assert (await send(port.port, get("/primary/x"))).startswith(b"HTTP/1.1 200")
            models = await send(port.port, get("/v1/models"))
    assert MODEL.encode() in models
    assert len(upstream.received) == 1


@pytest.mark.parametrize(
    ("target", "status"),
    [("/nowhere", 404), ("/gone", 500), ("/broken", 500), ("/none", 500), ("/empty", 503)],
)
async def test_what_can_not_be_served(target: str, status: int) -> None:
    broken = Target(TargetKind.BROKEN, "ns", "Service ns/x does not exist")
    rules = [
        Rule(under("/gone"), (to(service("gone")),)),
        Rule(under("/broken"), (to(broken),)),
        Rule(under("/none"), ()),
        Rule(under("/empty"), (to(service("empty")),)),
    ]
    async with routed_port(rules, {service("empty"): plain()}) as port:
        answer = await send(port.port, get(target))
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert port.records[0].status == status


async def test_a_broken_backends_share_gets_500() -> None:
    broken = Target(TargetKind.BROKEN, "ns", "no such Service")
    async with Upstream(unary()) as upstream:
        rules = [Rule(under("/"), (to(service("s"), 3), to(broken, 1)))]
        async with routed_port(rules, {service("s"): plain(upstream.url)}) as port:
            port.context.dice.seed(1)
            statuses = [(await send(port.port, get("/")))[9:12] for _ in range(60)]
    assert set(statuses) == {b"200", b"500"}
    assert 5 <= statuses.count(b"500") <= 30


async def test_redirects_answer_at_once() -> None:
    rules = [
        Rule(
            under("/old"),
            redirect=Redirect("https", "b.com", PathRewrite("/new", prefix=True), status=301),
        )
    ]
    async with routed_port(rules, {}) as port:
        answer = await send(port.port, get("/old/x?q=1"))
    assert answer.startswith(b"HTTP/1.1 301 Moved Permanently\r\n")
    assert b"location: https://b.com/new/x?q=1\r\n" in answer


async def test_request_fields_change_on_the_way() -> None:
    async with Upstream(unary()) as upstream:
        edit = HeaderEdit(set=(("x-a", "new"),), add=(("x-b", "2"),), remove=("x-c",))
        rules = [Rule(under("/"), (to(service("s")),), request=edit)]
        async with routed_port(rules, {service("s"): plain(upstream.url)}) as port:
            await send(port.port, get("/", b"x-a: old\r\nx-b: 1\r\nX-C: 3\r\n"))
        [seen] = upstream.received
        assert seen.fields[b"x-a"] == b"new"
        assert seen.fields[b"x-b"] == b"1,2"
        assert b"x-c" not in seen.fields


async def test_a_rules_timeouts_are_its_own() -> None:
    async def silent(_: Upstream, __: Received, ___: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async with Upstream(silent) as upstream, Upstream(stream(tokens=100, gap=0.05)) as slow:
        rules = [
            Rule(under("/first"), (to(service("s")),), backend_timeout=0.2),
            Rule(under("/pool"), (to(pool("p")),), request_timeout=0.2),
            Rule(under("/whole"), (to(service("slow")),), request_timeout=0.3),
        ]
        where = {
            service("s"): plain(upstream.url),
            pool("p"): brain(upstream.url),
            service("slow"): plain(slow.url),
        }
        async with routed_port(rules, where) as port:
            first, pooled, whole = await asyncio.gather(
                send(port.port, get("/first")),
                send(port.port, get("/pool")),
                send(port.port, get("/whole")),
            )
    assert first.startswith(b"HTTP/1.1 504")
    assert pooled.startswith(b"HTTP/1.1 504")
    assert whole.startswith(b"HTTP/1.1 200")
    assert b"request_timeout" in whole


async def test_a_client_that_leaves_frees_the_backend() -> None:
    async with Upstream(stream(tokens=1000, gap=0.01)) as upstream:
        rules = [Rule(under("/"), (to(service("s")),))]
        async with routed_port(rules, {service("s"): plain(upstream.url)}) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
            writer.write(get("/"))
            await reader.readuntil(b"t0")
            writer.transport.abort()
            await until(lambda: upstream.closed_by_peer == 1 and bool(port.records))
            assert port.records[0].status == 499


async def test_open_connections_follow_a_new_table() -> None:
    async with Upstream(unary(b"one")) as one, Upstream(unary(b"two")) as two:
        rules = [Rule(under("/"), (to(service("s")),))]
        async with routed_port(rules, {service("s"): plain(one.url)}) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
            writer.write(get("/"))
            assert (await reader.readuntil(b"one")).startswith(b"HTTP/1.1 200")
            port.become(rules, {service("s"): plain(two.url)})
            writer.write(get("/"))
            assert (await reader.readuntil(b"two")).startswith(b"HTTP/1.1 200")
            writer.close()
