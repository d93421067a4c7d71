"""`inferway sidecar` beside a decode engine, asked as llm-d's endpoint picker has it asked."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.record import RequestRecord
from gateway.sidecar.options import OptionError, parse
from gateway.sidecar.server import Sidecar
from tests.support.clients import Answer
from tests.support.faults import closed_port
from tests.support.gateways import post, send
from tests.support.legs import PARAMS, body_of, hang_up, primed
from tests.support.upstreams import Script, Upstream, stream, unary

PATH = "/v1/chat/completions"
BODY = b'{"model":"m","messages":[{"role":"user","content":"hello"}],"max_tokens":9,"stream":true}'


@asynccontextmanager
async def beside(
    decode: Script, *flags: str, environment: dict[str, str] | None = None
) -> AsyncIterator[tuple[int, Upstream, list[RequestRecord]]]:
    """A sidecar's port, the engine beside it, and its records."""
    records: list[RequestRecord] = []
    async with Upstream(decode) as engine:
        arguments = ["--host", "127.0.0.1", "--port=0", f"--vllm-port={engine.port}"]
        options = parse([*arguments, "--secure-proxy=false", *flags], environment or {})
        sidecar = Sidecar(options, log_request=records.append)
        await sidecar.start()
        try:
            yield sidecar.proxies[0].port, engine, records
        finally:
            await sidecar.stop()


def naming(*prefills: Upstream | str) -> bytes:
    names = [one if isinstance(one, str) else f"127.0.0.1:{one.port}" for one in prefills]
    return post(PATH, BODY, b"x-prefiller-host-port: %b\r\n" % ",".join(names).encode())


async def test_a_named_prefill_server_computes_the_prompt() -> None:
    async with Upstream(primed()) as prefill, beside(stream(3)) as (port, engine, records):
        answer = Answer(await send(port, naming(prefill)))
        assert answer.status == 200
        assert body_of(prefill.received[0])["max_tokens"] == 1
        assert body_of(engine.received[0])["kv_transfer_params"] == PARAMS
        assert b"x-prefiller-host-port" not in engine.received[0].head
        assert b"x-prefiller-host-port" not in prefill.received[0].head
        assert records[0].split is not None
        assert records[0].split.fallback == ""
        assert records[0].split.transfer_bytes is None


async def test_without_the_header_the_engine_does_it_all() -> None:
    async with beside(stream(3)) as (port, engine, _):
        assert Answer(await send(port, post(PATH, BODY))).status == 200
        assert engine.received[0].body == BODY


async def test_a_failed_prefill_is_computed_by_the_engine() -> None:
    async with Upstream(hang_up) as prefill, beside(stream(3)) as (port, engine, _):
        for _ in range(3):  # nobody is left alone for failing: there is nobody else
            assert Answer(await send(port, naming(prefill))).status == 200
        assert [one.body for one in engine.received] == [BODY] * 3
        assert len(prefill.received) == 3


async def test_a_second_named_server_is_tried_when_retries_are_allowed() -> None:
    async with (
        Upstream(primed()) as prefill,
        beside(stream(3), "--prefill-max-retries", "1") as (port, engine, _),
    ):
        wire = naming(f"127.0.0.1:{closed_port()}", prefill)
        assert Answer(await send(port, wire)).status == 200
        assert b"remote_block_ids" in engine.received[0].body


async def test_a_4xx_of_the_prefill_server_is_passed_on() -> None:
    script = unary(b'{"error":"no"}', b"422 Unprocessable Entity")
    async with Upstream(script) as prefill, beside(stream(3)) as (port, engine, _):
        answer = Answer(await send(port, naming(prefill)))
        assert (answer.status, answer.body) == (422, b'{"error":"no"}')
        assert not engine.received


async def test_anything_else_reaches_the_engine_as_it_is() -> None:
    async with beside(unary(b"metrics")) as (port, engine, _):
        answer = Answer(await send(port, b"GET /metrics?x=%2F HTTP/1.1\r\nhost: a\r\n\r\n"))
        assert answer.body == b"metrics"
        assert engine.received[0].head.startswith(b"GET /metrics?x=%2F HTTP/1.1\r\n")
        assert Answer(await send(port, post("/collective_rpc", b"\xffraw"))).status == 200
        assert engine.received[1].body == b"\xffraw"


async def test_health_is_answered_by_the_sidecar() -> None:
    async with beside(hang_up) as (port, engine, _):
        assert Answer(await send(port, b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n")).status == 200
        assert not engine.received


async def test_errors_have_the_shape_of_llm_ds() -> None:
    async with beside(stream(1)) as (port, engine, _):
        bad = Answer(await send(port, post(PATH, b"{")))
        assert bad.status == 400
        said = json.loads(bad.body)
        assert (said["object"], said["type"], said["code"]) == ("error", "BadRequestError", 400)
        await engine.__aexit__(None, None, None)
        gone = Answer(await send(port, post(PATH, BODY)))
        said = json.loads(gone.body)
        assert (gone.status, said["type"], said["code"]) == (503, "ServiceUnavailable", 503)


@pytest.mark.parametrize("name", ["x", "host:", "host:0", "a b:80", "http://a:80", "h:99999"])
async def test_what_is_no_address_is_refused(name: str) -> None:
    async with beside(stream(1)) as (port, engine, _):
        assert Answer(await send(port, naming(name))).status == 400
        assert not engine.received


async def test_prefill_servers_can_be_limited() -> None:
    flags = ("--enable-ssrf-protection=true", "--allow-prefiller=10.0.0.0/8")
    async with Upstream(primed()) as prefill, beside(stream(1), *flags) as (port, engine, _):
        assert Answer(await send(port, naming(prefill))).status == 403
        assert Answer(await send(port, naming("localhost:80"))).status == 403
        assert not prefill.received
        assert not engine.received


async def test_sglang_meets_at_the_port_of_the_environment() -> None:
    environment = {"SGLANG_BOOTSTRAP_PORT": "9123"}
    async with (
        Upstream(unary()) as prefill,
        beside(stream(1), "--kv-connector=sglang", environment=environment) as (port, engine, _),
    ):
        assert Answer(await send(port, naming(prefill))).status == 200
        said = body_of(engine.received[0])
        assert (said["bootstrap_host"], said["bootstrap_port"]) == ("127.0.0.1", 9123)


def test_options_are_llm_ds() -> None:
    options = parse([], {})
    assert (options.port, options.engine_port, options.secure) == (8000, 8001, True)
    assert options.dialect.name == "nixl"
    assert parse(["--connector", "lmcache"], {}).dialect.name == "lmcache"
    assert parse(["--secure-proxy"], {}).secure
    assert parse([], {"ENABLE_PREFILLER_SAMPLING": "true"}).sampling
    assert parse(["--enable-tls=prefiller,decoder"], {}).tls_stages == {"prefiller", "decoder"}
    for wrong in (
        ["--kv-connector=x"],
        ["--ec-connector=ec-example"],
        ["--decode-chunk-size=5"],
        ["--enable-ssrf-protection"],
        ["--enable-tls=x"],
        ["--allow-prefiller=x"],
    ):
        with pytest.raises(OptionError, match=wrong[0].split("=")[0]):
            parse(wrong, {})
