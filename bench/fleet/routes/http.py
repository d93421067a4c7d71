"""What all routes share: bodies, errors, faults and event streams over aiohttp."""

import asyncio
import re
import socket
import struct
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

import msgspec
from aiohttp import web

from bench.fleet.errors import RequestError, bad_request
from bench.fleet.faults import RETURN_ERROR_HEADER, BreakStream, Reset
from bench.fleet.service import Service
from bench.fleet.settings import StreamFault

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
T = TypeVar("T")
Json: TypeAlias = dict[str, Any]

# Where msgspec's messages name the offending field.
_PATH = re.compile(r"at `\$\.([^`]+)`")
_MISSING = re.compile(r"missing required field `([^`]+)`")

_DONE = b"data: [DONE]\n\n"


def json_response(value: object, status: int = 200) -> web.Response:
    """A JSON response."""
    body = msgspec.json.encode(value)
    return web.Response(body=body, status=status, content_type="application/json")


@web.middleware
async def http_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What the server itself refuses (no such path, too large a body), as vLLM answers it."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        response = json_response({"detail": error.reason}, error.status)
        if (allowed := error.headers.get("Allow")) is not None:
            response.headers["Allow"] = allowed
        return response


def openai_errors(handler: Handler) -> Handler:
    """The handler with its `RequestError` answered in vLLM's envelope."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except RequestError as error:
            return json_response(error.openai_body, error.status)

    return handle


def anthropic_errors(handler: Handler) -> Handler:
    """The handler with its `RequestError` answered as the Messages API does."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except RequestError as error:
            return json_response(error.anthropic_body, error.status)

    return handle


async def read_body(request: web.Request, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a request's body.

    Raises `RequestError` (400) for invalid JSON, or a field that is missing or of a wrong type,
    whose path becomes ``param``.
    """
    body = await request.read()
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        message = str(error)
        path = [match[1] for name in (_PATH, _MISSING) if (match := name.search(message))]
        raise RequestError(400, "Bad Request", message, param=".".join(["body", *path])) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(f"Invalid JSON: {error}", "body") from None


def response_id(prefix: str, request: web.Request, asked: str | None = None) -> str:
    """The id of a response: the body's request id, X-Request-Id, or a new one."""
    own = asked or request.headers.get("X-Request-Id") or uuid.uuid4().hex
    return f"{prefix}-{own}"


async def admit(service: Service, request: web.Request) -> BreakStream | None:
    """Let a request in, or have it suffer its fate; a break of its stream comes later.

    Raises `RequestError`: 503 while the server starts, or an injected error.
    """
    if not service.ready:
        raise RequestError(503, "ServiceUnavailableError", "The model is still loading.")
    fate = service.faults.draw(request.headers.get(RETURN_ERROR_HEADER))
    match fate:
        case RequestError():
            raise fate
        case Reset():
            await reset(request)
            return None
        case _:
            return fate


async def reset(request: web.Request) -> None:
    """Reset the connection (TCP RST) and wait to be cancelled for it."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    await forever()


async def forever() -> None:
    """Wait until cancelled, as every handler is when its client goes away."""
    await asyncio.Event().wait()


class EventStream:
    """A response of server-sent events, which breaks after so many tokens if it is to."""

    def __init__(self, request: web.Request, fate: BreakStream | None, *, done: bool) -> None:
        self._request = request
        self._fate = fate
        self._done = done
        self._tokens = 0
        self._response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-cache",
            }
        )

    async def start(self) -> None:
        """Send the response's head."""
        await self._response.prepare(self._request)

    async def send(self, events: bytes) -> None:
        """Send events that carry no token."""
        await self._response.write(events)

    async def send_tokens(self, events: list[bytes]) -> bool:
        """Send one event a token; False when the stream broke with an error and is to end."""
        fate = self._fate
        if fate is None or self._tokens + len(events) < fate.after_tokens:
            self._tokens += len(events)
            await self._response.write(b"".join(events))
            return True
        await self._response.write(b"".join(events[: fate.after_tokens - self._tokens]))
        match fate.fault:
            case StreamFault.RESET:
                await reset(self._request)
            case StreamFault.STALL:
                await forever()
            case StreamFault.ERROR:
                pass
        return False

    async def end(self) -> web.StreamResponse:
        """End the stream; OpenAI's end with [DONE]."""
        if self._done:
            await self._response.write(_DONE)
        await self._response.write_eof()
        return self._response


BROKEN = RequestError(500, "InternalServerError", "Injected error inside a stream.")


def data_event(value: object) -> bytes:
    """An event without a name."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def named_event(name: str, value: object) -> bytes:
    """An event with its name on a line of its own."""
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(value) + b"\n\n"
