"""The state machine of one HTTP/2 connection, on the server's side (RFC 9113). It does no I/O.

    connection.receive(data, now)     # frames come in; streams, and their receivers, are told
    connection.take()                 # what is to be sent, in order

    OPEN ──► DRAINING ──► CLOSED      any fault: GOAWAY, then CLOSED
                we or the peer said GOAWAY; streams that are open go on

Inside OPEN one thing can be under way: a field block that HEADERS began and CONTINUATIONs finish;
nothing else may come between (section 6.10).

Both windows of both directions are kept here and in `Stream`; ours are opened again when half of
them was used. What a peer may do is bounded by `Limits`.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

from gateway.h2 import frames as f
from gateway.h2.assembly import BlockAssembly, Encoded, FrameReader, unpadded
from gateway.h2.frames import ConnectionFaultError, ErrorCode, StreamFaultError
from gateway.h2.headers import Block, BlockReader
from gateway.h2.limits import Budget, Limits
from gateway.h2.sender import Sender
from gateway.h2.stream import AFTER_OUR_END, AFTER_PEER_END, Receiver, State, Stream
from gateway.h2.windows import ReceiveWindow

_DRAIN_PING: Final = b"draining"


class Phase(Enum):
    """Where a connection is in its life."""

    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


class Connection:
    """``opener`` is given each new stream with its fields, and says who receives its data.

    ``wake`` is called when something is to be sent outside of `receive`.
    """

    def __init__(
        self,
        limits: Limits,
        opener: Callable[[Stream, Block], Receiver],
        wake: Callable[[], object],
    ) -> None:
        self.phase = Phase.OPEN
        self.streams: dict[int, Stream] = {}
        """The streams that are open, by number."""
        self.fault: ConnectionFaultError | None = None
        """What ended the connection, when it was one of the peer's faults."""
        self._limits = limits
        self._opener = opener
        self.sender = Sender(wake)
        self._bytes = FrameReader(limits.max_frame, self._frame)
        self._blocks = BlockAssembly(limits)
        self._reader = BlockReader(limits.max_header_list)
        self._last_id = 0  # the highest number of any stream so far
        self._final_id = f.MAX_WINDOW  # streams above are not looked at
        self._settled_end = False  # both sides know which streams are the last ones
        self._cut: dict[int, None] = {}  # the latest that we ended first; their peers may not know
        self._window = ReceiveWindow(limits.connection_window)
        self._peer_window = f.DEFAULT_WINDOW  # of a new stream
        self._settled = False  # the peer acknowledged our settings
        self._idle = Budget(limits.idle_frames, limits.idle_rate, "frames without work")
        self._resets = Budget(limits.resets, limits.reset_rate, "streams opened and reset")
        self._now = 0.0
        self.sender.emit(
            f.settings(
                {
                    f.HEADER_TABLE_SIZE: 0,
                    f.ENABLE_PUSH: 0,
                    f.MAX_CONCURRENT_STREAMS: limits.max_streams,
                    f.INITIAL_WINDOW_SIZE: limits.stream_window,
                    f.MAX_FRAME_SIZE: limits.max_frame,
                    f.MAX_HEADER_LIST_SIZE: limits.max_header_list,
                }
            )
        )
        if limits.connection_window > f.DEFAULT_WINDOW:
            self.sender.emit(f.window_update(0, limits.connection_window - f.DEFAULT_WINDOW))

    # --- in ------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes as they come. A fault of the peer ends the connection; see `fault`."""
        if self.phase is Phase.CLOSED:
            return
        self._now = now
        self.sender.batching = True
        try:
            self._bytes.feed(data)
        except ConnectionFaultError as fault:
            self.fault = fault
            self.close(fault.code, fault.message)
        finally:
            self.sender.batching = False

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        under_way = self._blocks.stream_id
        if under_way and (kind != f.CONTINUATION or stream_id != under_way):
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "a field block was interrupted")
        try:
            if kind == f.DATA:
                self._data(flags, stream_id, payload)
            elif kind == f.HEADERS:
                self._block(self._blocks.headers(flags, stream_id, payload))
            elif kind == f.WINDOW_UPDATE:
                self._window_update(stream_id, payload)
            elif kind == f.CONTINUATION:
                self._block(self._blocks.continuation(flags, payload))
            elif kind == f.RST_STREAM:
                self._rst_stream(stream_id, payload)
            elif kind == f.SETTINGS:
                self._settings(flags, stream_id, payload)
            elif kind == f.PING:
                self._ping(flags, stream_id, payload)
            elif kind == f.GOAWAY:
                self._goaway(stream_id, payload)
            elif kind == f.PUSH_PROMISE:
                raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "a client can't push")
            else:
                self._idle.spend(self._now)  # PRIORITY, and what nobody knows yet, says nothing
                if kind == f.PRIORITY:
                    _check(stream_id != 0, "PRIORITY needs a stream")
                    if len(payload) != 5:
                        raise StreamFaultError(stream_id, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY")
        except StreamFaultError as fault:
            self._fail_stream(fault)

    def _data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        stream = self.streams.get(stream_id)
        self._count_received(stream, size)
        if flags & f.PADDED:
            payload = unpadded(payload)
        if not payload and not flags & f.END_STREAM:
            self._idle.spend(self._now)
        if stream is None:
            self._after_end(stream_id, "DATA")
            return
        if stream.state not in AFTER_PEER_END:
            raise StreamFaultError(stream_id, ErrorCode.STREAM_CLOSED, "DATA after END_STREAM")
        if payload:
            self._idle.earn()
            stream.receiver.data(payload)
        if flags & f.END_STREAM:
            self._peer_ended(stream)
        else:
            self._open_window(stream)

    def _count_received(self, stream: Stream | None, size: int) -> None:
        """Both windows shrink by what came, padding included (section 6.9.1)."""
        if not self._window.take(size):
            raise ConnectionFaultError(ErrorCode.FLOW_CONTROL_ERROR, "the window is shut")
        if opened := self._window.reopen():
            self.sender.emit(f.window_update(0, opened))
        if stream is not None and not stream.receive_window.take(size):
            raise StreamFaultError(stream.id, ErrorCode.FLOW_CONTROL_ERROR, "its window is shut")

    def _open_window(self, stream: Stream) -> None:
        """Let the peer send more on a stream, unless it reads too little itself."""
        if (
            stream.pending_bytes < self._limits.send_backlog
            and stream.state in AFTER_PEER_END
            and (opened := stream.receive_window.reopen())
        ):
            self.sender.emit(f.window_update(stream.id, opened))

    def _after_end(self, stream_id: int, what: str) -> None:
        """A frame for a stream that is not there: late for one that we ended, else a fault."""
        if stream_id in self._cut or stream_id > self._final_id:
            self._idle.spend(self._now)
            return
        _check(0 < stream_id <= self._last_id and stream_id & 1 == 1, f"{what} on an idle stream")
        raise ConnectionFaultError(ErrorCode.STREAM_CLOSED, f"{what} on a closed stream")

    def _block(self, encoded: Encoded | None) -> None:
        """A frame of a field block came; None: there are more to come."""
        if encoded is None:
            return
        stream_id, ends = encoded.stream_id, encoded.ends
        _check(stream_id & 1 == 1, "HEADERS need a client's stream")
        block = self._reader.read(encoded.block)  # always: its state depends on each of them
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._trailers(stream, block, ends=ends)
            return
        if stream_id <= self._last_id:
            self._after_end(stream_id, "HEADERS")
            return
        self._last_id = stream_id
        if stream_id > self._final_id:
            return  # it was told by GOAWAY
        if block.problem or block.trailing:
            raise StreamFaultError(
                stream_id, ErrorCode.PROTOCOL_ERROR, block.problem or "no request"
            )
        if len(self.streams) >= self._limits.max_streams:
            self._resets.spend(self._now)
            raise StreamFaultError(stream_id, ErrorCode.REFUSED_STREAM, "too many streams")
        stream = Stream(self, stream_id, self._peer_window, self._limits.stream_window)
        self.streams[stream_id] = stream
        stream.receiver = self._opener(stream, block)
        self._idle.earn()
        if ends:
            self._peer_ended(stream)

    def _trailers(self, stream: Stream, block: Block, *, ends: bool) -> None:
        if stream.state not in AFTER_PEER_END:
            raise StreamFaultError(stream.id, ErrorCode.STREAM_CLOSED, "HEADERS after END_STREAM")
        if not ends or not block.trailing or block.problem:
            raise StreamFaultError(stream.id, ErrorCode.PROTOCOL_ERROR, "these are no trailers")
        self._peer_ended(stream)

    def _peer_ended(self, stream: Stream) -> None:
        if stream.state is State.CLOSED:
            return  # the receiver ended it while it was told of the last data
        stream.state = AFTER_PEER_END[stream.state]
        stream.receiver.end()
        if stream.state is State.CLOSED:
            self._gone(stream)

    def _rst_stream(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM")
        _check(0 < stream_id <= self._last_id, "RST_STREAM on an idle stream")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._idle.spend(self._now)
            return
        if not stream.answered:  # one that was answered took its time, and may end like this
            self._resets.spend(self._now)
        self._gone(stream)
        code = f.unpack_long(payload)[0]
        known = ErrorCode(code) if code <= ErrorCode.HTTP_1_1_REQUIRED else ErrorCode.CANCEL
        stream.receiver.cut(known)

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        _check(stream_id == 0, "SETTINGS on a stream")
        if len(payload) % 6 or (flags & f.ACK and payload):
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS")
        if flags & f.ACK:
            if not self._settled:
                self._settled = True
                self._reader.forbid_table()
            return
        self._idle.spend(self._now)
        for name, value in f.iter_settings(payload):
            self._set(name, value)
        self.sender.emit(f.SETTINGS_ACK)
        self.sender.pump(self._open_window)

    def _set(self, name: int, value: int) -> None:
        if name == f.INITIAL_WINDOW_SIZE:
            if value > f.MAX_WINDOW:
                raise ConnectionFaultError(ErrorCode.FLOW_CONTROL_ERROR, "the window is too large")
            change = value - self._peer_window
            self._peer_window = value
            for stream in self.streams.values():  # section 6.9.2: also those that are open
                stream.send_window += change
                if stream.send_window > f.MAX_WINDOW:
                    raise ConnectionFaultError(ErrorCode.FLOW_CONTROL_ERROR, "a window overflows")
        elif name == f.MAX_FRAME_SIZE:
            _check(f.DEFAULT_FRAME_SIZE <= value < 1 << 24, "MAX_FRAME_SIZE")
            self.sender.frame_size = value
        elif name == f.ENABLE_PUSH:
            _check(value <= 1, "ENABLE_PUSH")

    def _ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        _check(stream_id == 0, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "PING")
        if not flags & f.ACK:
            self._idle.spend(self._now)
            self.sender.emit(f.ping_ack(payload))
        elif payload == _DRAIN_PING and self.phase is Phase.DRAINING:
            # Whatever the peer sent before it heard of our leaving has come by now.
            self._settled_end = True
            self._final_id = min(self._final_id, self._last_id)
            self.sender.emit(f.goaway(self._final_id, ErrorCode.NO_ERROR))

    def _goaway(self, stream_id: int, payload: bytes) -> None:
        _check(stream_id == 0, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY")
        self.phase = Phase.DRAINING
        self._settled_end = True

    def _window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE")
        increment = f.unpack_long(payload)[0] & f.MAX_WINDOW
        if stream_id == 0:
            _check(increment > 0, "WINDOW_UPDATE by nothing")
            self.sender.window += increment
            if self.sender.window > f.MAX_WINDOW:
                raise ConnectionFaultError(ErrorCode.FLOW_CONTROL_ERROR, "the window overflows")
            self.sender.pump(self._open_window)
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            _check(stream_id <= self._last_id, "WINDOW_UPDATE on an idle stream")
            return
        if increment == 0:
            raise StreamFaultError(stream_id, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
        stream.send_window += increment
        if stream.send_window > f.MAX_WINDOW:
            raise StreamFaultError(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "its window overflows")
        if self.sender.waits(stream):
            self.sender.pump(self._open_window)

    # --- out -----------------------------------------------------------------------------------

    def take(self) -> list[bytes | memoryview]:
        """What is to be sent, in order; it is the caller's from now on."""
        return self.sender.take()

    def pause(self) -> None:
        """The socket takes no more: what there is to send waits in its stream."""
        self.sender.full = True

    def resume(self) -> None:
        """The socket takes data again."""
        self.sender.full = False
        self.sender.pump(self._open_window)

    def our_end(self, stream: Stream, block: bytes) -> None:
        """Our last frame of a stream. A peer that goes on talking is told that nobody listens."""
        self.sender.block(stream.id, block, end=True)
        stream.state = AFTER_OUR_END[stream.state]
        if stream.state is State.HALF_CLOSED_LOCAL:
            self._cut_off(stream.id, ErrorCode.NO_ERROR)
        self._gone(stream)

    # --- ends ----------------------------------------------------------------------------------

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """End a stream from our side, at once."""
        self._cut_off(stream.id, code)
        self._gone(stream)

    def _fail_stream(self, fault: StreamFaultError) -> None:
        self._resets.spend(self._now)
        self._cut_off(fault.stream_id, fault.code)
        stream = self.streams.get(fault.stream_id)
        if stream is not None:
            self._gone(stream)
            stream.receiver.cut(fault.code)

    def _gone(self, stream: Stream) -> None:
        self.streams.pop(stream.id, None)
        self.sender.forget(stream)
        stream.drop()

    def _cut_off(self, stream_id: int, code: ErrorCode) -> None:
        """Tell the peer, and remember that it may not have heard of it yet."""
        self.sender.emit(f.rst_stream(stream_id, code))
        self._cut[stream_id] = None
        if len(self._cut) > self._limits.max_streams:
            del self._cut[next(iter(self._cut))]

    def drain(self) -> None:
        """Say that we leave; streams that are open go on, those on their way are still taken."""
        if self.phase is not Phase.OPEN:
            return
        self.phase = Phase.DRAINING
        self._settled_end = not self.begun
        self.sender.emit(f.goaway(f.MAX_WINDOW, ErrorCode.NO_ERROR))
        self.sender.emit(f.head(8, f.PING, 0, 0) + _DRAIN_PING)

    @property
    def begun(self) -> bool:
        """Whether the peer has shown that it speaks HTTP/2."""
        return self._bytes.begun

    @property
    def drained(self) -> bool:
        """Whether nothing is open, and nothing can come any more that we would look at."""
        if self.phase is Phase.DRAINING:
            return self._settled_end and not self.streams
        return self.phase is Phase.CLOSED

    def close(self, code: ErrorCode = ErrorCode.NO_ERROR, message: str = "") -> None:
        """Say why, if anything is to be said, and end every stream."""
        if self.phase is Phase.CLOSED:
            return
        self.sender.emit(f.goaway(self._last_id, code, message))
        self.lost()

    def lost(self) -> None:
        """The socket is gone: end every stream."""
        self.phase = Phase.CLOSED
        self._bytes.stop()
        streams = list(self.streams.values())
        self.streams.clear()
        for stream in streams:
            self.sender.forget(stream)
            stream.drop()
            stream.receiver.cut(ErrorCode.CANCEL)


def _check(kept: bool, rule: str) -> None:
    if not kept:
        raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, rule)
