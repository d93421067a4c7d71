"""gRPC's health protocol: whether each of a server's services can be used now.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md. `Check` and `List`; there is no
`Watch`, which clients must be ready for.
"""

from collections.abc import Callable, Mapping

from google.protobuf.message import DecodeError

from gateway.rpc import schemas
from gateway.rpc.call import Method, unary
from gateway.rpc.status import Code, RpcError

_SERVING = 1
_NOT_SERVING = 2


class Health:
    """``services``: name -> whether it serves; the empty name is the server as a whole."""

    def __init__(self, services: Mapping[str, Callable[[], bool]]) -> None:
        self._services = services

    def methods(self) -> dict[str, Method]:
        """By path."""
        return {
            "/grpc.health.v1.Health/Check": unary(self.check),
            "/grpc.health.v1.Health/List": unary(self.list),
        }

    def check(self, question: bytes) -> bytes:
        """Whether one service serves; `RpcError` NOT_FOUND for one that is not known."""
        try:
            name = schemas.HealthCheckRequest.FromString(question).service
        except DecodeError as error:
            raise RpcError(Code.INVALID_ARGUMENT, str(error)) from error
        serves = self._services.get(name)
        if serves is None:
            raise RpcError(Code.NOT_FOUND, f"there is no service {name!r}")
        return _encoded(schemas.HealthCheckResponse(status=_status(serves)))

    def list(self, _question: bytes) -> bytes:
        """All services and whether they serve."""
        answer = schemas.HealthListResponse()
        for name, serves in self._services.items():
            answer.statuses[name].status = _status(serves)
        return _encoded(answer)


def _status(serves: Callable[[], bool]) -> int:
    return _SERVING if serves() else _NOT_SERVING


def _encoded(message: object) -> bytes:
    encoded: bytes = message.SerializeToString()  # type: ignore[attr-defined]
    return encoded
