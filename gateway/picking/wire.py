"""Processing messages as a proxy says and reads them (the other side of `gateway.extproc.wire`).

Header values go and come in ``raw_value``; older pickers still write ``value``.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from google.protobuf.message import DecodeError

Fields: TypeAlias = list[tuple[bytes, bytes]]

MOST_CHUNK: Final = 62_000
DESTINATION: Final = "x-gateway-destination-endpoint"
_SERVED: Final = "x-gateway-destination-endpoint-served"
_LB: Final = "envoy.lb"
_NOT_OURS_TO_CHANGE: Final = frozenset(
    {
        *("host", "content-length", "connection", "transfer-encoding", "te", "trailer"),
        *("upgrade", "keep-alive", "expect"),
    }
)
_ADD_IF_ABSENT: Final = 1
_OVERWRITE_IF_EXISTS: Final = 3


class PickerProtocolError(ValueError):
    """A picker said something that has no place where it said it."""


class Mutation(NamedTuple):
    """What a reply changes of a head."""

    set: tuple[tuple[bytes, bytes, bool, int], ...] = ()
    """Name, value, whether it is appended, and the ``append_action``."""
    remove: frozenset[bytes] = frozenset()

    def applied(self, fields: Fields) -> Fields:
        """The fields afterwards."""
        fields = [one for one in fields if one[0] not in self.remove]
        for name, value, append, action in self.set:
            there = any(one[0] == name for one in fields)
            if (action == _ADD_IF_ABSENT and there) or (
                action == _OVERWRITE_IF_EXISTS and not there
            ):
                continue
            if not append:
                fields = [one for one in fields if one[0] != name]
            fields.append((name, value))
        return fields


class HeadReply(NamedTuple):
    """The reply to a head, of a request or (``response``) a response."""

    response: bool
    mutation: Mutation
    destination: str | None


class BodyReply(NamedTuple):
    """A piece of a request's body as it should go on."""

    body: bytes
    ends: bool


class ImmediateReply(NamedTuple):
    """An answer for the client."""

    status: int
    fields: Fields
    body: bytes


class OtherReply(NamedTuple):
    """What needs nothing to be done: trailers, or pieces of a response that was not sent."""


Reply: TypeAlias = HeadReply | BodyReply | ImmediateReply | OtherReply


def request_messages(
    method: bytes, target: bytes, scheme: bytes, authority: bytes, fields: Fields, body: bytes
) -> Iterator[bytes]:
    """A request as messages: its head, then its body in pieces."""
    said = ProcessingRequest()
    config = said.protocol_config
    config.request_body_mode = ProcessingMode.FULL_DUPLEX_STREAMED
    config.response_body_mode = ProcessingMode.NONE
    head = said.request_headers
    for name, value in (
        (b":method", method),
        (b":path", target),
        (b":scheme", scheme),
        (b":authority", authority),
        *fields,
    ):
        if name != b"host":
            head.headers.headers.add(key=name.decode("latin-1"), raw_value=value)
    head.end_of_stream = not body
    yield _bytes(said)
    for start in range(0, len(body), MOST_CHUNK):
        piece = ProcessingRequest()
        piece.request_body.body = body[start : start + MOST_CHUNK]
        piece.request_body.end_of_stream = start + MOST_CHUNK >= len(body)
        yield _bytes(piece)


def response_message(status: int, fields: Fields, served: str) -> bytes:
    """A response's head, and who gave it."""
    said = ProcessingRequest()
    head = said.response_headers
    head.headers.headers.add(key=":status", raw_value=b"%d" % status)
    for name, value in fields:
        head.headers.headers.add(key=name.decode("latin-1"), raw_value=value)
    space = said.metadata_context.filter_metadata[_LB]
    space.fields[_SERVED].string_value = served
    return _bytes(said)


def read(message: bytes) -> Reply:
    """What a picker says. Raises `PickerProtocolError`."""
    try:
        said = ProcessingResponse.FromString(message)
    except DecodeError as error:
        raise PickerProtocolError(str(error)) from error
    kind = said.WhichOneof("response")
    if kind == "request_headers":
        return HeadReply(False, _mutation(said.request_headers.response), _destination(said))
    if kind == "response_headers":
        return HeadReply(True, _mutation(said.response_headers.response), None)
    if kind == "request_body":
        change = said.request_body.response.body_mutation
        if change.WhichOneof("mutation") != "streamed_response":
            raise PickerProtocolError("a body came back without streamed_response")
        piece = change.streamed_response
        return BodyReply(piece.body, piece.end_of_stream)
    if kind == "immediate_response":
        answer = said.immediate_response
        fields = [(name, value) for name, value, _, _ in _set(answer.headers)]
        return ImmediateReply(answer.status.code or 200, fields, answer.body)
    if kind is None:
        raise PickerProtocolError("a reply to nothing")
    return OtherReply()


def _mutation(common: Any) -> Mutation:  # noqa: ANN401 - generated classes have no types
    change = common.header_mutation
    if not change.set_headers and not change.remove_headers:
        return Mutation()
    return Mutation(
        tuple(_set(change)),
        frozenset(name.lower().encode("latin-1") for name in change.remove_headers),
    )


def _set(change: Any) -> Iterator[tuple[bytes, bytes, bool, int]]:  # noqa: ANN401
    for option in change.set_headers:
        name = option.header.key.lower()
        value = option.header.raw_value or option.header.value.encode()
        bad = b"\r" in value or b"\n" in value or b"\0" in value
        if name[:1] == ":" or name in _NOT_OURS_TO_CHANGE or bad or not _is_name(name):
            continue
        append = bool(option.HasField("append") and option.append.value)
        yield name.encode(), value, append, int(option.append_action)


def _is_name(name: str) -> bool:
    return name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").isalnum()


def _destination(said: Any) -> str | None:  # noqa: ANN401
    """The endpoints, from dynamic metadata, else from the header; they should be equal."""
    space = said.dynamic_metadata.fields
    if _LB in space and DESTINATION in (inner := space[_LB].struct_value.fields):
        told: str = inner[DESTINATION].string_value
        if told:
            return told
    for option in said.request_headers.response.header_mutation.set_headers:
        if option.header.key.lower() == DESTINATION:
            value = option.header.raw_value or option.header.value.encode()
            found: str = value.decode("latin-1")
            return found or None
    return None


def _bytes(said: Any) -> bytes:  # noqa: ANN401
    encoded: bytes = said.SerializeToString()
    return encoded
