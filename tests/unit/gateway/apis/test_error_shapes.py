"""How errors look to the clients of each API family."""

import json
from typing import Any

import pytest

from gateway.apis.call import ApiError
from gateway.apis.catalogue import CHAT, COMPLETIONS, MESSAGES, PASSTHROUGH, RESPONSES, Operation


def events(stream: bytes) -> list[tuple[str | None, str]]:
    """Parse server-sent events into (event, data)."""
    assert stream.endswith(b"\n\n")
    found = []
    for block in stream.decode().removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((fields.get("event"), fields["data"]))
    return found


@pytest.mark.parametrize(
    ("status", "openai", "anthropic"),
    [
        (400, "invalid_request_error", "invalid_request_error"),
        (401, "authentication_error", "authentication_error"),
        (403, "permission_error", "permission_error"),
        (404, "not_found_error", "not_found_error"),
        (405, "invalid_request_error", "invalid_request_error"),
        (413, "invalid_request_error", "request_too_large"),
        (429, "rate_limit_error", "rate_limit_error"),
        (500, "server_error", "api_error"),
        (502, "server_error", "api_error"),
        (503, "service_unavailable_error", "overloaded_error"),
        (504, "timeout_error", "timeout_error"),
    ],
)
def test_types_by_status(status: int, openai: str, anthropic: str) -> None:
    error = ApiError(status, "why", "What.")
    assert json.loads(CHAT.error_body(error))["error"]["type"] == openai
    assert json.loads(MESSAGES.error_body(error))["error"]["type"] == anthropic


@pytest.mark.parametrize("operation", [CHAT, COMPLETIONS, RESPONSES, PASSTHROUGH])
def test_openai_body(operation: Operation) -> None:
    error = ApiError(400, "invalid_field", 'Say "when" é\n', param="messages[0].role")
    assert json.loads(operation.error_body(error)) == {
        "error": {
            "message": 'Say "when" é\n',
            "type": "invalid_request_error",
            "param": "messages[0].role",
            "code": "invalid_field",
        }
    }


def test_anthropic_body() -> None:
    assert json.loads(MESSAGES.error_body(ApiError(404, "unknown_model", "No m."))) == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "No m."},
    }


BROKEN = ApiError(502, "upstream_broken", "It broke.\n\ndata: nothing")


@pytest.mark.parametrize("operation", [CHAT, COMPLETIONS])
def test_openai_stream_ends_with_error_and_done(operation: Operation) -> None:
    error, done = events(operation.stream_error(BROKEN))
    assert (error[0], json.loads(error[1])) == (None, json.loads(operation.error_body(BROKEN)))
    assert done == (None, "[DONE]")


def test_responses_stream_ends_with_an_error_event() -> None:
    [(event, data)] = events(RESPONSES.stream_error(BROKEN))
    decoded: dict[str, Any] = json.loads(data)
    assert event == decoded.pop("type") == "error"
    assert decoded == {
        "code": "upstream_broken",
        "message": BROKEN.message,
        "param": None,
        "sequence_number": 0,
    }


def test_anthropic_stream_ends_with_an_error_event() -> None:
    [(event, data)] = events(MESSAGES.stream_error(BROKEN))
    assert event == "error"
    assert json.loads(data) == json.loads(MESSAGES.error_body(BROKEN))
