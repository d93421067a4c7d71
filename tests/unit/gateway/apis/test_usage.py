"""Reading token counts and errors from the last bytes of a response."""

import json
from typing import Any

import pytest

from gateway.apis.call import ApiError, Usage
from gateway.apis.catalogue import CHAT, MESSAGES, RESPONSES
from gateway.apis.usage import is_stream_error, usage_in


def sse(*events: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


DONE = b"data: [DONE]\n\n"
OPENAI = {"prompt_tokens": 12, "total_tokens": 15, "completion_tokens": 3}
CACHED = OPENAI | {"prompt_tokens_details": {"cached_tokens": 8}}
START = {"type": "message_start", "message": {"usage": {"input_tokens": 25, "output_tokens": 1}}}
DELTA = {"type": "message_delta", "usage": {"output_tokens": 15}}
TIMINGS = {"cache_n": 236, "prompt_n": 1, "prompt_ms": 30.9, "predicted_n": 35}


@pytest.mark.parametrize(
    ("tail", "usage"),
    [
        (json.dumps({"id": "x", "usage": OPENAI}).encode(), Usage(12, None, 3)),
        (json.dumps({"usage": CACHED, "kv_transfer_params": None}).encode(), Usage(12, 8, 3)),
        (json.dumps({"usage": CACHED}, indent=2).encode(), Usage(12, 8, 3)),
        (json.dumps({"usage": {"prompt_tokens": 5, "total_tokens": 5}}).encode(), Usage(5)),
        (
            json.dumps({"usage": OPENAI | {"prompt_tokens_details": None}}).encode(),
            Usage(12, None, 3),
        ),
        (
            sse({"choices": [1], "usage": None}, {"choices": [], "usage": CACHED}) + DONE,
            Usage(12, 8, 3),
        ),
        (sse({"usage": CACHED}, {"choices": [1], "usage": None}) + DONE, Usage(12, 8, 3)),
        (sse({"usage": OPENAI | {"completion_tokens": 1}}, {"usage": CACHED}), Usage(12, 8, 3)),
        (
            sse(
                {
                    "type": "response.completed",
                    "response": {
                        "usage": {
                            "input_tokens": 9,
                            "input_tokens_details": {"cached_tokens": 4},
                            "output_tokens": 2,
                            "output_tokens_details": {"reasoning_tokens": 1},
                        }
                    },
                }
            ),
            Usage(9, 4, 2),
        ),
        (sse(START, DELTA), Usage(25, None, 15)),
        (sse(DELTA), Usage(None, None, 15)),
        (
            json.dumps(
                {
                    "usage": {
                        "input_tokens": 5,
                        "cache_read_input_tokens": 100,
                        "cache_creation_input_tokens": 20,
                        "output_tokens": 7,
                    }
                }
            ).encode(),
            Usage(125, 100, 7),
        ),
        (json.dumps({"usage": OPENAI, "timings": TIMINGS}).encode(), Usage(12, 236, 3)),
        (json.dumps({"content": "x", "timings": TIMINGS}).encode(), Usage(237, 236, 35)),
        (json.dumps({"usage": CACHED, "timings": TIMINGS}).encode(), Usage(12, 8, 3)),
        (json.dumps({"usage": CACHED}).encode()[-100:], None),
        (b'"usage": {"prompt_tokens": 5', None),
        (b'"usage": {}', None),
        (b'"usage": {"prompt_tokens": -1, "completion_tokens": true}', None),
        (b'"usage": {"prompt_tokens": "5"}', None),
        (b'"usage": [1]', None),
        (b'{"a": "usage", "b": {"prompt_tokens": 5}}', None),
        (b'"usage": ' + b'{"a":' * 5000, None),
        (json.dumps({"text": 'the "usage": {"prompt_tokens": 1}'}).encode(), None),
        (DONE, None),
        (b"", None),
    ],
)
def test_usage(tail: bytes, usage: Usage | None) -> None:
    assert usage_in(tail) == usage


def test_usage_is_found_behind_a_cut() -> None:
    body = json.dumps({"text": 'a "quoted" \\ text ' * 50, "usage": CACHED}).encode()
    for cut in range(len(body) - 200):
        assert usage_in(body[cut:]) == Usage(12, 8, 3)


def test_operations_read_usage() -> None:
    tail = sse({"usage": CACHED})
    assert CHAT.usage(tail) == RESPONSES.usage(tail) == MESSAGES.usage(tail) == Usage(12, 8, 3)


ERROR = ApiError(502, "upstream_broken", "It broke.")


@pytest.mark.parametrize(
    "events",
    [
        CHAT.stream_error(ERROR),
        RESPONSES.stream_error(ERROR),
        MESSAGES.stream_error(ERROR),
        sse({"choices": []}) + CHAT.stream_error(ERROR),
        b'data:{"error":{"message":"no"}}\r\n\r\n',
        b'data: { "error" : "no" }\n\n',
        b'data: {"object":"error","message":"no"}\n\n',
        b'event: response.failed\ndata: {"type":"response.failed"}\n\n',
    ],
)
def test_errors_inside_a_stream_are_seen(events: bytes) -> None:
    assert is_stream_error(events)


@pytest.mark.parametrize(
    "events",
    [
        b"",
        DONE,
        sse({"choices": [{"delta": {"content": 'data: {"error": 1}\n\nevent: error\n'}}]}),
        sse({"error": None, "choices": []}),
        b'event: response.completed\ndata: {"response": {"error": null}}\n\n',
        b"event: errors\n\n",
    ],
)
def test_other_events_are_no_errors(events: bytes) -> None:
    assert not is_stream_error(events)
