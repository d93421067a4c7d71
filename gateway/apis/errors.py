"""How each API family words an error: as the body of a response, and inside a started stream."""

from typing import Final, Protocol

import msgspec

from gateway.apis.call import ApiError

_encode: Final = msgspec.json.Encoder().encode

_OPENAI_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}

_ANTHROPIC_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class Dialect(Protocol):
    """An API family's wording of errors."""

    def error_body(self, error: ApiError) -> bytes:
        """The JSON body of an error response."""

    def stream_error(self, error: ApiError) -> bytes:
        """The server-sent events that end an already started stream."""


class OpenAIDialect:
    """Errors of the OpenAI API, as vLLM and SGLang word them too.

    ``{"error": {"message", "type", "param", "code"}}``; ``code`` is the error's reason. In a
    stream the same object is an event, followed by the ``[DONE]`` that clients wait for.
    """

    def error_body(self, error: ApiError) -> bytes:
        """The JSON body of an error response."""
        return _encode(
            {
                "error": {
                    "message": error.message,
                    "type": _type(_OPENAI_TYPES, error.status, "server_error"),
                    "param": error.param,
                    "code": error.reason,
                }
            }
        )

    def stream_error(self, error: ApiError) -> bytes:
        """The server-sent events that end an already started stream."""
        return b"data: " + self.error_body(error) + b"\n\ndata: [DONE]\n\n"


class ResponsesDialect(OpenAIDialect):
    """Errors of the Responses API: as OpenAI's, but a stream ends with its ``error`` event.

    The event's ``sequence_number`` is 0: the relay does not decode the events before it.
    """

    def stream_error(self, error: ApiError) -> bytes:
        """The server-sent event that ends an already started stream."""
        event = {
            "type": "error",
            "code": error.reason,
            "message": error.message,
            "param": error.param,
            "sequence_number": 0,
        }
        return b"event: error\ndata: " + _encode(event) + b"\n\n"


class AnthropicDialect:
    """Errors of the Anthropic API: ``{"type": "error", "error": {"type", "message"}}``."""

    def error_body(self, error: ApiError) -> bytes:
        """The JSON body of an error response."""
        kind = _type(_ANTHROPIC_TYPES, error.status, "api_error")
        return _encode({"type": "error", "error": {"type": kind, "message": error.message}})

    def stream_error(self, error: ApiError) -> bytes:
        """The server-sent event that ends an already started stream."""
        return b"event: error\ndata: " + self.error_body(error) + b"\n\n"


def _type(types: dict[int, str], status: int, server_fault: str) -> str:
    """Name the error's type: as listed, else by whose fault it is."""
    return types.get(status) or (server_fault if status >= 500 else "invalid_request_error")
