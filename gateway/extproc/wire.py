"""Processing messages on the wire: protobuf in, the few facts that matter out; replies encoded.

What is read of a message goes through the protobuf runtime. Replies that carry a body, which is
where the bytes are, are put together by hand: their fields are fixed, and the body is copied once.
A property test holds every one of them against the generated classes. Sources:
``envoy/service/ext_proc/v3/external_processor.proto`` and, for modes,
``envoy/extensions/filters/http/ext_proc/v3/processing_mode.proto``.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final, NamedTuple, TypeAlias

from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from google.protobuf.message import DecodeError

Fields: TypeAlias = dict[bytes, bytes]
"""Header fields by lower-case name; of several with one name a list, as RFC 9110 5.3 has it."""

MOST_CHUNK: Final = 62_000
"""Bytes of a body in one message: with everything around it below the 64 KiB that peers take."""

LB_NAMESPACE: Final = "envoy.lb"
SUBSET_NAMESPACE: Final = "envoy.lb.subset_hint"
SUBSET_KEY: Final = "x-gateway-destination-endpoint-subset"
DESTINATION: Final = "x-gateway-destination-endpoint"
PREFILLER: Final = "x-prefiller-host-port"
"""Where llm-d's sidecar, and ours, beside a decode endpoint sends the prefill leg."""
SERVED_KEY: Final = "x-gateway-destination-endpoint-served"


class WireError(ValueError):
    """A message that is none."""


class BodyMode(Enum):
    """How Envoy sends a body and what it expects back."""

    NONE = ProcessingMode.NONE
    STREAMED = ProcessingMode.STREAMED
    BUFFERED = ProcessingMode.BUFFERED
    BUFFERED_PARTIAL = ProcessingMode.BUFFERED_PARTIAL
    FULL_DUPLEX = ProcessingMode.FULL_DUPLEX_STREAMED


class Modes(NamedTuple):
    """How the filter is configured, as its first message says."""

    request: BodyMode
    response: BodyMode
    ahead: bool
    """STREAMED bodies come without waiting for the reply to the headers."""


class RequestHeaders(NamedTuple):
    """The head of a request; ``subset``: endpoints it is limited to, None: it is not."""

    fields: Fields
    ends: bool
    subset: tuple[str, ...] | None


class RequestBody(NamedTuple):
    """A piece of a request's body."""

    body: bytes
    ends: bool


class RequestTrailers(NamedTuple):
    """The end of a request's body, where it has trailers."""


class ResponseHeaders(NamedTuple):
    """The head of a response; ``served``: the endpoint that gave it, None: Envoy doesn't say."""

    fields: Fields
    ends: bool
    served: str | None


class ResponseBody(NamedTuple):
    """A piece of a response's body."""

    body: bytes
    ends: bool


class ResponseTrailers(NamedTuple):
    """The end of a response's body, where it has trailers."""


Message: TypeAlias = (
    RequestHeaders
    | RequestBody
    | RequestTrailers
    | ResponseHeaders
    | ResponseBody
    | ResponseTrailers
)


class Side(Enum):
    """Which way a message goes; the values are field numbers of ProcessingResponse."""

    __hash__ = object.__hash__

    REQUEST = (1, 3, 5)
    RESPONSE = (2, 4, 6)


# --- in ----------------------------------------------------------------------------------------


def decode(message: bytes) -> tuple[Message, Modes | None]:
    """What Envoy says, and how it is configured if it says that here. `WireError`."""
    try:
        said = ProcessingRequest.FromString(message)
    except DecodeError as error:
        raise WireError(str(error)) from error
    modes = _modes(said.protocol_config) if said.HasField("protocol_config") else None
    match said.WhichOneof("request"):
        case "request_body":
            part = said.request_body
            return RequestBody(part.body, part.end_of_stream), modes
        case "response_body":
            part = said.response_body
            return ResponseBody(part.body, part.end_of_stream), modes
        case "request_headers":
            head = said.request_headers
            subset = None
            if said.HasField("metadata_context"):
                subset = _subset(said.metadata_context)
            return RequestHeaders(_fields(head.headers), head.end_of_stream, subset), modes
        case "response_headers":
            head = said.response_headers
            served = None
            if said.HasField("metadata_context"):
                served = _served(said.metadata_context)
            return ResponseHeaders(_fields(head.headers), head.end_of_stream, served), modes
        case "request_trailers":
            return RequestTrailers(), modes
        case "response_trailers":
            return ResponseTrailers(), modes
    raise WireError("a processing request without a request")


def _modes(config: Any) -> Modes:  # noqa: ANN401 - generated classes have no types
    try:
        return Modes(
            BodyMode(config.request_body_mode),
            BodyMode(config.response_body_mode),
            config.send_body_without_waiting_for_header_response,
        )
    except ValueError as error:
        raise WireError(f"the body mode {error} is not supported") from error


def _fields(headers: Any) -> Fields:  # noqa: ANN401
    fields: Fields = {}
    for header in headers.headers:
        name = header.key.encode()
        value = header.raw_value or header.value.encode()
        fields[name] = fields[name] + b", " + value if name in fields else value
    return fields


def _subset(metadata: Any) -> tuple[str, ...] | None:  # noqa: ANN401
    """The subset hint: a list of endpoints, or one string with commas; both are in use."""
    space = metadata.filter_metadata.get(SUBSET_NAMESPACE)
    if space is None or SUBSET_KEY not in space.fields:
        return None
    hint = space.fields[SUBSET_KEY]
    kind = hint.WhichOneof("kind")
    if kind == "list_value":
        listed = [value.string_value for value in hint.list_value.values]
    elif kind == "string_value":
        listed = hint.string_value.split(",")
    else:
        listed = []  # a hint that can't be read must not open what it was meant to close
    return tuple(entry.strip() for entry in listed if entry.strip())


def _served(metadata: Any) -> str | None:  # noqa: ANN401
    space = metadata.filter_metadata.get(LB_NAMESPACE)
    if space is None or SERVED_KEY not in space.fields:
        return None
    served: str = space.fields[SERVED_KEY].string_value
    return served or None


# --- out: replies to headers and trailers, and final answers --------------------------------------


class Change(NamedTuple):
    """What a reply does to a head. ``destination`` goes into header and metadata, equal."""

    set: tuple[tuple[str, bytes], ...] = ()
    remove: tuple[str, ...] = ()
    destination: str | None = None
    skip_response_body: bool = False
    """Ask not to be sent the response's body."""


NO_CHANGE: Final = Change()


def headers_reply(side: Side, change: Change = NO_CHANGE) -> bytes:
    """The reply to a head."""
    if change is NO_CHANGE:
        return _CONTINUE_HEADERS[side]
    reply = ProcessingResponse()
    part = reply.request_headers if side is Side.REQUEST else reply.response_headers
    _apply(reply, part.response, change)
    return _bytes(reply)


def body_reply(side: Side, change: Change = NO_CHANGE, body: bytes | None = None) -> bytes:
    """The reply to a body that is not FULL_DUPLEX; ``body`` takes its place, None: none does."""
    if change is NO_CHANGE and body is None:
        return _CONTINUE_BODY[side]
    reply = ProcessingResponse()
    part = reply.request_body if side is Side.REQUEST else reply.response_body
    part.SetInParent()
    _apply(reply, part.response, change)
    if body:
        part.response.body_mutation.body = body
    elif body is not None:
        part.response.body_mutation.clear_body = True
    return _bytes(reply)


def trailers_reply(side: Side) -> bytes:
    """The reply to trailers: as they were."""
    return _TRAILERS[side]


def immediate(status: int, fields: Mapping[str, bytes], body: bytes, details: str) -> bytes:
    """An answer to the client instead of the endpoint's; ``details`` is for Envoy's access log."""
    reply = ProcessingResponse()
    answer = reply.immediate_response
    answer.status.code = status
    for name, value in fields.items():
        _set(answer.headers, name, value)
    answer.body = body
    answer.details = details
    return _bytes(reply)


def _apply(reply: Any, common: Any, change: Change) -> None:  # noqa: ANN401
    common.SetInParent()
    mutation = common.header_mutation
    for name, value in change.set:
        _set(mutation, name, value)
    if change.remove:
        mutation.remove_headers.extend(change.remove)
    if change.destination is not None:
        _set(mutation, DESTINATION, change.destination.encode())
        common.clear_route_cache = True
        space = reply.dynamic_metadata.fields[LB_NAMESPACE].struct_value
        space.fields[DESTINATION].string_value = change.destination
    if change.skip_response_body:
        override = reply.mode_override
        override.response_header_mode = ProcessingMode.SEND
        override.response_body_mode = ProcessingMode.NONE
        override.response_trailer_mode = ProcessingMode.SEND


def _set(mutation: Any, name: str, value: bytes) -> None:  # noqa: ANN401
    option = mutation.set_headers.add()
    option.header.key = name
    option.header.raw_value = value
    # What ext_proc does without saying so; said, for other consumers of the protocol.
    option.append.value = False


def _bytes(reply: Any) -> bytes:  # noqa: ANN401
    encoded: bytes = reply.SerializeToString()
    return encoded


def _empty(side: Side, kind: int) -> bytes:
    """A reply whose part is there and says nothing."""
    return bytes((side.value[kind] << 3 | 2, 0))


_CONTINUE_HEADERS: Final = {side: _empty(side, 0) for side in Side}
_CONTINUE_BODY: Final = {side: _empty(side, 1) for side in Side}
_TRAILERS: Final = {side: _empty(side, 2) for side in Side}


# --- out: bodies in FULL_DUPLEX mode -----------------------------------------------------------

_RESPONSE = 1 << 3 | 2  # BodyResponse.response
_MUTATION = 3 << 3 | 2  # CommonResponse.body_mutation
_STREAMED = 3 << 3 | 2  # BodyMutation.streamed_response
_BODY = 1 << 3 | 2  # StreamedBodyResponse.body
_ENDS = b"\x10\x01"  # StreamedBodyResponse.end_of_stream


def chunks(side: Side, body: bytes, *, ends: bool) -> Iterable[bytes]:
    """``body`` in messages of at most `MOST_CHUNK` bytes; the last one ends it if it ``ends``.

    An empty body that ends is one empty chunk; one that goes on needs none.
    """
    if len(body) <= MOST_CHUNK:
        if body or ends:
            yield _chunk(side, body, ends=ends)
        return
    for start in range(0, len(body), MOST_CHUNK):
        stop = start + MOST_CHUNK
        yield _chunk(side, body[start:stop], ends=ends and stop >= len(body))


def _chunk(side: Side, body: bytes, *, ends: bool) -> bytes:
    head = b""
    length = len(body)
    if body:
        head = b"%c%b" % (_BODY, _varint(length))
    length += len(head) + (len(_ENDS) if ends else 0)
    for tag in (_STREAMED, _MUTATION, _RESPONSE, side.value[1] << 3 | 2):
        around = b"%c%b" % (tag, _varint(length))
        head = around + head
        length += len(around)
    return head + body + _ENDS if ends else head + body


def _varint(value: int) -> bytes:
    if value < 0x80:
        return b"%c" % value
    if value < 0x4000:
        return b"%c%c" % (value & 0x7F | 0x80, value >> 7)
    return b"%c%c%c" % (value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14)
