"""CORS on real connections: what a page in a browser is told by whichever side answers."""

import asyncio

import pytest

from gateway.proxy.cors import Cors
from gateway.settings import CorsSettings
from tests.support.gateways import ProxyUnderTest, chat, post, running_proxy, send
from tests.support.upstreams import Received, Script, Upstream, stream, unary

PAGE = b"https://chat.example.com"
ORIGIN = b"Origin: %b\r\nConnection: close\r\n" % PAGE
ALLOWED = b"access-control-allow-origin: " + PAGE


def let_in(proxy: ProxyUnderTest, *origins: str) -> None:
    proxy.context.cors = Cors(CorsSettings(origins=origins))


async def ask(proxy: ProxyUnderTest, request: bytes) -> tuple[bytes, list[bytes]]:
    """The status line and the header lines of the answer."""
    answer = await send(proxy.port, request, close=True)
    status, *lines = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return status, [line for line in lines if line.startswith((b"access-control-", b"vary"))]


async def with_own_cors(_: Upstream, __: Received, writer: asyncio.StreamWriter) -> None:
    """An endpoint that answers CORS itself, as vLLM does by default."""
    writer.write(
        b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\n"
        b"Access-Control-Allow-Credentials: true\r\ncontent-length: 2\r\n\r\n{}"
    )


async def test_a_preflight_is_answered_without_any_endpoint() -> None:
    async with running_proxy([]) as proxy:
        let_in(proxy, PAGE.decode())
        status, lines = await ask(
            proxy,
            b"OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: g\r\n"
            b"Access-Control-Request-Method: POST\r\n"
            b"Access-Control-Request-Headers: content-type,x-stainless-os\r\n" + ORIGIN + b"\r\n",
        )
    assert status == b"HTTP/1.1 204 No Content"
    assert lines == [
        ALLOWED,
        b"access-control-allow-methods: GET, POST, OPTIONS",
        b"access-control-max-age: 600",
        b"access-control-allow-headers: content-type, x-stainless-os",
        b"vary: origin, access-control-request-method, access-control-request-headers",
    ]


@pytest.mark.parametrize("script", [unary(), stream(2), with_own_cors])
async def test_an_answer_of_an_endpoint_may_be_read(script: Script) -> None:
    async with Upstream(script) as upstream, running_proxy([upstream.url]) as proxy:
        let_in(proxy, PAGE.decode())
        status, lines = await ask(proxy, post("/v1/chat/completions", chat(), ORIGIN))
    assert status == b"HTTP/1.1 200 OK"
    assert lines == [
        b"vary: origin",
        ALLOWED,
        b"access-control-expose-headers: x-request-id, x-inferway-endpoint",
    ]


async def test_errors_may_be_read_too() -> None:
    async with running_proxy([]) as proxy:
        let_in(proxy, PAGE.decode())
        for request in (
            post("/v1/chat/completions", chat(), ORIGIN),
            post("/nothing", b"", ORIGIN),
        ):
            status, lines = await ask(proxy, request)
            assert status.split()[1] in {b"404", b"503"}
            assert ALLOWED in lines


async def test_another_page_is_told_nothing() -> None:
    async with Upstream(with_own_cors) as upstream, running_proxy([upstream.url]) as proxy:
        let_in(proxy, "https://another.example.com")
        _, lines = await ask(proxy, post("/v1/chat/completions", chat(), ORIGIN))
    assert lines == [b"vary: origin"]


async def test_off_leaves_the_word_to_the_endpoint() -> None:
    async with Upstream(with_own_cors) as upstream, running_proxy([upstream.url]) as proxy:
        _, lines = await ask(proxy, post("/v1/chat/completions", chat(), ORIGIN))
    assert lines == [b"access-control-allow-origin: *", b"access-control-allow-credentials: true"]
