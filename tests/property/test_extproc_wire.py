"""What is encoded by hand is what the generated classes encode."""

from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingResponse
from hypothesis import given
from hypothesis import strategies as st

from gateway.extproc.wire import (
    MOST_CHUNK,
    Side,
    body_reply,
    chunks,
    headers_reply,
    trailers_reply,
)

SIDES = st.sampled_from(list(Side))


@given(
    SIDES,
    st.one_of(
        st.integers(0, 300),
        st.integers(16_300, 16_500),
        st.integers(MOST_CHUNK - 20, MOST_CHUNK + 20),
        st.integers(2 * MOST_CHUNK - 5, 2 * MOST_CHUNK + 5),
    ),
    st.booleans(),
)
def test_chunks(side: Side, size: int, ends: bool) -> None:
    body = bytes(index * 7 & 0xFF for index in range(size))
    whole, last = b"", []
    for message in chunks(side, body, ends=ends):
        reply = ProcessingResponse.FromString(message)
        part = reply.request_body if side is Side.REQUEST else reply.response_body
        chunk = part.response.body_mutation.streamed_response
        assert 0 < len(chunk.body) <= MOST_CHUNK or (not body and ends)
        whole += chunk.body
        last.append(chunk.end_of_stream)
        # Nothing else is said: the classes encode the same message.
        again = ProcessingResponse()
        other = again.request_body if side is Side.REQUEST else again.response_body
        streamed = other.response.body_mutation.streamed_response
        streamed.body, streamed.end_of_stream = chunk.body, chunk.end_of_stream
        assert again.SerializeToString() == message
    assert whole == body
    assert last[-1:] == ([ends] if body or ends else [])
    assert not any(last[:-1])


@given(SIDES)
def test_replies_that_change_nothing(side: Side) -> None:
    name = side.name.lower()
    for message, field in (
        (headers_reply(side), f"{name}_headers"),
        (body_reply(side), f"{name}_body"),
        (trailers_reply(side), f"{name}_trailers"),
    ):
        reply = ProcessingResponse.FromString(message)
        assert reply.WhichOneof("response") == field
        assert reply.ByteSize() == len(message) == 2
