"""Refusals, as the API server words them."""

from typing import Any


class StatusError(Exception):
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


def not_found(resource: str, name: str) -> StatusError:
    """No such object."""
    return StatusError(
        404, "NotFound", f'{resource} "{name}" not found', {"name": name, "kind": resource}
    )


def already_exists(resource: str, name: str) -> StatusError:
    """An object of that name is there."""
    return StatusError(409, "AlreadyExists", f'{resource} "{name}" already exists', {"name": name})


def conflict(resource: str, name: str, why: str) -> StatusError:
    """A precondition does not hold."""
    message = f'Operation cannot be fulfilled on {resource} "{name}": {why}'
    return StatusError(409, "Conflict", message, {"name": name, "kind": resource})


def expired(version: int, oldest: int) -> StatusError:
    """That version is forgotten."""
    return StatusError(410, "Expired", f"too old resource version: {version} ({oldest})")


def bad_request(why: str) -> StatusError:
    """It makes no sense."""
    return StatusError(400, "BadRequest", why)


def invalid(what: str, why: str) -> StatusError:
    """The object breaks a rule."""
    return StatusError(422, "Invalid", f"{what} is invalid: {why}")
