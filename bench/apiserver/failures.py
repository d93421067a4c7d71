"""Refusals, as the API server words them."""

from typing import Any


class Failure(Exception):  # noqa: N818 - it is an answer like any other
    """A refusal: HTTP status, reason and message, as a ``Status`` object."""

    def __init__(
        self, code: int, reason: str, message: str, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details

    def status(self) -> dict[str, Any]:
        """The ``Status`` object."""
        said: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            said["details"] = self.details
        return said


def not_found(resource: str, name: str) -> Failure:
    """No such object."""
    return Failure(
        404, "NotFound", f'{resource} "{name}" not found', {"name": name, "kind": resource}
    )


def already_exists(resource: str, name: str) -> Failure:
    """An object of that name is there."""
    return Failure(409, "AlreadyExists", f'{resource} "{name}" already exists', {"name": name})


def conflict(resource: str, name: str, why: str) -> Failure:
    """A precondition does not hold."""
    message = f'Operation cannot be fulfilled on {resource} "{name}": {why}'
    return Failure(409, "Conflict", message, {"name": name, "kind": resource})


def expired(version: int, oldest: int) -> Failure:
    """That version is forgotten."""
    return Failure(410, "Expired", f"too old resource version: {version} ({oldest})")


def bad_request(why: str) -> Failure:
    """It makes no sense."""
    return Failure(400, "BadRequest", why)


def invalid(what: str, why: str) -> Failure:
    """The object breaks a rule."""
    return Failure(422, "Invalid", f"{what} is invalid: {why}")
