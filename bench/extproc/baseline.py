"""The same sessions and the same brain over grpc.aio: what our own transport is compared with.

``python -m bench.extproc.baseline PORT URL...``. Two ways, as people write them: ``raw`` hands
bytes to the session; ``typed`` decodes and encodes every message with the generated classes first,
as tutorials do.
"""

import sys
from collections.abc import AsyncIterator, Callable

import grpc
import uvloop
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse

from gateway.app import Gateway
from gateway.config import Settings
from gateway.extproc.context import ProcessorContext
from gateway.extproc.processor import SERVICE
from gateway.extproc.session import Session
from gateway.logs import set_up_logging
from gateway.settings import AdminSettings, ExtProcSettings, LogSettings

_LARGE = 1 << 30
_OPTIONS = (
    ("grpc.max_receive_message_length", _LARGE),
    ("grpc.max_send_message_length", _LARGE),
    ("grpc.max_concurrent_streams", 100_000),
)


def _same(message: bytes) -> bytes:
    return message


def _decoded(message: bytes) -> bytes:
    encoded: bytes = ProcessingRequest.FromString(message).SerializeToString()
    return encoded


def _encoded(message: bytes) -> bytes:
    encoded: bytes = ProcessingResponse.FromString(message).SerializeToString()
    return encoded


async def serve(kind: str, port: int, admin_port: int, urls: list[str]) -> None:
    """Serve until cancelled."""
    settings = Settings(
        admin=AdminSettings(port=admin_port),
        extproc=ExtProcSettings(port=0, alone=True),
        log=LogSettings(access=False, level="warning"),
    ).with_endpoints(urls)
    set_up_logging(settings.log)
    gateway = Gateway(settings)
    await gateway.start()
    assert gateway.bodies is not None
    context = gateway.bodies.processor_context
    assert context is not None
    typed = kind == "typed"
    handler = grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Process": grpc.stream_stream_rpc_method_handler(
                _process(context),
                request_deserializer=_decoded if typed else _same,
                response_serializer=_encoded if typed else _same,
            )
        },
    )
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def _process(
    context: ProcessorContext,
) -> Callable[[AsyncIterator[bytes], grpc.aio.ServicerContext], AsyncIterator[bytes]]:
    async def process(
        messages: AsyncIterator[bytes], _: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        replies: list[bytes] = []
        session = Session(context, replies.append, _nothing)
        try:
            async for message in messages:
                session.receive(message)
                for reply in replies:
                    yield reply
                replies.clear()
        finally:
            session.over()

    return process


def _nothing() -> None:
    """grpc.aio ends the call when the generator ends."""


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
