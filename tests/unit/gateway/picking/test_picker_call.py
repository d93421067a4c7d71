"""The protocol of one request that a picker is asked about, message by message."""

from dataclasses import dataclass, field

import pytest
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse

from gateway.picking import call as picker_call
from gateway.picking.call import PickerCall, Stage
from gateway.picking.wire import Mutation
from gateway.proxy.heads import Headers, RequestHead
from gateway.proxy.picking import Answered, Asker, Picked
from tests.support.lwepp import body_reply, head_reply, immediate, served_reply

pytestmark = pytest.mark.skipif(
    not picker_call.__file__.endswith(".py"),
    reason="compiled traits have no subclasses that are not compiled",
)

FIELDS: Headers = [(b"host", b"a.com"), (b"x-a", b"1")]


@dataclass
class Scene(Asker):
    """A call, and everything that came of it."""

    said: list[ProcessingRequest] = field(default_factory=list)
    ends: list[bool] = field(default_factory=list)
    picks: list[Picked] = field(default_factory=list)
    answers: list[Answered] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    reviews: list[Headers] = field(default_factory=list)

    def picked(self, picked: Picked) -> None:
        self.picks.append(picked)

    def answered(self, answer: Answered) -> None:
        self.answers.append(answer)

    def unpicked(self, reason: str) -> None:
        self.failures.append(reason)

    def reviewed(self, fields: Headers) -> None:
        self.reviews.append(fields)

    def begin(self, body: bytes = b"hello", method: str = "POST") -> PickerCall:
        def send(message: bytes) -> None:
            self.said.append(ProcessingRequest.FromString(message))

        call = PickerCall(self, send, self.ends.append, lambda: None)
        call.begin(RequestHead(method, b"/x?y", FIELDS), body, b"https")
        return call


def reply(call: PickerCall, *messages: ProcessingResponse) -> None:
    for message in messages:
        call.message(message.SerializeToString())


def test_the_request_is_told_whole() -> None:
    scene = Scene()
    scene.begin(b"z" * 130_000)
    head, *pieces = scene.said
    told = {one.key: one.raw_value for one in head.request_headers.headers.headers}
    assert told == {
        ":method": b"POST",
        ":path": b"/x?y",
        ":scheme": b"https",
        ":authority": b"a.com",
        "x-a": b"1",
    }
    assert head.protocol_config.request_body_mode == 4  # FULL_DUPLEX_STREAMED
    assert head.protocol_config.response_body_mode == 0
    assert [len(piece.request_body.body) for piece in pieces] == [62_000, 62_000, 6_000]
    assert [piece.request_body.end_of_stream for piece in pieces] == [False, False, True]
    assert not head.request_headers.end_of_stream


def test_a_request_without_a_body_ends_with_its_head() -> None:
    scene = Scene()
    call = scene.begin(b"", "GET")
    [head] = scene.said
    assert head.request_headers.end_of_stream
    reply(call, head_reply("10.0.0.1:80", echo=False))
    assert scene.picks[0].addresses == ["10.0.0.1:80"]


def test_a_pick_needs_the_whole_body_back() -> None:
    scene = Scene()
    call = scene.begin()
    reply(call, head_reply("10.0.0.1:80, [fd00::1]:80"), body_reply(b"hel", ends=False))
    assert not scene.picks
    reply(call, body_reply(b"LO", ends=True))
    [pick] = scene.picks
    assert pick.addresses == ["10.0.0.1:80", "[fd00::1]:80"]
    assert pick.body == b"helLO"
    assert (b"x-gateway-destination-endpoint", b"10.0.0.1:80, [fd00::1]:80") in pick.fields
    assert call.stage is Stage.PICKED


def test_the_header_alone_names_the_endpoint_too() -> None:
    scene = Scene()
    call = scene.begin(b"")
    message = head_reply("10.0.0.1:80", echo=False)
    message.ClearField("dynamic_metadata")
    reply(call, message)
    assert scene.picks[0].addresses == ["10.0.0.1:80"]


def test_the_response_is_reviewed() -> None:
    scene = Scene()
    call = scene.begin(b"")
    reply(call, head_reply("10.0.0.1:80", echo=False))
    call.served("10.0.0.1:80", 200, [(b"x-b", b"2")])
    assert call.stage is Stage.REVIEWING
    told = scene.said[-1]
    space = told.metadata_context.filter_metadata["envoy.lb"]
    assert space.fields["x-gateway-destination-endpoint-served"].string_value == "10.0.0.1:80"
    reply(call, served_reply(told))
    assert scene.reviews == [
        [(b"x-b", b"2"), (b"x-conformance-test-served-endpoint", b"10.0.0.1:80")]
    ]
    call.over()
    call.over()
    assert scene.ends == [True]


@pytest.mark.parametrize("how", ["late", "lost", "wrong"])
def test_a_response_is_not_lost_with_its_picker(how: str) -> None:
    scene = Scene()
    call = scene.begin(b"")
    reply(call, head_reply("10.0.0.1:80", echo=False))
    call.served("10.0.0.1:80", 200, [(b"x-b", b"2")])
    if how == "late":
        call.late()
    elif how == "lost":
        call.lost("picker_lost")
    else:
        call.message(b"\xff")
    assert scene.reviews == [[(b"x-b", b"2")]]
    assert not scene.failures


def test_a_picker_that_left_after_its_pick_is_not_asked_again() -> None:
    scene = Scene()
    call = scene.begin(b"")
    reply(call, head_reply("10.0.0.1:80", echo=False))
    call.lost("picker_closed")
    said = len(scene.said)
    call.served("10.0.0.1:80", 200, [(b"x-b", b"2")])
    assert scene.reviews == [[(b"x-b", b"2")]]
    assert len(scene.said) == said


def test_an_answer_of_its_own() -> None:
    scene = Scene()
    call = scene.begin()
    message = immediate(429, b"busy")
    message.immediate_response.headers.set_headers.add().header.key = "Retry-After"
    message.immediate_response.headers.set_headers[0].header.value = "1"
    reply(call, message)
    [answer] = scene.answers
    assert (answer.status, answer.body, answer.fields) == (429, b"busy", [(b"retry-after", b"1")])
    call.over()
    assert scene.ends == [True]


@pytest.mark.parametrize(
    "messages",
    [
        [body_reply(b"x", ends=True)],  # before the head
        [head_reply("10.0.0.1:80"), head_reply("10.0.0.1:80")],
        [ProcessingResponse()],
    ],
)
def test_what_breaks_the_protocol(messages: list[ProcessingResponse]) -> None:
    scene = Scene()
    call = scene.begin()
    reply(call, *messages)
    assert scene.failures == ["picker_protocol"]
    assert scene.ends == [False]
    reply(call, head_reply("10.0.0.1:80"), body_reply(b"", ends=True))
    assert not scene.picks


def test_no_endpoint_is_a_failure() -> None:
    scene = Scene()
    call = scene.begin()
    message = ProcessingResponse()
    message.request_headers.response.SetInParent()
    reply(call, message)
    assert scene.failures == ["picker_no_endpoint"]


def test_a_request_that_is_over_before_the_pick_is_cut() -> None:
    scene = Scene()
    call = scene.begin()
    call.over()
    assert scene.ends == [False]
    call.late()
    call.lost("picker_lost")
    assert not scene.failures


def test_fields_that_are_not_a_pickers_to_change() -> None:
    scene = Scene()
    call = scene.begin(b"")
    message = head_reply("10.0.0.1:80", echo=False)
    mutation = message.request_headers.response.header_mutation
    for name, value in (
        (":path", "/evil"),
        ("host", "evil"),
        ("content-length", "1"),
        ("x-ok", "1"),
        ("x-bad", "1\r\nx-evil: 1"),
        ("x bad", "1"),
    ):
        option = mutation.set_headers.add()
        option.header.key, option.header.raw_value = name, value.encode()
    mutation.remove_headers.append("X-A")
    reply(call, message)
    names = dict(scene.picks[0].fields)
    assert names[b"host"] == b"a.com"
    assert names[b"x-ok"] == b"1"
    assert not {b":path", b"content-length", b"x-bad", b"x bad", b"x-a"} & set(names)


def test_how_fields_are_put() -> None:
    fields: Headers = [(b"a", b"1"), (b"b", b"2")]
    change = Mutation(
        (
            (b"a", b"new", False, 0),
            (b"b", b"more", True, 0),
            (b"c", b"there", False, 1),  # ADD_IF_ABSENT
            (b"b", b"not", False, 1),
            (b"d", b"not", False, 3),  # OVERWRITE_IF_EXISTS
        )
    )
    assert change.applied(fields) == [
        (b"b", b"2"),
        (b"a", b"new"),
        (b"b", b"more"),
        (b"c", b"there"),
    ]
