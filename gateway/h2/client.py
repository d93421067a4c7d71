"""The client's side of an HTTP/2 connection: the server's state machine, turned around.

Frames, windows, limits and both directions' flow control are those of `Connection`. What differs:
we speak first, streams are opened by us, field blocks are responses and trailers, our side of
a stream ends with an empty DATA frame, and a peer that leaves tells which streams it still takes.
"""

from collections.abc import Callable
from typing import Protocol

from hpack import Decoder
from hpack.exceptions import HPACKError

from gateway.h2 import frames as f
from gateway.h2.assembly import Encoded
from gateway.h2.connection import Connection, Phase
from gateway.h2.frames import ConnectionFaultError, ErrorCode, StreamFaultError
from gateway.h2.headers import Block, literal_block
from gateway.h2.limits import Limits
from gateway.h2.stream import AFTER_OUR_END, AFTER_PEER_END, Receiver, State, Stream

_NO_TABLE = b"\x20"  # a dynamic table size update: to 0


class ResponseReceiver(Receiver, Protocol):
    """Who a response is for."""

    def fields(self, fields: list[tuple[bytes, bytes]]) -> None:
        """A response's fields, or its trailers, which have no ``:status``."""


class NoStreamError(Exception):
    """No further stream can be opened on this connection."""


class ClientConnection(Connection):
    """One connection to a server; ``wake`` is called when something is to be sent."""

    def __init__(self, limits: Limits, wake: Callable[[], object]) -> None:
        super().__init__(limits, _pushed, wake)
        self._bytes.begun = True  # a server has no preface but its settings
        self.sender.emit(f.PREFACE + b"".join(self.sender.take()))
        self._next_id = 1
        self._most = limits.max_streams  # at a time, until the peer says fewer
        self._decoder = Decoder(limits.max_header_list)
        self._receivers: dict[int, ResponseReceiver] = {}
        self._held: set[int] = set()

    @property
    def free(self) -> bool:
        """Whether another stream can be opened now."""
        return self.phase is Phase.OPEN and len(self.streams) < self._most

    def open(self, fields: list[tuple[bytes, bytes]], receiver: ResponseReceiver) -> Stream:
        """Begin a request. Raises `NoStreamError` when that can't be; see `free`."""
        if not self.free:
            raise NoStreamError
        stream = Stream(self, self._next_id, self._peer_window, self._limits.stream_window)
        self._last_id = self._next_id
        self._next_id += 2
        stream.receiver = receiver
        stream.answered = True  # so that its reset counts as no flood
        self.streams[stream.id] = stream
        self._receivers[stream.id] = receiver
        block = literal_block(fields)
        if stream.id == 1:
            # We use no dynamic table. Said at once, no peer can miss it when it wants a smaller
            # one than the usual (RFC 7541 section 4.2).
            block = _NO_TABLE + block
        self.sender.block(stream.id, block, end=False)
        return stream

    def hold(self, stream: Stream) -> None:
        """Let the peer send no more on a stream than its window lets through already."""
        if stream.state is not State.CLOSED:
            self._held.add(stream.id)

    def release(self, stream: Stream) -> None:
        """Let it send again."""
        if stream.id in self._held:
            self._held.discard(stream.id)
            self._open_window(stream)

    def _open_window(self, stream: Stream) -> None:
        if stream.id not in self._held:
            super()._open_window(stream)

    def our_end(self, stream: Stream, block: bytes) -> None:
        """We have said everything: there are no trailers in requests of ours."""
        self.sender.emit(f.head(0, f.DATA, f.END_STREAM, stream.id))
        stream.state = AFTER_OUR_END[stream.state]
        if stream.state is State.CLOSED:
            self._gone(stream)

    def _block(self, encoded: Encoded | None) -> None:
        if encoded is None:
            return
        try:
            decoded = self._decoder.decode(encoded.block, raw=True)
            fields = [(name, value) for name, value in decoded]
        except (HPACKError, ValueError) as error:
            raise ConnectionFaultError(ErrorCode.COMPRESSION_ERROR, str(error)) from error
        stream = self.streams.get(encoded.stream_id)
        if stream is None:
            self._after_end(encoded.stream_id, "HEADERS")
            return
        if stream.state not in AFTER_PEER_END:
            raise StreamFaultError(stream.id, ErrorCode.STREAM_CLOSED, "HEADERS after END_STREAM")
        self._idle.earn()
        self._receivers[stream.id].fields(fields)
        if encoded.ends:
            self._peer_ended(stream)

    def _set(self, name: int, value: int) -> None:
        if name == f.MAX_CONCURRENT_STREAMS:
            self._most = min(value, self._limits.max_streams)
        super()._set(name, value)

    def _goaway(self, stream_id: int, payload: bytes) -> None:
        super()._goaway(stream_id, payload)
        last = f.unpack_long(payload)[0] & f.MAX_WINDOW
        for stream in [one for one in self.streams.values() if one.id > last]:
            self._gone(stream)
            stream.receiver.cut(ErrorCode.REFUSED_STREAM)

    def _gone(self, stream: Stream) -> None:
        self._receivers.pop(stream.id, None)
        self._held.discard(stream.id)
        super()._gone(stream)


def _pushed(_stream: Stream, _block: Block) -> Receiver:
    raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "a server opens no streams here")
