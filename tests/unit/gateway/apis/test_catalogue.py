"""Which path leads where, and which leads nowhere."""

import pytest

from gateway.apis.call import ApiError
from gateway.apis.catalogue import (
    AnswerModel,
    AnswerModels,
    Forward,
    error_dialect,
    resolve,
)

ERROR = ApiError(404, "unknown_path", "No.")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "chat"),
        ("/v1/completions", "completions"),
        ("/v1/responses", "responses"),
        ("/v1/embeddings", "embeddings"),
        ("/v1/messages", "messages"),
        ("/v1/messages/count_tokens", "count_tokens"),
        ("/rerank", "rerank"),
        ("/v1/rerank", "rerank"),
        ("/v2/rerank", "rerank"),
        ("/score", "score"),
        ("/v1/score", "score"),
        ("/tokenize", "tokenize"),
        ("/v1/tokenize", "tokenize"),
        ("/detokenize", "detokenize"),
        ("/v1/detokenize", "detokenize"),
        ("/v1/audio/transcriptions", "passthrough"),
        ("/v1/responses/resp_1/cancel", "passthrough"),
        ("/v1/messages/batches", "passthrough"),
        ("/v1/anything", "passthrough"),
        ("/v1/files/file-a.b~c", "passthrough"),
    ],
)
def test_posts(path: str, name: str) -> None:
    route = resolve("POST", path)
    assert isinstance(route, Forward)
    assert route.api.name == name


def test_other_methods_pass_through() -> None:
    for method in ("GET", "DELETE", "PUT", "PATCH"):
        route = resolve(method, "/v1/responses/resp_1")
        assert isinstance(route, Forward)
        assert route.api.name == "passthrough"


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/models", AnswerModels()),
        ("/v1/models/m", AnswerModel("m")),
        ("/v1/models/meta/llama-3", AnswerModel("meta/llama-3")),
        ("/v1/models/meta%2Fllama-3", AnswerModel("meta/llama-3")),
    ],
)
def test_models(path: str, route: AnswerModels | AnswerModel) -> None:
    assert resolve("GET", path) == route


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "*",
        "/v1",
        "/v1/",
        "/v2/embed",
        "/metrics",
        "/health",
        "/invocations",
        "/sleep",
        "/inference/v1/generate",
        "/chat/completions",
        "/V1/chat/completions",
        "/v1/models/",
        "/v1/chat/completions/",
        "/v1/load_lora_adapter",
        "/v1/load_lora_adapter/",
        "/v1/load_lora_adapter/x",
        "/v1/unload_lora_adapter",
        "/v1/%6coad_lora_adapter",
        "/v1//load_lora_adapter",
        "//v1/load_lora_adapter",
        "/v1/./load_lora_adapter",
        "/v1/x/../load_lora_adapter",
        "/v1/../metrics",
        "/v1/..",
        "/v1/x/..",
        "/v1/..%2fmetrics",
        "/v1/x\\..\\metrics",
        "/v1/x;y",
        "/v1/x\n",
        "/v1/metrics",
        "http://127.0.0.1/v1/x",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_paths(method: str, path: str) -> None:
    with pytest.raises(ApiError) as caught:
        resolve(method, path)
    assert (caught.value.status, caught.value.reason) == (404, "unknown_path")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/tokenize", "POST"),
        ("POST", "/v1/models", "GET"),
        ("DELETE", "/v1/models/m", "GET"),
        ("TRACE", "/v1/other", "DELETE, GET, PATCH, POST, PUT"),
        ("CONNECT", "/v1/other", "DELETE, GET, PATCH, POST, PUT"),
    ],
)
def test_wrong_methods(method: str, path: str, allow: str) -> None:
    with pytest.raises(ApiError) as caught:
        resolve(method, path)
    error = caught.value
    assert (error.status, error.reason, error.allow) == (405, "wrong_method", allow)
    assert method in error.message
    assert allow in error.message


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/messages/x"])
def test_errors_on_anthropic_paths_look_like_anthropics(path: str) -> None:
    assert error_dialect(path).error_body(ERROR).startswith(b'{"type":"error"')


@pytest.mark.parametrize("path", ["/", "/v1/chat/completions", "/v1/messagesx", "nonsense"])
def test_errors_elsewhere_look_like_openais(path: str) -> None:
    assert error_dialect(path).error_body(ERROR).startswith(b'{"error":')
