"""Envoy's side of the external processing protocol, without Envoy: messages in, replies out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse

from gateway.extproc.session import Session
from tests.support.processors import ProcessorUnderTest

CHAT = {
    ":method": "POST",
    ":path": "/v1/chat/completions",
    ":scheme": "http",
    ":authority": "gateway",
    "content-type": "application/json",
    "x-request-id": "one",
}


@dataclass
class Reply:
    """A processing response, with what tests look at."""

    message: Any

    @property
    def kind(self) -> str:
        """Which of the messages it answers."""
        kind: str = self.message.WhichOneof("response")
        return kind

    @property
    def _common(self) -> Any:
        return getattr(self.message, self.kind).response

    @property
    def fields(self) -> dict[str, bytes]:
        """Fields that are set."""
        return {
            option.header.key: option.header.raw_value
            for option in self._common.header_mutation.set_headers
        }

    @property
    def removed(self) -> set[str]:
        """Fields that are removed."""
        return set(self._common.header_mutation.remove_headers)

    @property
    def destination(self) -> str | None:
        """The endpoints that were picked; the same in header and metadata."""
        header = self.fields.get("x-gateway-destination-endpoint")
        metadata = self.message.dynamic_metadata.fields
        if header is None:
            assert "envoy.lb" not in metadata
            return None
        told = metadata["envoy.lb"].struct_value.fields["x-gateway-destination-endpoint"]
        assert told.string_value == header.decode()
        assert self._common.clear_route_cache
        return header.decode()

    @property
    def chunk(self) -> bytes:
        """A chunk of a body that is sent back in FULL_DUPLEX mode."""
        mutation = self._common.body_mutation
        assert mutation.WhichOneof("mutation") == "streamed_response"
        body: bytes = mutation.streamed_response.body
        return body

    @property
    def ends(self) -> bool:
        """Whether that chunk is the last."""
        ends: bool = self._common.body_mutation.streamed_response.end_of_stream
        return ends

    @property
    def changed_body(self) -> bytes | None:
        """What takes the place of a body in the other modes; None: it stays."""
        mutation = self._common.body_mutation
        kind = mutation.WhichOneof("mutation")
        assert kind != "streamed_response"
        if kind == "clear_body":
            return b""
        return bytes(mutation.body) if kind == "body" else None

    @property
    def skips_response_body(self) -> bool:
        """Whether it asks not to be sent the response's body."""
        return bool(
            self.message.HasField("mode_override")
            and self.message.mode_override.response_body_mode == ProcessingMode.NONE
        )

    @property
    def answer(self) -> tuple[int, dict[str, bytes], bytes]:
        """Of an immediate response: status, fields, body."""
        immediate = self.message.immediate_response
        fields = {
            option.header.key: option.header.raw_value for option in immediate.headers.set_headers
        }
        return immediate.status.code, fields, immediate.body


class Envoy:
    """A filter with the given body modes, and one session that it talks to."""

    def __init__(
        self,
        processor: ProcessorUnderTest,
        request: str = "FULL_DUPLEX_STREAMED",
        response: str = "NONE",
        *,
        ahead: bool = False,
        says_modes: bool = True,
    ) -> None:
        self.processor = processor
        self.finished = 0
        self._modes = (request, response, ahead) if says_modes else None
        self._replies: list[bytes] = []
        self.session = Session(processor.context, self._replies.append, self._finish)

    def _finish(self) -> None:
        self.finished += 1

    def _say(self, request: ProcessingRequest) -> list[Reply]:
        if self._modes is not None:
            config = request.protocol_config
            config.request_body_mode = ProcessingMode.BodySendMode.Value(self._modes[0])
            config.response_body_mode = ProcessingMode.BodySendMode.Value(self._modes[1])
            config.send_body_without_waiting_for_header_response = self._modes[2]
            self._modes = None
        self.session.receive(request.SerializeToString())
        return self.replies()

    def replies(self) -> list[Reply]:
        """What was replied since the last time."""
        found = [Reply(ProcessingResponse.FromString(reply)) for reply in self._replies]
        self._replies.clear()
        return found

    def request(
        self,
        fields: Mapping[str, str] = CHAT,
        *,
        ends: bool = False,
        subset: Sequence[str] | str | float | None = None,
    ) -> list[Reply]:
        """The head of a request."""
        said = ProcessingRequest()
        _add(said.request_headers, fields, ends)
        if subset is not None:
            space = said.metadata_context.filter_metadata["envoy.lb.subset_hint"]
            hint = space.fields["x-gateway-destination-endpoint-subset"]
            if isinstance(subset, str):
                hint.string_value = subset
            elif isinstance(subset, float):
                hint.number_value = subset
            else:
                hint.list_value.SetInParent()
                for entry in subset:
                    hint.list_value.values.add(string_value=entry)
        return self._say(said)

    def body(self, body: bytes, *, ends: bool = False) -> list[Reply]:
        """A piece of a request's body."""
        said = ProcessingRequest()
        said.request_body.body, said.request_body.end_of_stream = body, ends
        return self._say(said)

    def trailers(self) -> list[Reply]:
        """A request's trailers."""
        said = ProcessingRequest()
        said.request_trailers.SetInParent()
        return self._say(said)

    def response(
        self,
        status: int = 200,
        *,
        ends: bool = False,
        served: str | None = None,
        content_type: str = "application/json",
    ) -> list[Reply]:
        """The head of a response."""
        said = ProcessingRequest()
        _add(said.response_headers, {":status": str(status), "content-type": content_type}, ends)
        if served is not None:
            space = said.metadata_context.filter_metadata["envoy.lb"]
            space.fields["x-gateway-destination-endpoint-served"].string_value = served
        return self._say(said)

    def response_body(self, body: bytes, *, ends: bool = False) -> list[Reply]:
        """A piece of a response's body."""
        said = ProcessingRequest()
        said.response_body.body, said.response_body.end_of_stream = body, ends
        return self._say(said)

    def response_trailers(self) -> list[Reply]:
        """A response's trailers."""
        said = ProcessingRequest()
        said.response_trailers.SetInParent()
        return self._say(said)

    def close(self) -> None:
        """End the stream; nothing may stay behind."""
        self.session.over()
        self.session.over()
        assert self.processor.in_flight == 0
        assert self.processor.context.held_bytes == 0
        assert self.processor.context.telemetry.in_flight == 0


def _add(head: Any, fields: Mapping[str, str], ends: bool) -> None:
    for name, value in fields.items():
        head.headers.headers.add(key=name, raw_value=value.encode())
    head.end_of_stream = ends
