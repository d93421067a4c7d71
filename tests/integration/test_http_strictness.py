"""The framing rules as tables of raw bytes: see tests/support/rawcases."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import pytest

from bench.fuzz.server import OK, Answer, RecordingServer
from bench.fuzz.strict import Fields, MalformedError, ReadRequest, ReadResponse, read_responses
from tests.support.gateways import ProxyUnderTest, running_proxy, until
from tests.support.rawcases import REQUEST_CASES, RESPONSE_CASES, RawCase, ResponseCase
from tests.support.rawcases.case import (
    BODY,
    LARGEST_BODY,
    LARGEST_HEAD,
    MOST_HEADERS,
    SMUGGLED,
    chunked,
    post,
    sized,
)

BOUND = 5.0  # seconds for what takes milliseconds: beyond it, it hangs
GATEWAY_WRITES = {
    *(b"host", b"content-length", b"x-request-id", b"via"),
    *(b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"),
}
PROBE = b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\n\r\n"


class Client:
    """A client's connection and all it got."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.got = b""
        self.closed = False

    @classmethod
    @asynccontextmanager
    async def connected(cls, port: int) -> AsyncIterator["Client"]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    def send(self, data: bytes) -> None:
        if not self._writer.is_closing():  # a refused client may go on sending into nothing
            self._writer.write(data)

    async def more(self) -> None:
        try:
            data = await self._reader.read(65_536)
        except ConnectionError:
            data = b""
        self.got += data
        self.closed = not data

    async def responses(self, count: int, methods: list[bytes]) -> list[ReadResponse]:
        """At least this many whole responses, or all there are before the close."""
        async with asyncio.timeout(BOUND):
            while True:
                read = read_responses(self.got, methods, closed=self.closed)
                if self.closed or sum(response.whole for response in read) >= count:
                    return read
                await self.more()

    async def end(self) -> None:
        """Wait until the gateway closes."""
        async with asyncio.timeout(BOUND):
            while not self.closed:
                await self.more()


def written_by_gateway(request: ReadRequest, server: RecordingServer) -> Fields:
    """Check what the gateway must have written itself; the fields that are the client's."""
    assert request.values(b"host") == [f"127.0.0.1:{server.port}".encode()]
    assert not request.values(b"transfer-encoding")
    expected = [b"%d" % len(request.body)] if request.body or request.method == b"POST" else []
    assert request.values(b"content-length") == expected
    assert len(request.values(b"x-request-id")) == 1
    return [(name, value) for name, value in request.fields if name not in GATEWAY_WRITES]


def check_seen(case: RawCase, server: RecordingServer) -> None:
    assert server.violations == []
    assert len(server.requests) == len(case.seen)
    for request, seen in zip(server.requests, case.seen, strict=True):
        assert (request.method, request.target, request.body) == (
            seen.method,
            seen.target,
            seen.body,
        )
        assert tuple(written_by_gateway(request, server)) == seen.fields


def limited_proxy(server: RecordingServer) -> AbstractAsyncContextManager[ProxyUnderTest]:
    return running_proxy(
        [server.url],
        max_header_bytes=LARGEST_HEAD,
        max_body_bytes=LARGEST_BODY,
        max_headers=MOST_HEADERS,
    )


async def all_given_back(proxy: ProxyUnderTest) -> None:
    await until(lambda: proxy.server.connections == 0)
    await until(lambda: proxy.in_flight == 0)


def names(case: RawCase | ResponseCase) -> str:
    return case.name


@pytest.mark.parametrize("case", REQUEST_CASES, ids=names)
async def test_a_request_is_served_or_refused_as_the_table_says(case: RawCase) -> None:
    await hold(case, [case.wire])


@pytest.mark.parametrize(
    "case", [case for case in REQUEST_CASES if len(case.wire) < 1000], ids=names
)
async def test_a_request_that_comes_byte_by_byte_is_treated_alike(case: RawCase) -> None:
    await hold(case, [bytes([byte]) for byte in case.wire])


async def hold(case: RawCase, pieces: list[bytes]) -> None:
    """Send the pieces and hold what comes of it against the case."""
    async with RecordingServer(lambda _: OK) as server:
        async with limited_proxy(server) as proxy:
            async with Client.connected(proxy.port) as client:
                for piece in pieces:
                    client.send(piece)
                    await asyncio.sleep(0)
                await check_answers(case, client)
                check_seen(case, server)
            await all_given_back(proxy)


async def check_answers(case: RawCase, client: Client) -> None:
    methods = list(case.methods) or [b"POST"] * len(case.answers)
    if case.keeps is False:
        await client.end()
    responses = await client.responses(len(case.answers), methods)
    statuses = [response.status for response in responses]
    assert len(statuses) == len(case.answers), statuses
    for status, allowed in zip(statuses, case.answers, strict=True):
        assert status in allowed, statuses
    assert all(response.whole for response in responses)
    if case.keeps is False:
        assert responses[-1].values(b"connection") == [b"close"]
    if case.keeps:
        client.send(PROBE)
        answered = await client.responses(len(case.answers) + 1, [*methods, b"GET"])
        assert [answer.status for answer in answered[len(statuses) :]] == [200]


@pytest.mark.parametrize("case", RESPONSE_CASES, ids=names)
async def test_a_response_is_relayed_or_kept_out_as_the_table_says(case: ResponseCase) -> None:
    def answering(request: ReadRequest) -> Answer:
        return case.answer if request.values(b"x-case") else OK

    async with RecordingServer(answering) as server:
        async with running_proxy([server.url]) as proxy:
            async with Client.connected(proxy.port) as client:
                client.send(asking(case.method))
                [response] = await client.responses(1, [case.method])
            check_response(case, response)
            if case.reused is False:
                await until(lambda: not server.open)
            before = server.connections
            async with Client.connected(proxy.port) as client:
                client.send(sized())
                [following] = await client.responses(1, [b"POST"])
            assert (following.status, following.body) == (200, b'{"ok":true}')
            assert not following.values(b"x-evil")
            if case.reused is not None:
                assert (server.connections == before) is case.reused
            assert server.violations == []
            await all_given_back(proxy)


def check_response(case: ResponseCase, response: ReadResponse) -> None:
    assert response.status == case.status
    assert response.whole
    if case.body is not None:
        assert response.body == case.body
    for field in case.passed:
        assert field in response.fields
    assert not {name for name, _ in response.fields} & set(case.kept_out)


def asking(method: bytes) -> bytes:
    if method == b"HEAD":
        return b"HEAD /v1/files HTTP/1.1\r\nHost: gateway\r\nx-case: 1\r\n\r\n"
    return sized(b"x-case: 1\r\n")


@pytest.mark.parametrize("breaks", [b"zz\r\n", b"2\r\nabc", b"2\nab\r\n", b"0\r\nnonsense\r\n\r\n"])
async def test_what_breaks_after_its_beginning_was_relayed_is_visibly_cut_off(
    breaks: bytes,
) -> None:
    relayed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(BODY)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await relayed.wait()
        writer.write(breaks)
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, running_proxy([f"http://127.0.0.1:{port}"]) as proxy:
        async with Client.connected(proxy.port) as client:
            client.send(sized())
            async with asyncio.timeout(BOUND):
                while b"first" not in client.got:
                    await client.more()
            relayed.set()
            await client.end()
        [response] = read_responses(client.got, [b"POST"], closed=True)
        assert (response.status, response.body, response.whole) == (200, b"first", False)
        await all_given_back(proxy)


@pytest.mark.parametrize(
    "wire",
    [
        b"P",
        b"POST /v1/comp",
        sized().partition(b"\r\n\r\n")[0],
        post(b"Content-Length: 99\r\n", SMUGGLED[:50]),
        chunked(b"ff\r\n" + SMUGGLED[:50]),
        chunked(b"2\r\nab\r\n0\r\nHost: evil\r\n"),
    ],
)
async def test_of_a_request_that_never_becomes_whole_the_server_sees_nothing(wire: bytes) -> None:
    async with RecordingServer(lambda _: OK) as server:
        async with running_proxy([server.url]) as proxy:
            async with Client.connected(proxy.port) as client:
                client.send(wire)
                await until(lambda: proxy.server.connections == 1)
            await all_given_back(proxy)
            assert (server.connections, server.violations) == (0, [])


def test_the_reader_that_judges_the_gateway_is_strict() -> None:
    for malformed in (
        b"HTTP/1.1 200 OK\r\na: b\nc: d\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na : b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\x01\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    ):
        with pytest.raises(MalformedError):
            read_responses(malformed, [b"GET"], closed=False)
