"""What the bench's upstream servers say: everything prepared once, nothing computed per request."""

import msgspec

from bench.overhead.prompts import MODEL

_USAGE = {
    "prompt_tokens": 1024,
    "completion_tokens": 16,
    "total_tokens": 1040,
    "prompt_tokens_details": {"cached_tokens": 768},
}
_WORD = " token"


def response(content_type: str, body: bytes) -> bytes:
    """A complete 200 response."""
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\nserver: uvicorn\r\ncontent-length: %d\r\n\r\n"
        % (content_type.encode(), len(body))
    ) + body


def _json(value: object) -> bytes:
    return response("application/json", msgspec.json.encode(value))


UNARY_BODY = msgspec.json.encode(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": _WORD * 16},
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
    }
)
UNARY = response("application/json", UNARY_BODY)


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(**fields: object) -> bytes:
    common = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return b"data: " + msgspec.json.encode({**common, **fields}) + b"\n\n"


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nserver: uvicorn\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
STREAM_CHUNK = _chunked(
    _event(
        choices=[{"index": 0, "delta": {"content": _WORD}, "logprobs": None, "finish_reason": None}]
    )
)
STREAM_END = _chunked(_event(choices=[], usage=_USAGE) + b"data: [DONE]\n\n") + b"0\r\n\r\n"
CLOSING_EVENTS = 2
"""Events in `STREAM_END`: the usage, and the mark of the end."""

_INFO = {"model_path": MODEL, "served_model_name": MODEL, "is_generation": True, "tp_size": 1}
PAGES = {
    b"/health": response("text/plain", b""),
    b"/health_generate": response("text/plain", b""),
    b"/v1/models": _json(
        {
            "object": "list",
            "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "vllm"}],
        }
    ),
    b"/version": _json({"version": "0.12.0"}),
    **dict.fromkeys(
        (b"/get_model_info", b"/model_info", b"/get_server_info", b"/server_info"), _json(_INFO)
    ),
}
"""Pages by path that gateways ask before they accept a server."""


def metrics(running: int) -> bytes:
    """The page of metrics, with the requests that run now."""
    label = f'{{engine="0",model_name="{MODEL}"}}'
    cache = f'{{block_size="16",engine="0",num_gpu_blocks="65536",model_name="{MODEL}"}}'
    lines = (
        "# TYPE vllm:num_requests_running gauge",
        f"vllm:num_requests_running{label} {running}",
        "# TYPE vllm:num_requests_waiting gauge",
        f"vllm:num_requests_waiting{label} 0",
        "# TYPE vllm:kv_cache_usage_perc gauge",
        f"vllm:kv_cache_usage_perc{label} 0.1",
        "# TYPE vllm:cache_config_info gauge",
        f"vllm:cache_config_info{cache} 1",
    )
    return response("text/plain; version=0.0.4", ("\n".join(lines) + "\n").encode())


NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
