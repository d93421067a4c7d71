"""The judges of the chaos table, judged: each kind of answer gets the verdict it deserves."""

import asyncio
import json
from collections.abc import Callable

import pytest

from bench.chaos.clients import Clients, Verdict
from tests.support.gateways import until
from tests.support.upstreams import Received, Script, Upstream, chunk, event, unary

Judged = tuple[Verdict, str]


def said_in(request: Received) -> str:
    return str(json.loads(request.body)["messages"][-1]["content"])


def whole(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


def answering(whole_answer: Callable[[str], bytes], streamed: Callable[[str], bytes]) -> Script:
    """Say these bytes, made from what was said, and close."""

    async def script(_: Upstream, request: Received, writer: asyncio.StreamWriter) -> None:
        said = said_in(request)
        if json.loads(request.body)["stream"]:
            writer.write(HEAD + SSE_FIELDS + streamed(said))
        else:
            body = whole_answer(said)
            writer.write(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    return script


HEAD = b"HTTP/1.1 200 OK\r\nconnection: close\r\n"
SSE_FIELDS = b"transfer-encoding: chunked\r\n\r\n"
DONE = chunk(b"data: [DONE]\n\n")
END = b"0\r\n\r\n"


async def verdicts(script: Script) -> list[Judged]:
    """What is said of two streams and two whole answers, in pairs."""
    async with Upstream(script) as upstream:
        clients = Clients(upstream.url, 1, "test")
        await clients.start()
        await until(lambda: len(clients.fates) >= 2)
        await clients.stop()
        assert clients.offered == len(clients.fates)
        return [(fate.verdict, fate.kind) for fate in clients.fates[:2]]


@pytest.mark.parametrize(
    ("script", "of_stream", "of_whole"),
    [
        pytest.param(
            answering(whole, lambda said: chunk(event(said)) + DONE + END),
            (Verdict.ANSWERED, "stream"),
            (Verdict.ANSWERED, "whole"),
            id="right",
        ),
        pytest.param(
            answering(
                lambda said: whole(said + "!"), lambda said: chunk(event(said[:-1])) + DONE + END
            ),
            (Verdict.WRONG, "another text in a stream"),
            (Verdict.WRONG, "another text"),
            id="another text",
        ),
        pytest.param(
            answering(lambda said: whole(said)[:-1], lambda said: chunk(event(said)) + END),
            (Verdict.WRONG, "a stream without its end"),
            (Verdict.WRONG, "a body that is no JSON"),
            id="whole by its framing only",
        ),
        pytest.param(
            answering(
                whole,
                lambda said: (
                    chunk(event(said[:9])) + chunk(b'data: {"error":{"message":"gone"}}\n\n') + END
                ),
            ),
            (Verdict.ERROR, "error event"),
            (Verdict.ANSWERED, "whole"),
            id="error event",
        ),
        pytest.param(
            answering(whole, lambda said: chunk(event(said[:9]))),
            (Verdict.ERROR, "cut short"),
            (Verdict.ANSWERED, "whole"),
            id="cut short",
        ),
        pytest.param(
            answering(whole, lambda said: chunk(event("other" + said[:9]))),
            (Verdict.WRONG, "another text, then cut short"),
            (Verdict.ANSWERED, "whole"),
            id="another text, then cut short",
        ),
        pytest.param(
            answering(whole, lambda said: chunk(event(said)) + DONE + chunk(event("x")) + END),
            (Verdict.WRONG, "after the end: "),
            (Verdict.ANSWERED, "whole"),
            id="more after the end",
        ),
        pytest.param(
            unary(b'{"error":{"message":"no"}}', b"503 Service Unavailable"),
            (Verdict.ERROR, "status 503"),
            (Verdict.ERROR, "status 503"),
            id="refused",
        ),
        pytest.param(
            unary(b"<html>", b"502 Bad Gateway"),
            (Verdict.WRONG, "status 502 that says nothing"),
            (Verdict.WRONG, "status 502 that says nothing"),
            id="an error that says nothing",
        ),
    ],
)
async def test_verdicts(script: Script, of_stream: Judged, of_whole: Judged) -> None:
    streamed, not_streamed = await verdicts(script)
    assert streamed[0] is of_stream[0] and streamed[1].startswith(of_stream[1])
    assert not_streamed == of_whole


async def test_a_connection_that_closes_without_an_answer_lost_the_request() -> None:
    async def script(_: Upstream, __: Received, writer: asyncio.StreamWriter) -> None:
        writer.close()

    assert [verdict for verdict, _ in await verdicts(script)] == [Verdict.LOST] * 2
