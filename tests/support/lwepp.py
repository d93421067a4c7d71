"""A picker that behaves like the inference extension's lwepp, on grpcio: round robin, and tests
may limit the choice by a header. What it does may be scripted otherwise.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse

DESTINATION = "x-gateway-destination-endpoint"
SERVED = "x-gateway-destination-endpoint-served"
SELECTION = "test-epp-endpoint-selection"
SERVED_HEADER = "x-conformance-test-served-endpoint"

Script = Callable[["Picker", Any, Any], Awaitable[None]]


@dataclass
class Picker:
    """One picker: its endpoints, and what it saw."""

    endpoints: Sequence[str]
    script: Script | None = None
    port: int = 0
    heads: list[dict[str, str]] = field(default_factory=list)
    served: list[str] = field(default_factory=list)
    open: int = 0
    ended: int = 0
    turn: int = 0

    async def process(self, requests: Any, context: Any) -> None:
        """One stream."""
        self.open += 1
        try:
            await (self.script or lightweight)(self, requests, context)
        finally:
            self.open -= 1
            self.ended += 1

    def pick(self, head: dict[str, str]) -> str | None:
        """Round robin over the endpoints that the test header leaves."""
        candidates = list(self.endpoints)
        if SELECTION in head:
            wanted = [one.strip() for one in head[SELECTION].split(",")]
            candidates = [
                one for one in candidates if one in wanted or one.rpartition(":")[0] in wanted
            ]
        if not candidates:
            return None
        self.turn += 1
        return candidates[self.turn % len(candidates)]


def fields_of(head: Any) -> dict[str, str]:
    return {one.key: (one.raw_value or one.value.encode()).decode() for one in head.headers.headers}


def head_reply(destination: str, *, echo: bool = True) -> Any:
    """The reply to a request's head: header and dynamic metadata, equal."""
    reply = ProcessingResponse()
    common = reply.request_headers.response
    common.clear_route_cache = True
    mutation = common.header_mutation
    mutation.set_headers.add().header.key = DESTINATION
    mutation.set_headers[-1].header.raw_value = destination.encode()
    if echo:
        first = destination.partition(",")[0]
        mutation.set_headers.add().header.key = "X-Echo-Set-Header"
        mutation.set_headers[-1].header.raw_value = f"{SERVED_HEADER}:{first}".encode()
    space = reply.dynamic_metadata.fields["envoy.lb"].struct_value
    space.fields[DESTINATION].string_value = destination
    return reply


def body_reply(body: bytes, *, ends: bool) -> Any:
    reply = ProcessingResponse()
    streamed = reply.request_body.response.body_mutation.streamed_response
    streamed.body, streamed.end_of_stream = body, ends
    return reply


def immediate(status: int, body: bytes = b"") -> Any:
    reply = ProcessingResponse()
    reply.immediate_response.status.code = status
    reply.immediate_response.body = body
    return reply


def served_reply(message: Any) -> Any:
    """The reply to a response's head: a field that says who served, as far as it was told."""
    told = message.metadata_context.filter_metadata["envoy.lb"].fields[SERVED].string_value
    reply = ProcessingResponse()
    mutation = reply.response_headers.response.header_mutation
    mutation.set_headers.add().header.key = SERVED_HEADER
    mutation.set_headers[-1].header.raw_value = (told or "fail: missing destination").encode()
    return reply


async def lightweight(picker: Picker, requests: Any, context: Any) -> None:
    """What lwepp does."""
    head: dict[str, str] = {}
    body: list[bytes] = []

    async def answer(*, bodiless: bool) -> bool:
        destination = picker.pick(head)
        if destination is None:
            await context.write(immediate(503))
            return False
        await context.write(head_reply(destination))
        if not bodiless:
            whole = b"".join(body)
            for start in range(0, max(len(whole), 1), 62_000):
                piece = whole[start : start + 62_000]
                await context.write(body_reply(piece, ends=start + 62_000 >= len(whole)))
        return True

    async for message in requests:
        kind = message.WhichOneof("request")
        if kind == "request_headers":
            head = fields_of(message.request_headers)
            picker.heads.append(head)
            if message.request_headers.end_of_stream and not await answer(bodiless=True):
                return
        elif kind == "request_body":
            body.append(message.request_body.body)
            if message.request_body.end_of_stream and not await answer(bodiless=False):
                return
        elif kind == "response_headers":
            space = message.metadata_context.filter_metadata["envoy.lb"]
            picker.served.append(space.fields[SERVED].string_value)
            await context.write(served_reply(message))


@asynccontextmanager
async def running_picker(
    endpoints: Sequence[str] = (), script: Script | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Picker]:
    """A picker on a free port."""
    picker = Picker(endpoints, script)
    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(
        picker.process,
        request_deserializer=ProcessingRequest.FromString,
        response_serializer=ProcessingResponse.SerializeToString,
    )
    service = "envoy.service.ext_proc.v3.ExternalProcessor"
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {"Process": handler})]
    )
    picker.port = server.add_insecure_port(f"{host}:0")
    await server.start()
    try:
        yield picker
    finally:
        await server.stop(0)
