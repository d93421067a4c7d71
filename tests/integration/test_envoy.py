"""The real Envoy, from deploy/'s own files, before our picker: what passes, what is decided."""

import asyncio
import inspect
import os
from pathlib import Path

import pytest

from gateway.extproc.session import Session
from routing.router import RouterSettings
from tests.support.envoy import (
    ORIGINAL_DST,
    OVERRIDE_HOST,
    Config,
    filter_of,
    manager_of,
)
from tests.support.envoy_stage import MODES, PATH, in_mode, staged
from tests.support.gateways import MODEL, chat, post, send
from tests.support.upstreams import Received, Upstream, chunk, stream, unary


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
    if not inspect.isfunction(Session.receive):
        pytest.skip("compiled methods can't be replaced by counting ones")
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
