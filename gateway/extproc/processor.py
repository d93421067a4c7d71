"""``envoy.service.ext_proc.v3.ExternalProcessor``: a session for each call."""

from typing import Final

from gateway.extproc.context import ProcessorContext
from gateway.extproc.session import Session
from gateway.extproc.wire import WireError
from gateway.rpc.call import Call, Conversation, Method
from gateway.rpc.status import Code, RpcError

SERVICE: Final = "envoy.service.ext_proc.v3.ExternalProcessor"


class Processor:
    """The service's methods."""

    def __init__(self, context: ProcessorContext) -> None:
        self._context = context

    def methods(self) -> dict[str, Method]:
        """By path."""
        return {f"/{SERVICE}/Process": self._process}

    def _process(self, call: Call) -> Conversation:
        return _Process(call, self._context)


class _Process:
    """One call: its messages are a session's, its end is the session's end."""

    __slots__ = ("_call", "_session")

    def __init__(self, call: Call, context: ProcessorContext) -> None:
        self._call = call
        self._session = Session(context, call.send, call.finish, call.fields)

    def message(self, message: bytes) -> None:
        """A processing request."""
        try:
            self._session.receive(message)
        except WireError as error:
            raise RpcError(Code.INVALID_ARGUMENT, str(error)) from error

    def end(self) -> None:
        """Envoy has said everything."""
        self._call.finish()

    def over(self) -> None:
        """The call ended, one way or the other."""
        self._session.over()
