"""Which operation a request is, where Envoy's routes and not our catalogue say what is served.

A path that the catalogue knows is what it says. Others are told by their end, as the reference
endpoint picker does (``/tenant-a/v1/chat/completions``), and whatever is left passes through.
"""

from typing import Final

from gateway.apis.call import Api, ApiError
from gateway.apis.catalogue import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MESSAGES,
    PASSTHROUGH,
    RESPONSES,
    AnswerModel,
    AnswerModels,
    Route,
    resolve,
)
from gateway.extproc.wire import Fields
from gateway.paths import BadTargetError, matchable_path

_ENDINGS: Final = (
    ("/chat/completions", CHAT),
    ("/completions", COMPLETIONS),
    ("/responses", RESPONSES),
    ("/messages", MESSAGES),
    ("/embeddings", EMBEDDINGS),
)
_TARGETS: Final = (b"x-original-path", b"x-forwarded-path", b":path")


def path_of(fields: Fields) -> str:
    """The request's path as its client wrote it; `ApiError` (400) for what no honest one sends."""
    target = next((fields[name] for name in _TARGETS if name in fields), b"/")
    try:
        return matchable_path(target)
    except BadTargetError as error:
        raise ApiError(400, "invalid_path", str(error)) from error


def operation_of(method: str, path: str) -> Api | AnswerModels | AnswerModel:
    """How to read the request, or that its answer is the fleet's models."""
    try:
        route: Route | None = resolve("GET" if method == "HEAD" else method, path)
    except ApiError:
        route = None
    if isinstance(route, AnswerModels | AnswerModel):
        return route
    if route is not None and route.api is not PASSTHROUGH:
        return route.api
    if method == "POST":
        for ending, operation in _ENDINGS:
            if path.endswith(ending):
                return operation
    return PASSTHROUGH if route is None else route.api
