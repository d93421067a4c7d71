"""Every path a client may reach, and what answers it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import unquote

from gateway.apis.anthropic import read_messages
from gateway.apis.call import Api, ApiError, Call, Usage
from gateway.apis.chat import read_chat
from gateway.apis.completions import read_completion
from gateway.apis.errors import AnthropicDialect, Dialect, OpenAIDialect, ResponsesDialect
from gateway.apis.passthrough import read_passthrough
from gateway.apis.responses import read_response
from gateway.apis.sized import read_sized
from gateway.apis.usage import usage_in


@dataclass(frozen=True, slots=True)
class Operation:
    """One API operation (see `call.Api`): a reader of bodies and a dialect for errors."""

    name: str
    reader: Callable[[bytes], Call]
    dialect: Dialect

    def read(self, body: bytes) -> Call:
        """Look at a request body once; raise `ApiError` (400) for one that can't be served."""
        return self.reader(body)

    def error_body(self, error: ApiError) -> bytes:
        """The JSON body of an error response."""
        return self.dialect.error_body(error)

    def stream_error(self, error: ApiError) -> bytes:
        """The server-sent events that end an already started stream honestly."""
        return self.dialect.stream_error(error)

    def usage(self, tail: bytes) -> Usage | None:
        """Token counts from the last bytes of a response, or None when they hold none."""
        return usage_in(tail)


@dataclass(frozen=True, slots=True)
class Forward:
    """An endpoint answers: `api` reads the body."""

    api: Api


@dataclass(frozen=True, slots=True)
class AnswerModels:
    """The gateway answers with the list of models."""


@dataclass(frozen=True, slots=True)
class AnswerModel:
    """The gateway answers with one model."""

    id: str


Route: TypeAlias = Forward | AnswerModels | AnswerModel

_OPENAI: Final = OpenAIDialect()
_ANTHROPIC: Final = AnthropicDialect()

CHAT: Final = Operation("chat", read_chat, _OPENAI)
COMPLETIONS: Final = Operation("completions", read_completion, _OPENAI)
RESPONSES: Final = Operation("responses", read_response, ResponsesDialect())
EMBEDDINGS: Final = Operation("embeddings", read_sized, _OPENAI)
RERANK: Final = Operation("rerank", read_sized, _OPENAI)
SCORE: Final = Operation("score", read_sized, _OPENAI)
TOKENIZE: Final = Operation("tokenize", read_sized, _OPENAI)
DETOKENIZE: Final = Operation("detokenize", read_sized, _OPENAI)
MESSAGES: Final = Operation("messages", read_messages, _ANTHROPIC)
COUNT_TOKENS: Final = Operation("count_tokens", read_sized, _ANTHROPIC)
PASSTHROUGH: Final = Operation("passthrough", read_passthrough, _OPENAI)
PASSTHROUGH_MESSAGES: Final = Operation("passthrough", read_passthrough, _ANTHROPIC)

_POSTS: Final[dict[str, Operation]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETIONS,
    "/v1/responses": RESPONSES,
    "/v1/embeddings": EMBEDDINGS,
    "/v1/messages": MESSAGES,
    "/v1/messages/count_tokens": COUNT_TOKENS,
    "/v1/rerank": RERANK,
    "/v2/rerank": RERANK,
    "/rerank": RERANK,
    "/v1/score": SCORE,
    "/score": SCORE,
    "/v1/tokenize": TOKENIZE,
    "/tokenize": TOKENIZE,
    "/v1/detokenize": DETOKENIZE,
    "/detokenize": DETOKENIZE,
}

_MODELS: Final = "/v1/models"

_ROUTES: Final[dict[tuple[str, str], Route]] = {
    **{("POST", path): Forward(operation) for path, operation in _POSTS.items()},
    ("GET", _MODELS): AnswerModels(),
}

_FORWARD_OTHER: Final = Forward(PASSTHROUGH)
_FORWARD_OTHER_MESSAGES: Final = Forward(PASSTHROUGH_MESSAGES)
_PASSTHROUGH_METHODS: Final = frozenset({"DELETE", "GET", "PATCH", "POST", "PUT"})

_KEPT_FROM_CLIENTS: Final = frozenset(
    {"health", "invocations", "load_lora_adapter", "loads", "metrics", "unload_lora_adapter"}
)
"""What engines serve below ``/v1/`` for their operator and not for clients."""

_PLAIN_PATH: Final = re.compile(r"/v1(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~:@-]+)+")
"""A path below ``/v1/`` that an engine can read in one way only.

No empty or dot segments and nothing percent-encoded: an engine that normalises a path must
not find another one in it than was checked here.
"""


def resolve(method: str, path: str) -> Route:
    """Find what answers `method` on `path`, whose query string is already cut off.

    Raises:
        ApiError: 404 ``unknown_path`` for a path that is not served, or not for clients;
            405 ``wrong_method``, with the methods that are right in `allow`.

    """
    route = _ROUTES.get((method, path))
    return route if route is not None else _resolve_rare(method, path)


def error_dialect(path: str) -> Api:
    """Find the operation whose error shape suits `path`, for errors before one is resolved."""
    return PASSTHROUGH_MESSAGES if _is_messages(path) else PASSTHROUGH


def _resolve_rare(method: str, path: str) -> Route:
    """Resolve what is not worth a table: one model, any other path, and refusals."""
    if path in _POSTS:
        raise _wrong_method(method, path, "POST")
    if path == _MODELS:
        raise _wrong_method(method, path, "GET")
    if path.startswith(_MODELS + "/") and (name := unquote(path[len(_MODELS) + 1 :])):
        if method != "GET":
            raise _wrong_method(method, path, "GET")
        return AnswerModel(name)
    if not _PLAIN_PATH.fullmatch(path) or path.split("/", 3)[2] in _KEPT_FROM_CLIENTS:
        raise ApiError(404, "unknown_path", f"There is nothing at {path}.")
    if method not in _PASSTHROUGH_METHODS:
        raise _wrong_method(method, path, ", ".join(sorted(_PASSTHROUGH_METHODS)))
    return _FORWARD_OTHER_MESSAGES if _is_messages(path) else _FORWARD_OTHER


def _is_messages(path: str) -> bool:
    return path == "/v1/messages" or path.startswith("/v1/messages/")


def _wrong_method(method: str, path: str, allow: str) -> ApiError:
    message = f"{method} is not allowed on {path}: use {allow}."
    return ApiError(405, "wrong_method", message, allow=allow)
