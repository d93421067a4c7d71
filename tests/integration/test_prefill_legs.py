"""Requests in two legs: what each server is sent, and what a client gets whatever fails."""

import asyncio
import json
from typing import Any

import pytest

from tests.support.clients import Answer, connected
from tests.support.faults import closed_port
from tests.support.gateways import chat, post, send, until
from tests.support.legs import (
    PARAMS,
    Stage,
    after,
    body_of,
    hang_up,
    in_order,
    never,
    primed,
    staged,
    when,
)
from tests.support.upstreams import SSE_HEAD, Received, Upstream, chunk, event, stream, unary

PATH = "/v1/chat/completions"
BODY = (
    b'{"model":"sim-8b","messages":[{"role":"user","content":"hello"}], "temperature" : 0.50,'
    b'"max_tokens":64,"stream":true,"stream_options":{"include_usage":true}}'
)
UNARY = post(PATH, chat())
STREAMED = post(PATH, BODY)


async def ask(stage: Stage, wire: bytes = STREAMED) -> Answer:
    return Answer(await send(stage.port, wire))


def check_clean(stage: Stage) -> None:
    """Nothing is in flight any more."""
    assert stage.proxy.in_flight == 0
    assert stage.proxy.context.telemetry.in_flight == 0


# --- all goes well ---------------------------------------------------------------------------


async def test_prefill_asks_one_token_and_decode_gets_the_body_with_the_params_verbatim() -> None:
    async with staged([primed()], [stream(3)]) as stage:
        answer = await ask(stage)
        assert answer.status == 200
        assert answer.body.endswith(b"0\r\n\r\n")
        (first,), (second,) = stage.prefills[0].received, stage.decodes[0].received
        asked = body_of(first)
        assert asked["max_tokens"] == 1
        assert asked["stream"] is False
        assert "stream_options" not in asked
        assert asked["kv_transfer_params"]["do_remote_decode"] is True
        assert asked["messages"] == body_of(second)["messages"]
        assert json.dumps(PARAMS).encode() in second.body
        at = second.body.index(b'"model"')
        assert b"{" + second.body[at:] == BODY  # nothing else changed, byte for byte
        assert first.fields[b"x-request-id"] == second.fields[b"x-request-id"]
        split = stage.split
        assert split.connector == "nixl"
        assert split.prefill_endpoint == "prefill-0"
        assert split.prefill_seconds is not None
        assert split.fallback == ""
        assert split.prefill_failures == ()
        assert split.transfer_bytes is not None
        assert stage.stranded() == 0
        check_clean(stage)


async def test_one_token_is_asked_in_every_way_a_client_may_have_limited_or_multiplied_it() -> None:
    body = (
        b'{"model":"sim-8b","messages":[{"role":"user","content":"hello"}],"n":1,'
        b'"max_completion_tokens":99,"min_tokens":5}'
    )
    async with staged([primed()], [unary()]) as stage:
        assert (await ask(stage, post(PATH, body))).status == 200
        asked = body_of(stage.prefills[0].received[0])
        assert (asked["max_tokens"], asked["max_completion_tokens"]) == (1, 1)
        assert "min_tokens" not in asked


async def test_requests_that_only_one_endpoint_can_serve_are_not_split() -> None:
    body = b'{"model":"sim-8b","messages":[{"role":"user","content":"hello"}],"n":2}'
    async with staged([primed()], [unary()]) as stage:
        assert (await ask(stage, post(PATH, body))).status == 200
        assert not stage.prefills[0].received
        assert stage.decodes[0].received[0].body == body
        assert stage.split.fallback == "whole_fields"
        check_clean(stage)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("told", [b"40", b"0", b"null"])
async def test_cached_tokens_are_those_of_the_prefill_server(streamed: bool, told: bytes) -> None:
    usage = b'"usage":{"prompt_tokens":40,"completion_tokens":2,"prompt_tokens_details":'
    usage += (b"null" if told == b"null" else b'{"cached_tokens":%b}' % told) + b"}"
    said = b'{"choices":[{"message":{"content":"\\"cached_tokens\\":7"}}],%b}' % usage

    async def split_event(_: Upstream, __: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD + chunk(event("a")) + chunk(b'data: {"choices":[],' + usage[:60]))
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(chunk(usage[60:] + b"}\n\ndata: [DONE]\n\n") + b"0\r\n\r\n")

    script = split_event if streamed else unary(said)
    async with staged([primed(cached=16)], [script]) as stage:
        answer = await ask(stage, STREAMED if streamed else UNARY)
        assert b'"cached_tokens":16' in answer.body
        if not streamed:
            whole = json.loads(answer.body)
            assert whole["usage"]["prompt_tokens_details"] == {"cached_tokens": 16}
            assert whole["choices"][0]["message"]["content"] == '"cached_tokens":7'
        record = stage.proxy.records[-1]
        assert (record.prompt_tokens, record.cached_tokens, record.completion_tokens) == (40, 16, 2)


# --- the prefill leg fails ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (hang_up, "upstream_closed"),
        (unary(b"{}", b"500 Oops"), "status_500"),
        (unary(b"{}", b"503 Busy"), "status_503"),
        (unary(b"{}", b"429 Later"), "status_429"),
        (unary(b"no json"), "bad_answer"),
        (primed(finish="abort"), "finished_abort"),
        (primed(finish="error"), "finished_error"),
    ],
)
async def test_a_failed_prefill_is_tried_elsewhere_then_computed_where_it_is_decoded(
    script: Any, reason: str
) -> None:
    async with staged([script, script], [stream(3)]) as stage:
        answer = await ask(stage)
        assert answer.status == 200
        assert b"t2" in answer.body
        assert [len(one.received) for one in stage.prefills] == [1, 1]
        assert [one.body for one in stage.decodes[0].received] == [BODY]
        assert stage.split.prefill_failures == (reason, reason)
        assert stage.split.fallback == reason
        assert stage.stranded() == 0
        check_clean(stage)


async def test_another_prefill_server_makes_a_failed_one_good() -> None:
    bad = unary(b"{}", b"502 Bad")
    async with staged([bad, primed()], [stream(3)], mode="always") as stage:
        for _ in range(4):  # the choice between equals is the brain's
            assert (await ask(stage)).status == 200
        assert all("kv_transfer_params" in body_of(one) for one in stage.decodes[0].received)
        assert any(record.split.prefill_failures for record in stage.proxy.records if record.split)
        check_clean(stage)


async def test_a_prefill_server_that_refuses_connections_costs_nothing_but_time() -> None:
    async with staged([primed()], [stream(3)]) as stage:
        url = f"http://127.0.0.1:{closed_port()}"
        state = stage.router.fleet.get("prefill-0")
        assert state is not None
        state.endpoint = type(state.endpoint)("prefill-0", url, labels=state.endpoint.labels)
        assert (await ask(stage)).status == 200
        assert stage.split.fallback == "connect_failed"
        check_clean(stage)


async def test_a_4xx_of_the_prefill_server_is_the_answer_and_decode_is_left_alone() -> None:
    refusal = b'{"error":{"message":"too long","type":"BadRequestError","code":400}}'
    async with staged([unary(refusal, b"400 Bad Request")], [stream(3)]) as stage:
        answer = await ask(stage)
        assert answer.status == 400
        assert answer.body == refusal
        assert not stage.decodes[0].received
        record = stage.proxy.records[-1]
        assert (record.status, record.reason, record.endpoint) == (400, "status_400", "prefill-0")
        check_clean(stage)


@pytest.mark.parametrize(
    ("params", "reason", "stranded"),
    [
        (None, "no_params", False),
        ({**PARAMS, "remote_block_ids": None}, "incomplete_params", True),
        ({**PARAMS, "remote_engine_id": None}, "incomplete_params", True),
        (
            {name: value for name, value in PARAMS.items() if name != "remote_request_id"},
            "incomplete_params",
            True,
        ),
    ],
)
async def test_what_would_kill_a_decode_engine_is_never_sent_to_it(
    params: Any, reason: str, stranded: bool
) -> None:
    async with staged([primed(params)], [stream(3)]) as stage:
        assert (await ask(stage)).status == 200
        assert [one.body for one in stage.decodes[0].received] == [BODY]
        assert stage.split.fallback == reason
        assert bool(stage.stranded()) is stranded
        assert bool(stage.split.stranded_tokens) is stranded
        check_clean(stage)


async def test_a_prefill_beyond_its_budget_is_cut_and_decode_answers_once() -> None:
    async with staged([never], [stream(3)], prefill_grace=0.05, prefill_patience=1.0) as stage:
        answer = await ask(stage)
        assert answer.status == 200
        assert answer.body.count(b"[DONE]") == 1
        await until(lambda: stage.prefills[0].closed_by_peer == 1)
        assert [one.body for one in stage.decodes[0].received] == [BODY]
        assert stage.split.fallback == "prefill_slow"
        assert stage.stranded() == 0
        check_clean(stage)


async def test_a_slow_prefill_leaves_no_connection_to_decode_that_nobody_knows_of() -> None:
    """Pools without a connection are dropped meanwhile; the decode leg must not use such a one."""
    async with staged([after(0.6, primed())], [stream(1)], prefill_grace=5.0) as stage:
        for _ in range(2):
            assert (await ask(stage)).status == 200
        decode = stage.decodes[0]
        assert decode.connections == 1
        await stage.proxy.server.stop()
        await until(lambda: decode.open == 0)


async def test_budgets_find_to_what_a_slow_server_needs() -> None:
    slow = after(0.6, primed())
    async with staged([slow], [stream(1)], prefill_grace=0.05, prefill_patience=1.0) as stage:
        fallbacks = []
        for _ in range(8):
            assert (await ask(stage)).status == 200
            fallbacks.append(stage.split.fallback)
            if not fallbacks[-1]:
                break
        assert fallbacks[0] == "prefill_slow"
        assert fallbacks[-1] == ""


# --- the client leaves -------------------------------------------------------------------------


async def leave(stage: Stage, condition: Any, wire: bytes = STREAMED) -> None:
    """Send a request and go once the condition holds."""
    async with connected(stage.port) as (_, writer):
        writer.write(wire)
        await until(condition)
    await until(lambda: bool(stage.proxy.records))
    await until(lambda: stage.proxy.in_flight == 0)


async def test_a_client_that_leaves_during_prefill_frees_the_prefill_server() -> None:
    async with staged([never], [stream(3)]) as stage:
        await leave(stage, lambda: bool(stage.prefills[0].received))
        await until(lambda: stage.prefills[0].closed_by_peer == 1)
        assert not stage.decodes[0].received
        assert stage.stranded() == 0
        assert stage.proxy.records[-1].reason == "client_gone"
        check_clean(stage)


async def test_a_client_that_leaves_between_the_legs_strands_the_kv_until_its_lease_ends() -> None:
    labels = {"kv-lease": "0.4"}
    async with staged([primed()], [never], labels=labels) as stage:
        await leave(stage, lambda: bool(stage.decodes[0].received))
        await until(lambda: stage.decodes[0].closed_by_peer == 1)
        assert stage.stranded() > 0
        assert stage.split.stranded_tokens > 0
        check_clean(stage)
        await until(lambda: stage.stranded() == 0)


async def test_a_client_that_leaves_while_it_reads_strands_nothing() -> None:
    async with staged([primed()], [stream(200, gap=0.01)]) as stage:
        async with connected(stage.port) as (reader, writer):
            writer.write(STREAMED)
            await reader.readuntil(b"t1")
        await until(lambda: bool(stage.proxy.records))
        assert stage.stranded() == 0
        check_clean(stage)


# --- the decode leg fails -----------------------------------------------------------------------


async def test_a_500_of_decode_is_computed_again_at_the_same_server_without_the_kv() -> None:
    decode = in_order(unary(b"{}", b"500 Oops"), stream(3))
    async with staged([primed()], [decode]) as stage:
        answer = await ask(stage)
        assert answer.status == 200
        assert answer.body.count(b"[DONE]") == 1
        first, second = stage.decodes[0].received
        assert b"remote_block_ids" in first.body
        assert second.body == BODY
        assert stage.split.fallback == "decode_status_500"
        assert stage.stranded() > 0  # it may not have been read
        check_clean(stage)


async def fails_in_stream(_: Upstream, __: Received, writer: asyncio.StreamWriter) -> None:
    """As vLLM does when it can't fetch the KV of a streamed request."""
    said = b'data: {"error":{"message":"KV load failure"}}\n\ndata: [DONE]\n\n'
    writer.write(SSE_HEAD + chunk(said) + b"0\r\n\r\n")


async def test_an_error_told_inside_a_stream_before_any_token_is_computed_again_too() -> None:
    async with staged([primed()], [in_order(fails_in_stream, stream(3))]) as stage:
        answer = await ask(stage)
        assert answer.status == 200
        assert b"KV load failure" not in answer.body
        assert [one.body for one in stage.decodes[0].received[1:]] == [BODY]
        assert stage.split.fallback == "decode_stream_error"
        check_clean(stage)


async def test_an_error_that_stays_is_told_honestly() -> None:
    async with staged([primed()], [fails_in_stream]) as stage:
        answer = await ask(stage)
        assert b"KV load failure" in answer.body
        assert len(stage.decodes[0].received) == 2
        check_clean(stage)


@pytest.mark.parametrize("fault", [hang_up, unary(b"{}", b"503 Busy")])
async def test_kv_is_read_once_so_another_decode_server_gets_a_prefill_of_its_own(
    fault: Any,
) -> None:
    """Whichever of the two equal decode servers is asked first fails."""
    failed: list[int] = []

    async def decode(upstream: Upstream, request: Received, writer: asyncio.StreamWriter) -> None:
        failed.append(upstream.port)
        await (fault if len(failed) == 1 else stream(3))(upstream, request, writer)

    async with staged([primed()], [decode, decode]) as stage:
        answer = await ask(stage)
        assert answer.status == 200
        assert len(set(failed)) == 2
        assert len(stage.prefills[0].received) == 2
        ids = {one.fields[b"x-request-id"] for one in stage.prefills[0].received}
        assert len(ids) == 2
        assert stage.stranded() > 0
        check_clean(stage)


async def test_decode_that_dies_after_the_first_byte_ends_with_an_error_event_and_no_replay() -> (
    None
):
    async def dies(_: Upstream, __: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD + chunk(event("a")))
        await writer.drain()
        writer.transport.abort()

    async with staged([primed()], [dies, dies]) as stage:
        answer = await ask(stage)
        assert answer.status == 200
        assert answer.event_code == "upstream_closed"
        assert answer.body.count(b"[DONE]") == 1
        assert len(stage.prefills[0].received) == 1
        assert sum(len(one.received) for one in stage.decodes) == 1
        assert stage.stranded() == 0
        check_clean(stage)


async def test_the_whole_request_times_out_during_prefill() -> None:
    async with staged([never], [stream(3)], request_timeout=0.1) as stage:
        answer = await ask(stage)
        assert answer.status == 504
        assert answer.code == "request_timeout"
        assert not stage.decodes[0].received
        check_clean(stage)


# --- both legs at once --------------------------------------------------------------------------


async def test_concurrent_legs_carry_one_room_and_the_same_body() -> None:
    async with staged([unary()], [stream(3)], connector="sglang") as stage:
        assert (await ask(stage)).status == 200
        await until(lambda: stage.proxy.in_flight == 0)
        (first,), (second,) = stage.prefills[0].received, stage.decodes[0].received
        assert first.body == second.body
        said = body_of(first)
        assert said["bootstrap_host"] == "127.0.0.1"
        assert said["bootstrap_port"] == 8998
        assert 0 <= said["bootstrap_room"] < 2**63
        assert said["max_tokens"] == 64
        check_clean(stage)


async def test_prefill_is_not_cut_when_decode_is_done_first() -> None:
    release = asyncio.Event()
    async with staged([when(release, unary())], [stream(3)], connector="sglang") as stage:
        assert (await ask(stage)).status == 200
        await asyncio.sleep(0.02)
        assert stage.prefills[0].closed_by_peer == 0
        assert stage.prefills[0].open == 1
        release.set()
        await until(lambda: len(stage.proxy.records) == 1)
        check_clean(stage)


async def test_when_prefill_fails_the_waiting_decode_leg_is_cut_and_both_begin_anew() -> None:
    prefill = in_order(unary(b"{}", b"500 Oops"), unary())

    async def decode(upstream: Upstream, request: Received, writer: asyncio.StreamWriter) -> None:
        await (never if len(upstream.received) == 1 else stream(3))(upstream, request, writer)

    async with staged([prefill, prefill], [decode], connector="sglang") as stage:
        answer = await ask(stage)
        assert answer.status == 200
        assert answer.body.count(b"[DONE]") == 1
        await until(lambda: stage.decodes[0].closed_by_peer == 1)
        rooms = [body_of(one)["bootstrap_room"] for one in stage.decodes[0].received]
        assert len(set(rooms)) == 2
        check_clean(stage)


async def test_a_decode_server_that_needs_prefill_says_so_honestly_when_there_is_none() -> None:
    bad = unary(b"{}", b"500 Oops")
    async with staged([bad, bad], [never], connector="sglang") as stage:
        answer = await ask(stage)
        assert answer.status == 502
        assert answer.code == "prefill_failed"
        await until(lambda: stage.proxy.in_flight == 0)
        check_clean(stage)


async def test_mooncake_is_split_once_the_engine_id_is_known() -> None:
    async def prefill(upstream: Upstream, request: Received, writer: asyncio.StreamWriter) -> None:
        page = b'{"0":{"engine_id":"engine-7"}}'
        said = unary(page) if request.head.startswith(b"GET /query ") else unary()
        await said(upstream, request, writer)

    async with staged([prefill], [stream(3)], connector="mooncake") as stage:
        for server, label in ((stage.prefills[0], "kv-bootstrap-port"),):
            state = stage.router.fleet.get("prefill-0")
            assert state is not None
            state.endpoint = type(state.endpoint)(
                "prefill-0", server.url, labels=(*state.endpoint.labels, (label, str(server.port)))
            )
        assert (await ask(stage)).status == 200
        assert stage.split.fallback == "unknown_engine"
        await until(lambda: len(stage.prefills[0].received) == 1)
        await asyncio.sleep(0.02)
        assert (await ask(stage)).status == 200
        assert stage.split.fallback == ""
        leg = stage.prefills[0].received[-1]
        first = body_of(leg)["kv_transfer_params"]
        second = body_of(stage.decodes[0].received[-1])["kv_transfer_params"]
        assert first["transfer_id"] == second["transfer_id"]
        assert second["remote_engine_id"] == "engine-7"
        assert second["remote_bootstrap_addr"] == stage.prefills[0].url
        assert leg.fields[b"x-data-parallel-rank"] == b"0"


async def test_a_client_that_leaves_cuts_both_legs() -> None:
    async with staged([never], [never], connector="sglang") as stage:
        await leave(stage, lambda: bool(stage.decodes[0].received and stage.prefills[0].received))
        await until(lambda: stage.prefills[0].closed_by_peer == 1)
        await until(lambda: stage.decodes[0].closed_by_peer == 1)
        check_clean(stage)


async def test_clients_can_not_say_where_kv_comes_from() -> None:
    """Also not with null, which would win where the last of two equal fields counts."""
    body = BODY[:-1] + b',"kv_transfer_params":null}'
    async with staged([primed()], [stream(1)]) as stage:
        assert (await ask(stage, post(PATH, body))).status == 200
        assert stage.decodes[0].received[0].body.count(b"kv_transfer_params") == 1


async def test_a_500_of_a_decode_server_that_needs_prefill_begins_anew_with_another_pair() -> None:
    decode = in_order(unary(b"{}", b"500 Oops"), stream(3))
    async with staged([unary(), unary()], [decode], connector="sglang") as stage:
        answer = await ask(stage)
        assert answer.status == 200
        assert answer.body.count(b"[DONE]") == 1
        rooms = [body_of(one)["bootstrap_room"] for one in stage.decodes[0].received]
        assert len(set(rooms)) == 2
        check_clean(stage)
    async with staged([unary()], [unary(b"{}", b"500 Oops")], connector="sglang") as stage:
        assert (await ask(stage)).status == 500  # there is no other one: its own answer
        check_clean(stage)
