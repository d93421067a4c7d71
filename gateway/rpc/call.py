"""One call: a stream, seen as messages. `Services` says which method answers which path."""

import logging
from collections.abc import Callable, Mapping
from typing import Final, Protocol, TypeAlias

from gateway.h2.frames import ErrorCode
from gateway.h2.headers import Block
from gateway.h2.stream import Receiver, Stream
from gateway.rpc.messages import Deframer, framed
from gateway.rpc.status import NO_GRPC_BLOCK, RESPONSE_BLOCK, Code, RpcError, end_block

_log = logging.getLogger("inferway.extproc")
_NO_FIELDS: Final[Mapping[bytes, bytes]] = {}


class Conversation(Protocol):
    """Who answers one call. After `over` nothing is called any more, and nothing can be sent."""

    def message(self, message: bytes) -> None:
        """A message came. `RpcError` ends the call with its code."""

    def end(self) -> None:
        """The peer sends nothing more; the answer may go on. `RpcError` as above."""

    def over(self) -> None:
        """The call is over, however it came to its end. Called exactly once."""


class Room:
    """Bytes of unfinished messages, of all calls of a server together: ``used`` of ``size``."""

    __slots__ = ("size", "used")

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0


class Call:
    """What a conversation does to its call."""

    __slots__ = (
        "_begun",
        "_conversation",
        "_deframer",
        "_held",
        "_over",
        "_room",
        "_stream",
        "fields",
    )

    def __init__(
        self,
        stream: Stream,
        longest_message: int,
        room: Room,
        fields: Mapping[bytes, bytes] = _NO_FIELDS,
    ) -> None:
        self.fields: Final = fields
        """What the peer said when it began the call; of several with one name the last."""
        self._stream = stream
        self._room = room
        self._held = 0  # of the room
        self._deframer = Deframer(longest_message)
        self._begun = False
        self._over = False
        self._conversation: Conversation

    def begin(self, method: "Method") -> None:
        """Give the call to a method."""
        self._conversation = method(self)

    def send(self, message: bytes) -> None:
        """Send one message."""
        self.send_framed(framed(message))

    def send_framed(self, data: bytes) -> None:
        """Send one or more messages that have their prefixes already."""
        if self._over:
            return
        if not self._begun:
            self._begun = True
            self._stream.send_headers(RESPONSE_BLOCK)
        self._stream.send_data(data)

    def finish(self, code: Code = Code.OK, message: str = "") -> None:
        """End the call; what was sent before goes out before."""
        if self._over:
            return
        if code is Code.OK and not self._begun:
            self._begun = True
            self._stream.send_headers(RESPONSE_BLOCK)
        self._stream.send_end(end_block(code, message, begun=self._begun))
        self._ended()

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be sent."""
        return self._over

    def _ended(self) -> None:
        if not self._over:
            self._over = True
            self._hold(0)
            self._conversation.over()

    def _hold(self, size: int) -> None:
        """Take as much room as this."""
        self._room.used += size - self._held
        self._held = size

    # --- what the stream tells ---------------------------------------------------------------

    def data(self, data: bytes) -> None:
        """Bytes of messages."""
        if self._over:
            return
        try:
            for message in self._deframer.feed(data):
                self._conversation.message(message)
                if self.is_over:
                    return
            self._hold(self._deframer.held)
            if self._room.used > self._room.size:
                raise RpcError(Code.RESOURCE_EXHAUSTED, "too many messages are unfinished")
        except RpcError as error:
            self.finish(error.code, error.message)
        except Exception:  # a defect of one conversation must not end those beside it
            _log.exception("a call failed by a defect")
            self.finish(Code.INTERNAL, "a defect")

    def end(self) -> None:
        """The peer has said everything."""
        if self._over:
            return
        try:
            if not self._deframer.whole:
                raise RpcError(Code.INTERNAL, "the last message is cut off")
            self._conversation.end()
        except RpcError as error:
            self.finish(error.code, error.message)

    def cut(self, code: ErrorCode) -> None:
        """The peer cancelled, or the connection is gone."""
        del code
        self._ended()


Method: TypeAlias = Callable[[Call], Conversation]
"""Begins to answer a call."""


class Unary:
    """The conversation of a method with one question and one answer."""

    def __init__(self, call: Call, answer: Callable[[bytes], bytes]) -> None:
        self._call = call
        self._answer = answer
        self._question: bytes | None = None

    def message(self, message: bytes) -> None:
        """The question."""
        if self._question is not None:
            raise RpcError(Code.INVALID_ARGUMENT, "one message is enough")
        self._question = message

    def end(self) -> None:
        """The question is complete: answer."""
        if self._question is None:
            raise RpcError(Code.INVALID_ARGUMENT, "there is no message")
        self._call.send(self._answer(self._question))
        self._call.finish()

    def over(self) -> None:
        """Nothing is kept."""


def unary(answer: Callable[[bytes], bytes]) -> Method:
    """A method with one question and one answer; the function may raise `RpcError`."""
    return lambda call: Unary(call, answer)


class _Nobody:
    """Receives what comes on a stream that was refused already."""

    def data(self, data: bytes) -> None:
        """Nobody listens."""

    def end(self) -> None:
        """Nobody listens."""

    def cut(self, code: ErrorCode) -> None:
        """Nobody listens."""


_NOBODY = _Nobody()


class Services:
    """The methods of a server by their paths, ``/package.Service/Method``.

    ``longest_message``: bytes that a message may have; ``room``: that all unfinished ones may.
    """

    def __init__(
        self, methods: Mapping[str, Method], longest_message: int, room: int = 1 << 30
    ) -> None:
        self._methods = {path.encode(): method for path, method in methods.items()}
        self._longest_message = longest_message
        self.room = Room(room)

    @property
    def names(self) -> list[str]:
        """The full names of the services."""
        return sorted({path.decode().split("/")[1] for path in self._methods})

    def open(self, stream: Stream, block: Block) -> Receiver:
        """Begin a call on a new stream."""
        if not block.fields.get(b"content-type", b"").startswith(b"application/grpc"):
            stream.send_end(NO_GRPC_BLOCK)
            return _NOBODY
        method = self._methods.get(block.path)
        if method is None or block.fields[b":method"] != b"POST":
            path = block.path.decode(errors="replace")
            stream.send_end(
                end_block(Code.UNIMPLEMENTED, f"there is no method {path}", begun=False)
            )
            return _NOBODY
        call = Call(stream, self._longest_message, self.room, block.fields)
        call.begin(method)
        return call
