"""Where requests may go, what clients are told when they can't, and who is said to have served."""

import json
from collections.abc import Sequence

import pytest

from gateway.extproc.addresses import AddressBook, address_of
from gateway.extproc.operations import operation_of, path_of
from gateway.extproc.partial import read_part
from gateway.settings import Objective
from routing.fleet import Endpoint, Fleet
from routing.router import RouterSettings
from tests.support.gateways import MODEL, chat
from tests.support.processing import CHAT, Envoy
from tests.support.processors import ProcessorUnderTest, processor

A, B, RANK, V6 = "10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.2:8001", "[2600::1]:80"
URLS = [f"http://{address}" for address in (A, B, RANK, V6)]


@pytest.fixture
def made() -> ProcessorUnderTest:
    return processor(URLS)


def picked(made: ProcessorUnderTest, subset: Sequence[str] | str | float | None) -> list[str]:
    envoy = Envoy(made)
    envoy.request(subset=subset)
    replies = envoy.body(chat(), ends=True)
    destination = replies[0].destination
    envoy.close()
    assert destination is not None
    return sorted(destination.split(","))


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (None, [A, B, RANK, V6]),
        ([A], [A]),
        ([A, B], [A, B]),
        (f"{A},{RANK}", [A, RANK]),
        (f" {A} , {B} ", [A, B]),
        (["10.0.0.2"], [B, RANK]),
        (["10.0.0.2:8001"], [RANK]),
        ([V6], [V6]),
        (["2600::1"], [V6]),
        (["[2600::1]"], [V6]),
        (["10.9.9.9:8000", A], [A]),
    ],
)
def test_subset_hints(
    made: ProcessorUnderTest, hint: Sequence[str] | str | None, expected: list[str]
) -> None:
    assert picked(made, hint) == sorted(expected)


@pytest.mark.parametrize("hint", [[], "", ["10.9.9.9"], ["10.0.0.1:1"], ["what"], 7.0])
def test_a_hint_that_nothing_fits_is_a_503(
    made: ProcessorUnderTest, hint: Sequence[str] | str | float
) -> None:
    envoy = Envoy(made)
    envoy.request(subset=hint)
    [reply] = envoy.body(chat(), ends=True)
    status, fields, body = reply.answer
    assert status == 503
    assert fields["retry-after"] == b"1"
    assert json.loads(body)["error"]["code"] == "no_endpoint"
    assert envoy.finished == 1
    envoy.close()


def test_a_hint_does_not_make_an_unwell_endpoint_well(made: ProcessorUnderTest) -> None:
    made.router.fleet.observe_health(A, False, 1.0, "test")
    assert picked(made, [A, B]) == [B]


def test_fallbacks_are_as_many_as_configured() -> None:
    assert len(picked(processor(URLS, fallbacks=0), None)) == 1
    assert len(picked(processor(URLS, fallbacks=1), None)) == 2


def test_the_test_header_works_only_where_it_is_allowed(made: ProcessorUnderTest) -> None:
    fields = {**CHAT, "test-epp-endpoint-selection": f"{B}, 2600::1"}
    for one, expected in (
        (made, {A, B, RANK, V6}),
        (processor(URLS, test_selection=True), {B, V6}),
    ):
        envoy = Envoy(one)
        envoy.request(fields)
        destination = envoy.body(chat(), ends=True)[0].destination
        assert destination is not None
        assert set(destination.split(",")) == expected
        envoy.close()


# --- answers of our own -------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "BUFFERED", "STREAMED"])
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"not json", 400, "invalid_json"),
        (b'{"messages":[]}', 400, "missing_field"),
        (b'{"model":"other","messages":[{"role":"user","content":"x"}]}', 404, "unknown_model"),
    ],
)
def test_errors_have_the_apis_own_format(
    made: ProcessorUnderTest, mode: str, body: bytes, status: int, code: str
) -> None:
    envoy = Envoy(made, mode, ahead=True)
    envoy.request()
    [reply] = envoy.body(body, ends=True)
    answered, fields, text = reply.answer
    assert (answered, fields["content-type"]) == (status, b"application/json")
    assert json.loads(text)["error"]["code"] == code
    assert reply.message.immediate_response.details == code
    assert envoy.body(b"late", ends=True) == []
    assert envoy.trailers() == []
    envoy.close()
    assert [(record.status, record.reason) for record in made.records] == [(status, code)]


def test_anthropic_clients_get_their_errors(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made)
    envoy.request({**CHAT, ":path": "/v1/messages"})
    [reply] = envoy.body(b"{}", ends=True)
    assert json.loads(reply.answer[2])["type"] == "error"
    envoy.close()


def test_an_overloaded_fleet_is_a_429() -> None:
    made = processor(URLS[:1], brain=RouterSettings(max_requests_per_endpoint=1))
    first, second = Envoy(made), Envoy(made)
    first.request()
    first.body(chat(), ends=True)
    second.request()
    [reply] = second.body(chat(), ends=True)
    assert reply.answer[0] == 429
    assert reply.answer[1]["retry-after"] == b"1"
    first.session.over()
    second.close()


def test_too_many_requests_at_a_time_are_a_429() -> None:
    made = processor(URLS, max_concurrent_requests=1)
    first, second = Envoy(made), Envoy(made)
    first.request()
    second.request()
    [reply] = second.body(chat(), ends=True)
    assert reply.answer[0] == 429
    first.session.over()
    second.close()


def test_a_body_that_nests_too_deeply_is_refused(made: ProcessorUnderTest) -> None:
    made.context.max_json_depth = 10
    envoy = Envoy(made)
    envoy.request()
    [reply] = envoy.body(chat()[:-1] + b',"tools":' + b"[" * 10 + b"]" * 10 + b"}", ends=True)
    assert reply.answer[0] == 400
    assert b"json_too_deep" in reply.answer[2]
    envoy.close()


def test_a_body_that_is_too_large_is_a_413_at_once() -> None:
    made = processor(URLS, max_body_bytes=10_000)
    envoy = Envoy(made)
    envoy.request()
    assert envoy.body(bytes(10_000)) == []
    [reply] = envoy.body(b"x")
    assert reply.answer[0] == 413
    assert made.context.held_bytes == 0
    assert envoy.body(b"x") == []
    envoy.close()


def test_bodies_that_wait_share_a_budget() -> None:
    made = processor(URLS, max_held_bytes=15_000)
    first, second = Envoy(made), Envoy(made)
    first.request()
    assert first.body(bytes(10_000)) == []
    second.request()
    [reply] = second.body(bytes(10_000))
    assert reply.answer[0] == 503
    assert made.context.held_bytes == 10_000
    first.session.over()
    second.close()


def test_the_models_are_told_without_any_endpoint(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made)
    [reply] = envoy.request({**CHAT, ":method": "GET", ":path": "/v1/models"}, ends=True)
    status, _, body = reply.answer
    assert status == 200
    assert [model["id"] for model in json.loads(body)["data"]] == [MODEL]
    envoy.close()
    assert made.records[0].api == "models"


def test_objectives_are_read_and_bad_ones_refused(made: ProcessorUnderTest) -> None:
    made.context.objectives = {"chat": Objective(ttft=0.5, itl=0.02)}
    envoy = Envoy(made)
    envoy.request({**CHAT, "x-gateway-inference-objective": "chat"})
    envoy.body(chat(), ends=True)
    assert made.router.recent[-1].request.ttft_target == 0.5
    envoy.close()
    envoy = Envoy(made)
    envoy.request({**CHAT, "x-slo-ttft-ms": "soon"})
    [reply] = envoy.body(chat(), ends=True)
    assert reply.answer[0] == 400
    envoy.close()


def test_a_path_that_means_two_things_is_refused(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made)
    [reply] = envoy.request({**CHAT, ":path": "/v1/../admin"}, ends=True)
    assert reply.answer[0] == 400
    envoy.close()


def test_a_request_without_an_id_gets_one(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made)
    fields = {name: value for name, value in CHAT.items() if name != "x-request-id"}
    envoy.request(fields)
    head, _ = envoy.body(chat(), ends=True)
    assert head.fields["x-request-id"].decode() == made.router.recent[-1].request.id
    envoy.close()


# --- who served ---------------------------------------------------------------------------------


def test_the_load_moves_to_the_endpoint_that_served(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made)
    envoy.request()
    destination = envoy.body(chat(), ends=True)[0].destination
    assert destination is not None
    first, second, *_ = destination.split(",")
    fleet = made.router.fleet
    assert (state := fleet.get(first)) is not None
    assert state.ledger.requests == 1
    [reply] = envoy.response(served=second)
    assert reply.fields["x-inferway-endpoint"] == second.encode()
    assert state.ledger.requests == 0
    assert (other := fleet.get(second)) is not None
    assert other.ledger.requests == 1
    envoy.close()
    assert made.records[0].endpoint == second


def test_one_that_was_not_even_a_choice_may_have_served(made: ProcessorUnderTest) -> None:
    envoy = Envoy(made)
    envoy.request(subset=[A])
    envoy.body(chat(), ends=True)
    envoy.response(served=V6)
    assert (state := made.router.fleet.get(V6)) is not None
    assert state.ledger.requests == 1
    envoy.close()
    assert made.records[0].endpoint == V6


@pytest.mark.parametrize("served", [A, "10.9.9.9:1", "what"])
def test_the_chosen_one_or_a_stranger_changes_nothing(
    made: ProcessorUnderTest, served: str
) -> None:
    envoy = Envoy(made)
    envoy.request(subset=[A])
    envoy.body(chat(), ends=True)
    envoy.response(served=served)
    assert (state := made.router.fleet.get(A)) is not None
    assert state.ledger.requests == 1
    envoy.close()


# --- reading ------------------------------------------------------------------------------------


def test_addresses_of_urls() -> None:
    assert address_of("http://10.0.0.1:8000") == ("10.0.0.1", "10.0.0.1:8000")
    assert address_of("http://10.0.0.1") == ("10.0.0.1", "10.0.0.1:80")
    assert address_of("https://[2600::1]") == ("2600::1", "[2600::1]:443")


def test_names_that_envoy_can_not_connect_to_are_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fleet = Fleet()
    book = AddressBook(fleet)
    for url in ("http://gpu1:8000", "http://10.0.0.1:8000", "http://[2600::1]:80"):
        fleet.upsert(Endpoint(url, url), 0.0)
    with caplog.at_level("WARNING"):
        book.changed()
        book.changed()
    assert [record.__dict__["host"] for record in caplog.records] == ["gpu1"]


def test_the_book_follows_the_fleet() -> None:
    fleet = Fleet()
    book = AddressBook(fleet)
    assert book.name_of(A) is None
    fleet.upsert(Endpoint("pod", f"http://{A}"), 0.0)
    book.changed()
    assert book.name_of(A) == "pod"
    fleet.remove("pod")
    book.changed()
    assert book.within([A]) == frozenset()


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/v1/chat/completions", "chat"),
        ("POST", "/tenant/v1/chat/completions", "chat"),
        ("POST", "/completions", "completions"),
        ("POST", "/a/responses", "responses"),
        ("POST", "/anthropic/v1/messages", "messages"),
        ("POST", "/v2/embeddings", "embeddings"),
        ("GET", "/health", "passthrough"),
        ("POST", "/whatever", "passthrough"),
        ("GET", "/v1/chat/completions", "passthrough"),
    ],
)
def test_operations_by_path(method: str, path: str, name: str) -> None:
    operation = operation_of(method, path)
    assert getattr(operation, "name", None) == name


def test_the_path_before_a_rewrite_says_what_is_asked() -> None:
    assert path_of({b":path": b"/x", b"x-original-path": b"/v1/chat/completions?a=b"}) == (
        "/v1/chat/completions"
    )


@pytest.mark.parametrize(
    ("body", "model", "streamed"),
    [
        (b'{"model":"m","stream":true,"messages":[{"content":"cut', "m", True),
        (b'{"messages":[{"model":"no","stream":true}],"model":"m","prompt":"', "m", False),
        (b'{"prompt":"\\"model\\":\\"no\\"","model":"m\\u0041"', "mA", False),
        (b'{"a":{"model":"no"},"prompt":"', None, False),
        (b'{"stream":true,"mod', None, True),
        (b'{"model":7,"stream":"true"', None, False),
        (b"\xff\xfe", None, False),
        (b"", None, False),
    ],
)
def test_the_beginning_of_a_body(body: bytes, model: str | None, streamed: bool) -> None:
    call = read_part(body)
    assert (call.model, call.streamed) == (model, streamed)


def test_no_cut_of_a_body_makes_its_text_a_field() -> None:
    body = (
        rb'{"messages":[{"content":"\"model\":\"evil\",\"stream\":true\\"}],"n":[1,{"a":null}],'
        rb'"model":"good","prompt":"x \"}],\"model\":\"evil\"","stream":true}'
    )
    for cut in range(len(body) + 1):
        call = read_part(body[:cut])
        assert call.model in {None, "good"}, body[:cut]
    assert read_part(body).streamed
