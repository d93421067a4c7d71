"""Errors that a simulated server answers with, before they have the shape of an API."""

from typing import Any

from bench.fleet.settings import ErrorKind


class RequestError(Exception):
    """A request that gets an error response.

    ``kind`` is the error's type as vLLM names it; ``param`` the offending field, if one is.
    """

    def __init__(self, status: int, kind: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.param = param

    @property
    def openai_body(self) -> dict[str, Any]:
        """VLLM's envelope."""
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.status,
            }
        }

    @property
    def anthropic_body(self) -> dict[str, Any]:
        """The envelope of the Messages API."""
        kind = _ANTHROPIC_KINDS.get(self.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": self.message}}


_ANTHROPIC_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}

_KINDS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    429: "RateLimitError",
    503: "ServiceUnavailableError",
}


def bad_request(message: str, param: str | None = None) -> RequestError:
    """A request that can't be served as it is."""
    return RequestError(400, "BadRequestError", message, param=param)


def unknown_model(name: str, served: list[str]) -> RequestError:
    """A model that is neither the base nor a loaded adapter."""
    message = f"The model `{name}` does not exist. Valid aliases: {', '.join(served)}."
    return RequestError(404, "NotFoundError", message, param="model")


def of_status(status: int) -> RequestError:
    """The injected error of a status that a client asked for."""
    kind = _KINDS.get(status, "InternalServerError" if status >= 500 else "BadRequestError")
    return RequestError(status, kind, f"Injected error {status}.")


_INJECTED = {
    ErrorKind.RATE_LIMIT: (429, "Rate limit reached."),
    ErrorKind.INVALID_API_KEY: (401, "Incorrect API key provided."),
    ErrorKind.CONTEXT_LENGTH: (400, "This model's maximum context length is exceeded."),
    ErrorKind.SERVER_ERROR: (503, "The server is overloaded or not ready yet."),
    ErrorKind.INVALID_REQUEST: (400, "Invalid request."),
    ErrorKind.MODEL_NOT_FOUND: (404, "The model does not exist."),
}


def of_kind(kind: ErrorKind) -> RequestError:
    """The injected error of a kind."""
    status, message = _INJECTED[kind]
    return RequestError(status, _KINDS[status], message)
