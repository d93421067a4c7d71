"""The real Envoy, from deploy/'s own files, before our picker: what clients and endpoints see."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.extproc.session import Session
from routing.router import RouterSettings
from tests.support.envoy import (
    ORIGINAL_DST,
    OVERRIDE_HOST,
    Config,
    Envoy,
    filter_of,
    free_port,
    manager_of,
    running_envoy,
)
from tests.support.gateways import MODEL, chat, post, send, until
from tests.support.processors import ProcessorUnderTest, running_processor
from tests.support.upstreams import Received, Upstream, chunk, stream, unary

PATH = "/v1/chat/completions"
MODES: dict[str, dict[str, Any]] = {
    "recommended": {},
    "full duplex": {
        "request_body_mode": "FULL_DUPLEX_STREAMED",
        "request_trailer_mode": "SEND",
    },
    "protocol": {
        "request_body_mode": "FULL_DUPLEX_STREAMED",
        "request_trailer_mode": "SEND",
        "response_body_mode": "FULL_DUPLEX_STREAMED",
    },
    "streamed ahead": {"request_body_mode": "STREAMED", "response_body_mode": "STREAMED"},
    "streamed": {"response_body_mode": "STREAMED"},
    "buffered": {"response_body_mode": "BUFFERED"},
    "partial": {"request_body_mode": "BUFFERED_PARTIAL"},
    "heads only": {"request_body_mode": "NONE"},
}


def in_mode(name: str, *, override: bool = False) -> Callable[[Config], object]:
    """What makes a configuration of deploy/ one of another body mode."""

    def change(config: Config) -> None:
        found = filter_of(config)
        found["processing_mode"].update(MODES[name])
        found["allow_mode_override"] = override
        if name == "streamed ahead":
            found["send_body_without_waiting_for_header_response"] = True

    return change


class Stage:
    """Envoy, picker and endpoints of one test, and a client."""

    def __init__(
        self, envoy: Envoy, picker: ProcessorUnderTest, client: aiohttp.ClientSession
    ) -> None:
        self.envoy = envoy
        self.picker = picker
        self.client = client

    def url(self, path: str = PATH) -> str:
        """Where clients ask."""
        return f"http://127.0.0.1:{self.envoy.port}{path}"

    async def ask(self, body: bytes | None = None, **fields: str) -> tuple[int, bytes]:
        """One request; its status and body."""
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        headers["content-type"] = "application/json"
        data = chat() if body is None else body
        async with self.client.post(self.url(), data=data, headers=headers) as response:
            return response.status, await response.read()


@asynccontextmanager
async def staged(
    directory: Path,
    upstreams: list[Upstream],
    *,
    file: Path = OVERRIDE_HOST,
    change: Callable[[Config], object] | None = None,
    **options: Any,
) -> AsyncIterator[Stage]:
    """Everything running, and Envoy knowing that the picker is well."""
    urls = [upstream.url for upstream in upstreams]
    async with running_processor(urls, **options) as picker:
        async with running_envoy(
            file,
            directory,
            picker=picker.port,
            pool=[upstream.port for upstream in upstreams],
            change=change,
        ) as envoy:
            async with aiohttp.ClientSession() as client:
                yield Stage(envoy, picker, client)
            await until(lambda: picker.in_flight == 0)
            await until(lambda: picker.context.telemetry.in_flight == 0)


# --- what passes, in every mode -----------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
async def test_bodies_arrive_byte_for_byte(tmp_path: Path, mode: str) -> None:
    answer = os.urandom(3_000_000)
    prompts = [chat("x" * size) for size in (0, 1, 61_900, 62_100, 1_000_000)]
    async with Upstream(unary(answer)) as upstream:
        async with staged(tmp_path, [upstream], change=in_mode(mode)) as stage:
            for prompt in prompts:
                assert await stage.ask(prompt, x_gateway_model_name=MODEL) == (200, answer)
        assert [received.body for received in upstream.received] == prompts
        if mode in {"recommended", "buffered"}:
            lengths = [received.fields[b"content-length"] for received in upstream.received]
            assert lengths == [b"%d" % len(prompt) for prompt in prompts]


@pytest.mark.parametrize("file", [ORIGINAL_DST, OVERRIDE_HOST], ids=["original", "override"])
@pytest.mark.parametrize("mode", ["recommended", "full duplex", "protocol"])
async def test_a_stream_comes_as_it_is_made(tmp_path: Path, file: Path, mode: str) -> None:
    async with Upstream(stream(50, 0.005)) as upstream:
        async with staged(
            tmp_path, [upstream], file=file, change=in_mode(mode), fallbacks=0
        ) as stage:
            status, events = await stage.ask(chat(streamed=True))
        assert status == 200
        assert events.count(b"data:") == 52
        [record] = stage.picker.records
        assert (record.status, record.reason, record.streamed) == (200, "", True)
        if mode == "protocol":
            assert (record.prompt_tokens, record.cached_tokens) == (40, 16)
            assert record.output_events == 52
            assert record.ttft is not None


async def test_a_streamed_answer_sends_us_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    messages: list[bytes] = []
    receive = Session.receive

    def counted(session: Session, message: bytes) -> None:
        messages.append(message)
        receive(session, message)

    monkeypatch.setattr(Session, "receive", counted)
    for tokens in (1, 200):
        place = tmp_path / str(tokens)
        place.mkdir()
        async with Upstream(stream(tokens)) as upstream:
            async with staged(place, [upstream]) as stage:
                messages.clear()
                await stage.ask(chat(streamed=True))
                counts.append(len(messages))
    assert counts[0] == counts[1] == 3  # the request's head, its body, the response's head


async def test_usage_is_learned_where_bodies_are_asked_for(tmp_path: Path) -> None:
    change = in_mode("streamed", override=True)
    for learn, expected in ((1.0, 40), (0.0, None)):
        place = tmp_path / str(learn)
        place.mkdir()
        async with Upstream(stream(5)) as upstream:
            async with staged(place, [upstream], change=change, learn=learn) as stage:
                assert (await stage.ask(chat(streamed=True)))[0] == 200
        assert stage.picker.records[0].prompt_tokens == expected


@pytest.mark.parametrize("mode", ["recommended", "full duplex", "protocol"])
async def test_requests_without_a_body(tmp_path: Path, mode: str) -> None:
    async with Upstream(unary(b"{}")) as upstream:
        async with staged(tmp_path, [upstream], change=in_mode(mode)) as stage:
            async with stage.client.get(stage.url("/v1/batches")) as response:
                assert (response.status, await response.read()) == (200, b"{}")


def with_trailers(config: Config) -> None:
    """Trailers both ways, and the picker asked about them."""
    # With retries, Envoy 1.40 sends a body with trailers twice in this mode: docs/extproc.md.
    manager_of(config)["route_config"]["virtual_hosts"][0]["routes"][0]["route"].pop("retry_policy")
    in_mode("protocol")(config)
    filter_of(config)["processing_mode"]["response_trailer_mode"] = "SEND"
    manager_of(config)["http_protocol_options"] = {"enable_trailers": True}
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    for cluster in config["static_resources"]["clusters"]:
        if cluster["name"] == "pool":
            cluster["typed_extension_protocol_options"] = {
                name: {
                    "@type": f"type.googleapis.com/{name}",
                    "explicit_http_config": {"http_protocol_options": {"enable_trailers": True}},
                }
            }


async def test_trailers_in_both_directions(tmp_path: Path) -> None:
    async def script(_: Upstream, __: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
            b"transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n"
        )
        writer.write(chunk(b"{}") + b"0\r\nx-sum: 2\r\n\r\n")
        await writer.drain()

    request = (
        f"POST {PATH} HTTP/1.1\r\nhost: x\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n"
    ).encode()
    request += chunk(chat()[:20]) + chunk(chat()[20:]) + b"0\r\nx-check: 1\r\n\r\n"
    async with Upstream(script) as upstream:
        async with staged(tmp_path, [upstream], change=with_trailers) as stage:
            reader, writer = await asyncio.open_connection("127.0.0.1", stage.envoy.port)
            writer.write(request)
            answer = await asyncio.wait_for(reader.readuntil(b"x-sum: 2\r\n\r\n"), 10)
            writer.close()
        assert answer.startswith(b"HTTP/1.1 200")
        assert upstream.received[0].body == chat()
        assert upstream.received[0].trailers == b"x-check: 1\r\n"


# --- what is decided ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["recommended", "full duplex"])
async def test_a_model_is_rewritten(tmp_path: Path, mode: str) -> None:
    body = b'{ "model":"alias","messages":[{"role":"user","content":"x"}],"n":1.0 }'
    async with Upstream(unary()) as upstream:
        async with staged(
            tmp_path, [upstream], change=in_mode(mode), rewrites={"alias": {MODEL: 1}}
        ) as stage:
            assert (await stage.ask(body))[0] == 200
        assert upstream.received[0].body == body.replace(b"alias", MODEL.encode())


@pytest.mark.parametrize("mode", ["recommended", "full duplex", "protocol"])
async def test_answers_of_our_own(tmp_path: Path, mode: str) -> None:
    async with Upstream(unary()) as upstream:
        async with staged(tmp_path, [upstream], change=in_mode(mode)) as stage:
            for body, status in ((b"{", 400), (chat().replace(MODEL.encode(), b"other"), 404)):
                answered, text = await stage.ask(body)
                assert answered == status
                assert b'"error"' in text
            stage.picker.router.fleet.observe_health(
                upstream.url.removeprefix("http://"), False, 1.0, "test"
            )
            raw = await send(stage.envoy.port, post(PATH, chat("x" * 100_000)))
            assert raw.startswith(b"HTTP/1.1 503")
            assert b"\r\nretry-after: 1\r\n" in raw
        assert upstream.received == []


async def test_requests_beyond_the_endpoints_room_are_shed(tmp_path: Path) -> None:
    async with Upstream(stream(20, 0.02)) as upstream:
        async with staged(
            tmp_path, [upstream], brain=RouterSettings(max_requests_per_endpoint=2)
        ) as stage:
            statuses = await asyncio.gather(*(stage.ask(chat(streamed=True)) for _ in range(6)))
    assert sorted(status for status, _ in statuses) == [200, 200, 429, 429, 429, 429]


def with_subset(config: Config) -> None:
    """The hint is taken from a header that the test sets."""
    manager_of(config)["http_filters"].insert(
        0,
        {
            "name": "envoy.filters.http.header_to_metadata",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http."
                "header_to_metadata.v3.Config",
                "request_rules": [
                    {
                        "header": "x-subset",
                        "on_header_present": {
                            "metadata_namespace": "envoy.lb.subset_hint",
                            "key": "x-gateway-destination-endpoint-subset",
                        },
                    }
                ],
            },
        },
    )


async def test_subset_hints_limit_the_choice(tmp_path: Path) -> None:
    async with Upstream(unary()) as one, Upstream(unary()) as two:
        async with staged(tmp_path, [one, two], change=with_subset) as stage:
            for _ in range(6):
                assert (await stage.ask(x_subset=f"127.0.0.1:{two.port}"))[0] == 200
            assert (await stage.ask(x_subset="10.9.9.9:1"))[0] == 503
        assert (len(one.received), len(two.received)) == (0, 6)


async def test_clients_can_not_say_where_a_request_goes(tmp_path: Path) -> None:
    async with Upstream(unary()) as one, Upstream(unary()) as two:
        async with staged(tmp_path, [one], file=ORIGINAL_DST, fallbacks=0) as stage:
            evil = f"127.0.0.1:{two.port}"
            assert (await stage.ask(x_gateway_destination_endpoint=evil))[0] == 200
        assert (len(one.received), two.received) == (1, [])


# --- what goes wrong ----------------------------------------------------------------------------


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
                if (await stage.ask())[0] == 200 and len(stage.picker.records) < len(
                    upstream.received
                ):
                    break
                await asyncio.sleep(0.05)
            else:
                raise AssertionError("Envoy goes on asking")


async def test_many_requests_at_a_time(tmp_path: Path) -> None:
    async with Upstream(unary()) as one, Upstream(unary()) as two:
        async with staged(tmp_path, [one, two]) as stage:
            bodies = [chat(f"{number} " * (number * 50)) for number in range(200)]
            answers = await asyncio.gather(*map(stage.ask, bodies))
        assert {status for status, _ in answers} == {200}
        arrived = sorted(received.body for received in one.received + two.received)
        assert arrived == sorted(bodies)
