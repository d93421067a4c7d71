"""gRPC's server reflection: which services there are and what their messages look like.

What tools such as grpcurl ask before they can call anything. Versions v1 and v1alpha have the
same messages.
"""

from collections.abc import Callable, Sequence

from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError

from gateway.rpc import schemas
from gateway.rpc.call import Call, Method
from gateway.rpc.status import Code, RpcError

_POOLS = (descriptor_pool.Default(), schemas.POOL)


class Reflection:
    """``services`` gives the full names of what the server has."""

    def __init__(self, services: Callable[[], Sequence[str]]) -> None:
        self._services = services

    def methods(self) -> dict[str, Method]:
        """By path."""
        return {
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo": self._converse
            for version in ("v1", "v1alpha")
        }

    def _converse(self, call: Call) -> "_Conversation":
        return _Conversation(call, self.answer)

    def answer(self, question: bytes) -> bytes:
        """One answer for one question; what is not there is an error inside of it."""
        try:
            asked = schemas.ReflectionRequest.FromString(question)
        except DecodeError as error:
            raise RpcError(Code.INVALID_ARGUMENT, str(error)) from error
        answer = schemas.ReflectionResponse(valid_host=asked.host, original_request=asked)
        kind = asked.WhichOneof("message_request")
        try:
            if kind == "list_services":
                for name in self._services():
                    answer.list_services_response.service.add(name=name)
            elif kind == "file_by_filename":
                name = asked.file_by_filename
                answer.file_descriptor_response.file_descriptor_proto.append(
                    _find("FindFileByName", name)
                )
            elif kind == "file_containing_symbol":
                answer.file_descriptor_response.file_descriptor_proto.append(
                    _find("FindFileContainingSymbol", asked.file_containing_symbol)
                )
            else:
                answer.error_response.error_code = Code.UNIMPLEMENTED
                answer.error_response.error_message = "extensions are not told"
        except KeyError as error:
            answer.error_response.error_code = Code.NOT_FOUND
            answer.error_response.error_message = str(error)
        encoded: bytes = answer.SerializeToString()
        return encoded


def _find(how: str, name: str) -> bytes:
    """The descriptor of a file, from whichever pool has it; KeyError when none has."""
    for pool in _POOLS:
        try:
            found: bytes = getattr(pool, how)(name).serialized_pb
        except KeyError:
            continue
        return found
    raise KeyError(name)


class _Conversation:
    """Questions, each answered as it comes."""

    def __init__(self, call: Call, answer: Callable[[bytes], bytes]) -> None:
        self._call = call
        self._answer = answer

    def message(self, message: bytes) -> None:
        """A question."""
        self._call.send(self._answer(message))

    def end(self) -> None:
        """There are no more."""
        self._call.finish()

    def over(self) -> None:
        """Nothing is kept."""
