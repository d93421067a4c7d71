"""What the API server refuses, as exceptions that say what happened."""

from collections.abc import Mapping
from typing import Any

import msgspec


class KubernetesError(Exception):
    """Something went wrong at the API server or on the way to it."""


class UnreachableError(KubernetesError):
    """No answer: no connection, no TLS, or a time-out."""


class ApiError(KubernetesError):
    """The API server's own refusal: HTTP ``status``, its ``reason`` and ``message``.

    ``details`` are its Status object's; ``retry_after`` are seconds, None when it names none.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.details = details or {}
        self.retry_after = retry_after


class BadRequestError(ApiError):
    """400: the request makes no sense to the API server."""


class UnauthorizedError(ApiError):
    """401: it does not know who we are."""


class ForbiddenError(ApiError):
    """403: we may not do that."""


class NotFoundError(ApiError):
    """404: no such object; for a list, no such resource in this cluster."""


class ConflictError(ApiError):
    """409: somebody else wrote in between, or owns the fields that were applied."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that others own, after an apply."""
        causes = self.details.get("causes") or ()
        return tuple(cause.get("field", "") for cause in causes)


class AlreadyExistsError(ConflictError):
    """409: an object of that name is there."""


class GoneError(ApiError):
    """410: that resource version, or continue token, is too old; list anew."""


class InvalidError(ApiError):
    """422: the object breaks its kind's rules."""


class TooManyRequestsError(ApiError):
    """429: later, please."""


class ServerError(ApiError):
    """5xx: the API server is not well."""


_KINDS: dict[int, type[ApiError]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
    429: TooManyRequestsError,
}


def error_of(status: int, body: bytes, retry_after: str | None = None) -> ApiError:
    """The error that a response is; a body that is no Status is quoted as it is."""
    try:
        said = msgspec.json.decode(body)
    except msgspec.DecodeError:
        said = None
    if not isinstance(said, dict) or said.get("kind") != "Status":
        said = {"message": body[:200].decode("utf-8", "replace").strip()}
    return error_of_status({**said, "code": status}, retry_after)


def error_of_status(said: Mapping[str, Any], retry_after: str | None = None) -> ApiError:
    """The error that a ``Status`` object says, as responses and watch events hold it."""
    status = int(said.get("code") or 500)
    reason = said.get("reason") or ("Expired" if status == 410 else "Unknown")
    kind = _KINDS.get(status, ServerError if status >= 500 else ApiError)
    if reason == "AlreadyExists":
        kind = AlreadyExistsError
    details = said.get("details") or {}
    wait = retry_after if retry_after is not None else details.get("retryAfterSeconds")
    return kind(status, reason, said.get("message") or "no message", details, _seconds(wait))


def _seconds(value: str | float | None) -> float | None:
    try:
        return None if value is None else max(0.0, float(value))
    except ValueError:
        return None
