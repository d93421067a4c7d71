"""One trial: mutated bytes through a fresh proxy, and the judgement of what came out.

Whatever is sent, the proxy must

- give the client well-formed responses only, each either the endpoint's or a refusal of 4xx;
- forward only whole, strictly well-formed requests, each with the body that an independent
  parser finds in the client's bytes, in their order and never twice;
- never leave a whole or malformed request without an answer or a close (a hang);
- raise nothing into the event loop, and hold nothing when the client is gone.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from bench.fuzz.mutations import Said
from bench.fuzz.scene import DefectError, Heard, stage
from bench.fuzz.server import OK, Answer
from bench.fuzz.strict import (
    MalformedError,
    ReadRequest,
    ReadResponse,
    Reference,
    read_responses,
    reference_reading,
)

_FUZZED = b"mutated"
_CLEAN = b"clean"
_WRITTEN_ANEW = frozenset(
    {b"host", b"x-request-id", b"content-length", b"via"}
    | {b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"}
)
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"expect"}
    | {b"transfer-encoding", b"x-prefiller-host-port"}
)
_WELCOME = frozenset({200, 204, 405})  # 405: well-formed, though nothing answers that method
_OF_THE_GATEWAY = frozenset(
    {b"x-request-id", b"x-inferway-endpoint", b"content-length", b"transfer-encoding"}
) | {b"connection"}
_BROKEN_OFF = b'data: {"error":{"message":"The endpoint failed in the middle of the stream'


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a trial came to, for the statistics of a long run."""

    kind: str  # refused, answered, cut, closed or waiting
    forwarded: int


# --- what clients send ------------------------------------------------------------------------


async def try_client(said: Said, *, honest: bool = False) -> Outcome:
    """A client says this. DefectError when the proxy does what it must not.

    ``honest``: it is well-formed, so that each request must get an answer and none is refused.
    """
    reference = reference_reading(said.data)
    methods = [request.method for request in reference.requests]
    async with stage(lambda _: OK) as scene:
        heard = await scene.say(
            said, due=len(reference.requests) + reference.refused, methods=methods
        )
        responses = heard.responses(methods)
        _judge_answers(responses, reference, heard)
        _judge_forwarded(scene.server.requests, reference)
        if honest:
            _judge_welcome(responses, reference)
        return Outcome(_kind(responses, heard), len(scene.server.requests))


async def try_honest_client(said: Said) -> Outcome:
    """A client says this, which is well-formed. DefectError when it is not served."""
    return await try_client(said, honest=True)


def _judge_welcome(responses: list[ReadResponse], reference: Reference) -> None:
    statuses = [response.status for response in responses if response.status >= 200]
    if reference.refused or len(statuses) != len(reference.requests):
        raise DefectError(f"{len(reference.requests)} requests, answered {statuses}")
    if not _WELCOME.issuperset(statuses):
        raise DefectError(f"well-formed, yet answered {statuses}")


def _judge_answers(responses: Iterable[ReadResponse], reference: Reference, heard: Heard) -> None:
    for response in responses:
        if response.status >= 500 or not response.whole:
            raise DefectError(f"not an answer to any request: {response}")
    if reference.refused and not heard.closed:
        raise DefectError(f"the connection is open after malformed input: {heard.data!r}")


def _judge_forwarded(forwarded: Iterable[ReadRequest], reference: Reference) -> None:
    """What was forwarded must be among what was asked, in order."""
    asked = iter(reference.requests)
    for request in forwarded:
        original = next((other for other in asked if _same(request, other)), None)
        if original is None:
            raise DefectError(f"nobody asked for {request}; asked: {reference.requests}")
        passed = {field for field in request.fields if field[0] not in _WRITTEN_ANEW}
        if wrong := passed - _may_pass(original):
            raise DefectError(f"fields that must end here or were never sent: {wrong}")


def _same(one: ReadRequest, other: ReadRequest) -> bool:
    return (one.method, one.target, one.body) == (other.method, other.target, other.body)


def _may_pass(request: ReadRequest) -> set[tuple[bytes, bytes]]:
    """The client's fields but those that end at any hop, by RFC 9110 section 7.6.1."""
    options = b",".join(request.values(b"connection")).split(b",")
    ending = _HOP_BY_HOP | {option.strip().lower() for option in options}
    return {field for field in request.fields if field[0] not in ending}


# --- what endpoints answer --------------------------------------------------------------------


async def try_endpoint(said: Said) -> Outcome:
    """An endpoint answers this. DefectError when the proxy does what it must not.

    A second client then asks for something else and must get exactly that.
    """
    reference, readable = _final_of(said)

    def answering(request: ReadRequest) -> Answer:
        return Answer(said.pieces, said.closes) if _FUZZED in request.values(b"x-fuzz") else OK

    async with stage(answering) as scene:
        due = int(not readable or (reference is not None and reference.whole))
        heard = await scene.say(_asking(_FUZZED), due=0 if said.closes else due, methods=[b"POST"])
        responses = heard.responses([b"POST"])
        _judge_relayed(responses, reference, heard)
        following = await scene.say(_asking(_CLEAN), due=1, methods=[b"POST"])
        answers = following.responses([b"POST"])
        if [(answer.status, answer.body) for answer in answers] != [(200, b'{"ok":true}')]:
            raise DefectError(f"the next client got {following.data!r}")
        return Outcome(_kind(responses, heard), len(scene.server.requests))


def _asking(mark: bytes) -> Said:
    body = b'{"model":"sim-8b","prompt":"hi"}'
    head = b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nX-Fuzz: %b\r\nContent-Length: %d\r\n\r\n"
    return Said(head % (mark, len(body)) + body, ())


def _final_of(said: Said) -> tuple[ReadResponse | None, bool]:
    """The first final response that h11 finds, and whether it could read so far."""
    try:
        read = read_responses(
            said.data, [b"POST"], closed=said.closes, grammar=False, only_first=True
        )
    except MalformedError:
        return None, False
    return next((response for response in read if response.status >= 200), None), True


def _judge_relayed(
    responses: list[ReadResponse], reference: ReadResponse | None, heard: Heard
) -> None:
    if len(responses) > 1:
        raise DefectError(f"one request, {len(responses)} responses: {heard.data!r}")
    for response in responses:
        if not response.whole:
            continue  # cut off, or still coming
        if reference is None or response.status != reference.status:
            # A stream that turned out malformed after it began ends with an error event.
            if response.status != 502 and _BROKEN_OFF not in response.body:
                raise DefectError(f"made of what is no response: {heard.data!r}")
        elif reference.whole and response.body != reference.body:
            raise DefectError(f"the body is {response.body!r}, said was {reference.body!r}")
        elif extra := set(response.fields) - set(reference.fields) - _own(response):
            raise DefectError(f"fields that no head had: {extra}")


def _own(response: ReadResponse) -> set[tuple[bytes, bytes]]:
    return {(name, value) for name, value in response.fields if name in _OF_THE_GATEWAY}


def _kind(responses: list[ReadResponse], heard: Heard) -> str:
    if not all(response.whole for response in responses):
        return "cut"
    if any(response.status >= 400 for response in responses):
        return "refused"
    if responses:
        return "answered"
    return "closed" if heard.closed else "waiting"
