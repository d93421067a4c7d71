"""How requests are chosen for, message by message, in every body mode."""

import pytest

from gateway.apis.splice import spans
from gateway.extproc.wire import MOST_CHUNK, WireError
from routing.disaggregation import DisaggregationSettings
from routing.fleet import Endpoint
from routing.router import RouterSettings
from tests.support.gateways import chat
from tests.support.processing import CHAT, Envoy, Reply
from tests.support.processors import ProcessorUnderTest, processor

A, B, C = "10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"
URLS = [f"http://{address}" for address in (A, B, C)]
BODY = chat("x" * 200_000)


@pytest.fixture
def made() -> ProcessorUnderTest:
    return processor(URLS)


def kinds(replies: list[Reply]) -> list[str]:
    return [reply.kind for reply in replies]


def test_full_duplex_withholds_the_heads_reply_until_the_choice(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made)
    assert envoy.request() == []
    for start in range(0, len(BODY), 10_000):
        assert envoy.body(BODY[start : start + 10_000]) == []
    head, *chunks = envoy.body(b"", ends=True)
    assert head.kind == "request_headers"
    assert head.destination == f"{A},{B},{C}"
    assert head.fields["content-length"] == b"%d" % len(BODY)
    assert kinds(chunks) == ["request_body"] * 4
    assert b"".join(chunk.chunk for chunk in chunks) == BODY
    assert max(len(chunk.chunk) for chunk in chunks) == MOST_CHUNK
    assert [chunk.ends for chunk in chunks] == [False, False, False, True]
    assert made.in_flight == 1
    envoy.close()


def test_full_duplex_is_assumed_of_envoys_that_say_nothing(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made, says_modes=False)
    assert envoy.request() == []
    head, chunk = envoy.body(chat(), ends=True)
    assert (head.destination, chunk.chunk, chunk.ends) == (f"{A},{B},{C}", chat(), True)
    envoy.close()


def test_full_duplex_trailers_may_end_a_body(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made)
    envoy.request()
    assert envoy.body(chat()) == []
    head, chunk, trailers = envoy.trailers()
    assert kinds([head, chunk, trailers]) == [
        "request_headers",
        "request_body",
        "request_trailers",
    ]
    assert (chunk.chunk, chunk.ends) == (chat(), False)
    envoy.close()


def test_full_duplex_a_last_piece_that_comes_twice_is_passed_over(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made)
    envoy.request()
    assert len(envoy.body(chat(), ends=True)) == 2
    assert envoy.body(chat(), ends=True) == []
    envoy.close()


def test_full_duplex_an_empty_body_is_one_empty_chunk(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made)
    envoy.request({**CHAT, ":method": "PUT", ":path": "/v1/files"})
    head, chunk = envoy.body(b"", ends=True)
    assert head.destination
    assert (chunk.chunk, chunk.ends) == (b"", True)
    envoy.close()


@pytest.mark.parametrize("mode", ["NONE", "STREAMED", "BUFFERED", "FULL_DUPLEX_STREAMED"])
def test_a_request_without_a_body_is_chosen_for_at_once(
    made: ProcessorUnderTest, mode: str
) -> None:
    envoy = Envoy(made, mode)
    [head] = envoy.request({**CHAT, ":method": "GET", ":path": "/v1/batches"}, ends=True)
    assert (head.kind, head.destination) == ("request_headers", f"{A},{B},{C}")
    envoy.close()


def test_buffered_chooses_in_the_bodys_reply_and_sends_nothing_back(
    made: ProcessorUnderTest,
) -> None:
    envoy = Envoy(made, "BUFFERED")
    [head] = envoy.request()
    assert (head.kind, head.destination) == ("request_headers", None)
    [reply] = envoy.body(BODY, ends=True)
    assert (reply.kind, reply.destination) == ("request_body", f"{A},{B},{C}")
    assert reply.changed_body is None
    envoy.close()


def test_buffered_with_trailers_has_the_whole_body_too(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made, "BUFFERED")
    envoy.request()
    [reply] = envoy.body(chat(), ends=False)
    assert reply.destination
    [trailers] = envoy.trailers()
    assert trailers.kind == "request_trailers"
    envoy.close()


def test_buffered_partial_finds_the_model_before_the_cut(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made, "BUFFERED_PARTIAL")
    envoy.request()
    [reply] = envoy.body(BODY[:50_000], ends=False)
    assert reply.destination
    assert reply.changed_body is None
    envoy.close()
    assert made.records[0].model == "sim-8b"


def test_buffered_partial_of_a_small_body_is_all_of_it(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made, "BUFFERED_PARTIAL")
    envoy.request()
    envoy.body(chat("hello"), ends=True)
    assert made.router.recent[-1].request.chains
    envoy.close()


def test_streamed_ahead_waits_and_answers_each_message(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made, "STREAMED", ahead=True)
    assert envoy.request() == []
    assert envoy.body(BODY[:100_000]) == []
    assert envoy.body(BODY[100_000:]) == []
    head, *bodies = envoy.body(b"", ends=True)
    assert head.destination
    assert kinds(bodies) == ["request_body"] * 3
    assert [body.changed_body for body in bodies] == [None] * 3
    envoy.close()


def test_streamed_is_chosen_for_by_its_head(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made, "STREAMED")
    [head] = envoy.request({**CHAT, "x-gateway-model-name": "sim-8b"})
    assert head.destination
    for piece, ends in ((b"{", False), (b"}", True)):
        [reply] = envoy.body(piece, ends=ends)
        assert (reply.kind, reply.changed_body) == ("request_body", None)
    [trailers] = envoy.trailers()
    assert trailers.kind == "request_trailers"
    envoy.close()
    assert made.records[0].model == "sim-8b"


def test_without_bodies_the_head_is_all(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made, "NONE")
    [head] = envoy.request()
    assert head.destination
    envoy.close()


def test_a_filter_that_sends_no_heads(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made, "BUFFERED")
    [reply] = envoy.body(b'{"model":"sim-8b","prompt":"hello"}', ends=True)
    assert (reply.kind, reply.destination) == ("request_body", f"{A},{B},{C}")
    envoy.close()


def test_messages_that_are_none_or_out_of_order(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made)
    with pytest.raises(WireError):
        envoy.session.receive(b"\xff\xff")
    with pytest.raises(WireError):
        envoy.session.receive(b"")
    envoy.request()
    with pytest.raises(WireError):
        envoy.request()
    envoy.close()


def test_a_stream_without_any_message_leaves_no_record(made: ProcessorUnderTest) -> None:
    Envoy(made).close()
    assert made.records == []


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "BUFFERED", "STREAMED"])
def test_a_model_rewrite_changes_its_name_and_no_other_byte(mode: str) -> None:
    made = processor(URLS, rewrites={"alias": {"sim-8b": 1}})
    body = b'{ "messages":[{"role":"user","content":"1.0e5"}],\n  "model" : "alias", "n":1.50}'
    envoy = Envoy(made, mode, ahead=True)
    envoy.request()
    replies = envoy.body(body, ends=True)
    expected = body.replace(b'"model" : "alias"', b'"model":"sim-8b"')
    last = replies[-1]
    assert (last.chunk if mode.startswith("FULL") else last.changed_body) == expected
    assert made.records == []
    envoy.close()
    assert made.records[0].model == "sim-8b"


def test_a_rewritten_body_in_pieces_goes_out_with_the_first() -> None:
    made = processor(URLS, rewrites={"alias": {"sim-8b": 1}})
    envoy = Envoy(made, "STREAMED", ahead=True)
    envoy.request()
    envoy.body(b'{"model":"alias",')
    _, first, second = envoy.body(b'"messages":[{"role":"user","content":"x"}]}', ends=True)
    changed = first.changed_body
    assert changed is not None
    assert spans(changed, {"model"})
    assert b'"sim-8b"' in changed
    assert second.changed_body == b""
    envoy.close()


def test_a_header_may_name_the_model(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made, "BUFFERED")
    envoy.request({**CHAT, "x-gateway-model-name-rewrite": "sim-8b"})
    body = b'{"model":"other","messages":[{"role":"user","content":"x"}]}'
    [reply] = envoy.body(body, ends=True)
    assert reply.changed_body == body.replace(b"other", b"sim-8b")
    assert "x-gateway-model-name-rewrite" in reply.removed
    envoy.close()


def test_rewrites_share_traffic_by_weight() -> None:
    made = processor(
        URLS, models=("v1", "v2"), rewrites={"food": {"v1": 90, "v2": 10}}, policy="round_robin"
    )
    for _ in range(500):
        envoy = Envoy(made, "BUFFERED")
        envoy.request()
        envoy.body(b'{"model":"food","messages":[{"role":"user","content":"x"}]}', ends=True)
        envoy.close()
    counts = [sum(record.model == name for record in made.records) for name in ("v1", "v2")]
    assert sum(counts) == 500
    assert 15 < counts[1] < 95  # six standard deviations around 50


def test_fields_of_the_gateway_are_taken_out_of_body_and_head(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made, "BUFFERED")
    envoy.request({**CHAT, "x-prefiller-host-port": "evil:1", "x_inferway_endpoint": "evil"})
    body = chat().replace(b'"messages"', b'"kv_transfer_params":{"a":1},"messages"')
    [reply] = envoy.body(body, ends=True)
    assert reply.changed_body == body.replace(b'"kv_transfer_params":{"a":1},', b"")
    assert {"x-prefiller-host-port", "x_inferway_endpoint"} <= reply.removed
    envoy.close()


def test_fields_of_the_gateway_are_refused_where_that_is_asked_for() -> None:
    made = processor(URLS, internal_fields="refuse")
    envoy = Envoy(made, "BUFFERED")
    envoy.request({**CHAT, "x-prefiller-host-port": "evil:1"})
    [reply] = envoy.body(chat(), ends=True)
    assert reply.answer[0] == 400
    envoy.close()


@pytest.mark.parametrize("asked", [{}, {"x-prefiller-host-port": "evil:1"}])
def test_the_prefill_endpoint_travels_to_the_sidecar_in_llm_ds_header(
    asked: dict[str, str],
) -> None:
    urls = ("http://10.0.0.1:8000", "http://10.0.0.2:8000")
    made = processor(
        urls,
        policy="predicted_time",
        brain=RouterSettings(disaggregation=DisaggregationSettings(mode="always")),
    )
    fleet = made.context.router.fleet
    for url, role in zip(urls, ("prefill", "decode"), strict=True):
        name = url.removeprefix("http://")
        fleet.upsert(Endpoint(name=name, url=url, labels=(("role", role),)), 0.0)
    envoy = Envoy(made, "BUFFERED")
    envoy.request({**CHAT, **asked})
    [reply] = envoy.body(chat(), ends=True)
    assert reply.fields["x-prefiller-host-port"] == b"10.0.0.1:8000"
    assert "x-prefiller-host-port" not in reply.removed
    assert reply.destination == "10.0.0.2:8000"
    envoy.close()
    assert all(state.ledger.requests == 0 for state in fleet)
    split = made.records[0].split
    assert split is not None
    assert split.prefill_endpoint == "10.0.0.1:8000"
